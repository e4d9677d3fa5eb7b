"""Errors that are no one's input, signals to a launched command, and a disk that is full."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from pd_trl.cli.failures import describe
from pd_trl.cli.main import COMMANDS
from pd_trl.cli.processes import StageEnded, run_forwarding
from pd_trl.errors import InputError
from pd_trl.runs.artifacts import Manifest, read_rows, write_rows
from tests.processes import ROOT
from tests.tiny import tiny_preferences


@pytest.mark.parametrize(
    "error",
    [
        KeyError("weights"),
        TypeError("'int' and 'NoneType'"),
        ValueError("x"),
        ImportError("y"),
        BrokenPipeError(32, "z"),
    ],
)
def test_an_unexpected_error_exits_1_and_keeps_its_traceback(command, monkeypatch, tmp_path, error):
    def fail(name, arguments):
        raise error

    monkeypatch.setitem(COMMANDS, "select", (fail, "select"))
    for arguments in ([], ["--output_dir", str(tmp_path / "out")], [f"--output-dir={tmp_path / 'out'}"]):
        outcome = command("select", *arguments)
        assert outcome.code == 1 and "Traceback" not in outcome.err
        log = Path(outcome.err.strip().rsplit(" in ", 1)[1])
        assert "Traceback" in log.read_text() and type(error).__name__ in log.read_text()
        assert log.stat().st_mode & 0o077 == 0
    assert log == tmp_path / "out" / "error.log" and log.read_text().count("Traceback") == 2, "none is lost"


def test_a_fault_in_a_stage_is_logged_in_its_folder_which_stays_usable(command, sources, monkeypatch, tmp_path):
    def broken(*arguments, **settings):
        raise RuntimeError("a fault of ours")

    arguments = ["select", "--dataset_name", sources["scored"], "--output_dir", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr("pd_trl.selection.out_of_core.passes.Selection.decide", broken)
        outcome = command(*arguments)
    assert outcome.code == 1 and str(tmp_path / "out" / "error.log") in outcome.err
    assert "a fault of ours" in (tmp_path / "out" / "error.log").read_text()
    assert command(*arguments).code == 0


of_peft = type("NoMatchingPeftModuleError", (ValueError,), {"__module__": "peft.utils.error"})


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("say"), 2, "say"),
        (OSError(28, "No space left on device", "/x"), 2, "No space left"),
        (PermissionError(13, "Permission denied", "/x"), 2, "Permission denied: /x"),
        (MemoryError(), 2, "Out of memory"),
        (StageEnded("ended by SIGTERM.", 143), 143, "SIGTERM"),
        (of_peft("No modules were targeted"), 2, "lora_target_modules"),
        (FileNotFoundError(2, "No such file", "/x"), 1, "traceback"),
        (OSError("something of a library"), 1, "traceback"),
    ],
)
def test_only_what_a_user_can_mend_is_one_line(error, code, words):
    line, found = describe(error)
    assert found == code and words in line and "\n" not in line


def test_a_cache_that_cannot_be_written_is_no_output_folder(monkeypatch, tmp_path):
    """As where HOME is another's: the folder that is refused lies above the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home" / ".cache" / "huggingface"))
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "home"))
    error.output_dir = str(tmp_path / "out")
    assert "HF_HOME" in describe(error)[0] and describe(error)[1] == 2
    error.output_dir = str(tmp_path / "home" / "out")
    assert "HF_HOME" not in describe(error)[0] and "choose another folder" in describe(error)[0]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's")
def test_a_folder_where_none_can_be_made_is_refused(command, sources):
    """`/proc` says that it does not exist, as it says of an input's file that is gone."""
    command("select", "--dataset_name", sources["scored"], "--output_dir", "/proc/none/out").refused(
        "choose another folder"
    )
    error = FileNotFoundError(errno.ENOENT, "No such file", "/data/pairs.jsonl")
    error.output_dir = "/data/out"
    assert describe(error)[1] == 1


def test_arguments_that_trl_refuses_are_the_users(command, sources, tiny_models, tmp_path):
    places = ["--dataset_name", sources["scored"], "--model_name_or_path", tiny_models["causal"]]
    outcome = command(
        "dpo", *places, "--output_dir", tmp_path / "o", "--load_best_model_at_end", "--eval_strategy", "no"
    )
    outcome.refused("load_best_model_at_end")


# A launcher that ends at once and leaves a worker with a child; the worker ignores what it is told, or does not.
LAUNCHER = """
    import os, signal, subprocess, sys, time
    child = "import time; open(sys.argv[1] + '/' + str(__import__('os').getpid()), 'w'); time.sleep(60)"
    worker = (
        "import signal, subprocess, sys, time\\n"
        "if sys.argv[2] == 'deaf': signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import sys; ' + {child!r}, sys.argv[1]])\\n"
        "open(sys.argv[1] + '/' + str(__import__('os').getpid()), 'w')\\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", worker, *sys.argv[1:]], start_new_session=True)
    open(sys.argv[1] + "/" + str(os.getpid()), "w")
    process.wait()
"""
PARENT = """
    import sys
    import pd_trl.cli.processes as processes
    processes.PATIENCE = 1.0
    try:
        processes.run_forwarding([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], {**__import__("os").environ, "MARK": sys.argv[2]}, "MARK")
    except processes.StageEnded as error:
        sys.exit(error.code)
"""


@pytest.mark.parametrize(("number", "kind"), [("SIGTERM", "-"), ("SIGINT", "-"), ("SIGHUP", "-"), ("SIGTERM", "deaf")])
def test_a_signal_reaches_launcher_and_workers_and_nothing_stays(tmp_path, number, kind):
    command = [sys.executable, "-c", textwrap.dedent(PARENT), textwrap.dedent(LAUNCHER), str(tmp_path), kind]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(getattr(signal, number))
    assert process.wait(60) == 128 + getattr(signal, number)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 3
    alive = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
    assert not alive


def test_what_a_failed_launcher_leaves_is_ended(tmp_path):
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "open(sys.argv[1] + '/pid', 'w').write(str(child.pid))\nsys.exit(3)"
    )
    environment = {**os.environ, "MARK": str(tmp_path)}
    assert run_forwarding([sys.executable, "-c", script, str(tmp_path)], environment, "MARK") == 3
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_full_disk_of_the_cache_is_not_a_damaged_file(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", cache]).returncode:
        pytest.skip("needs the right to mount")
    try:
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        rows = tiny_preferences(3000)
        write_rows(rows, tmp_path / "r" / "preferences")
        Manifest("prepare").save(tmp_path / "r")
        rows.to_json(tmp_path / "rows.jsonl")
        from pd_trl.data import load_source

        for read in (
            lambda: read_rows(tmp_path / "r" / "preferences"),
            lambda: load_source(str(tmp_path / "rows.jsonl")),
        ):
            with pytest.raises(OSError, match="No space left|space") as caught:
                read()
            assert not isinstance(caught.value, InputError)
    finally:
        subprocess.run(["umount", "--lazy", cache], check=True)


def test_a_launched_stage_of_a_recipe_leaves_no_file_of_arguments(command, monkeypatch, tmp_path):
    from pd_trl.cli import run as module
    from pd_trl.pipeline.recipe import Step

    seen = []

    def launch(stage, launch_args, arguments):
        seen.append(Path(arguments[1]))
        assert "secret" in seen[0].read_text()
        return 7

    monkeypatch.setattr(module, "launch", launch)
    step = Step("dpo", "dpo", {"output_dir": str(tmp_path / "dpo"), "run_name": "secret"})
    with pytest.raises(StageEnded) as caught:
        module.run_step(step, ["--num_processes", "2"], overwrite=False)
    assert caught.value.code == 7 and not seen[0].exists() and not list(tmp_path.iterdir())
