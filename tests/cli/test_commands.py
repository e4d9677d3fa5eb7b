"""The commands: help, recipes, running twice, into other folders, interrupted and in several processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from pd_trl.runs.artifacts import Manifest, read_rows
from tests.cli.conftest import make_pairs, make_scored
from tests.processes import ROOT, run
from tests.tiny import ASPECTS

PD_TRL = [sys.executable, "-m", "pd_trl"]
STAGES = ("prepare", "reward", "score", "select", "dpo")
FAST = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--save_strategy", "no"]


@pytest.fixture
def recipe(sources, tiny_models, tmp_path) -> Path:
    """A whole pipeline, small."""
    training = {"max_steps": 1, "per_device_train_batch_size": 4, "save_strategy": "no"}
    content = {
        "output_dir": str(tmp_path / "out"), "dataset_name": str(sources["pairs"]), "model_name_or_path": tiny_models["causal"],
        "prepare": {"aspects": list(ASPECTS[:2])}, "reward": {"heldout": 0.4, **training}, "score": {}, "select": {"budget": 0.5}, "dpo": training,
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(content))  # json is YAML too
    return path


@pytest.mark.parametrize("stage", [*STAGES, "run"])
def test_help_lists_every_argument_with_its_meaning(command, stage):
    outcome = command(stage, "--help")
    assert outcome.code == 0
    for flag in ("--output_dir", "--seed", "--config") if stage != "score" else ("--output_dir", "--reward_models"):
        assert flag in outcome.out
    assert "--dry_run" in outcome.out and "--overwrite" in outcome.out
    said = " ".join(outcome.out.split())
    for name in re.findall(r"--no_(\w+), ", said):
        assert f"Turns --{name} off, as `--{name} false` does. --" in said or said.endswith(f"`--{name} false` does.")


def test_a_recipe_runs_skips_what_is_done_and_does_it_again_when_told(command, recipe, tmp_path):
    dry = command("run", "--config", recipe, "--dry_run")
    assert dry.code == 0 and sorted(p.name for p in tmp_path.iterdir()) == ["recipe.yaml"]
    first = command("run", "--config", recipe)
    assert first.code == 0, first.err
    written = {stage: Manifest.load(tmp_path / "out" / stage).created for stage in STAGES}
    again = command("run", "--config", recipe)
    assert again.code == 0 and again.out.count("already done") == len(STAGES)
    assert written == {stage: Manifest.load(tmp_path / "out" / stage).created for stage in STAGES}
    changed = ["run", "--config", recipe, "--reward.max_steps", 2, "--budget", 10]
    command(*changed).refused("another run", "--overwrite")
    assert command("run", "--config", recipe).out.count("already done") == len(STAGES)
    replaced = command(*changed, "--overwrite")
    assert replaced.code == 0, replaced.err
    counts = Manifest.load(tmp_path / "out" / "select").counts
    assert counts["kept"] == 10 and counts["dropped"] == counts["total"] - 10


@pytest.mark.parametrize(
    ("modules", "shown"),
    [(["q_proj", "v_proj"], "['q_proj', 'v_proj']"), (["q_proj"], "['q_proj']")],
)
def test_a_list_is_given_to_a_stage_as_to_its_own_command(command, recipe, tmp_path, modules, shown):
    outcome = command(
        "run", "--config", recipe, "--dpo.use_peft", "true", "--dpo.lora_target_modules", *modules, "--dry_run", "true"
    )
    assert outcome.code == 0, outcome.err
    assert f"lora_target_modules={shown}" in outcome.out and not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [["--dpo.run_name=-foo"], ["--dpo.run_name=--foo"], ["--dpo.beta", "-1"]])
def test_a_value_may_begin_with_a_dash(command, recipe, value):
    outcome = command("run", "--config", recipe, *value, "--dry_run", "--stages", "dpo")
    assert outcome.code == 0 and value[-1].split("=")[-1] in outcome.out, outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("heldout", [0.0, 0.04])
def test_a_recipe_runs_with_few_or_no_held_out_prompts(command, recipe, heldout):
    outcome = command(
        "run", "--config", recipe, "--reward.heldout", heldout, "--stages", "prepare,reward,score,select"
    )
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1,\nb: {", "not valid YAML"), ("- a\n- b", "must hold a mapping"), ("words", "mapping"), ("", "mapping"),
        ("{rewrad: {}}", "Did you mean 'reward'"), ("{select: {buget: 1}}", "Did you mean 'budget'"), ("{score: hi}", "mapping"),
        ("{reward: {max_steps: many}}", "max_steps"), ("{reward: {max_steps: [1]}}", "max_steps"), ("{3: 4}", "'3'"),
        ("{reward: {max_steps: 1.5}}", "max_steps"), ("{score: {on_long: x}}", "on_long"), ("{select: {gamma: 2}}", "gamma"),
        ("{prepare: {aspects: honesty}}", "aspects"), ("{prepare: {labels: two}}", "labels"), ("{budget: 1.5}", "budget"),
        ("{prepare: {column_mapping: [3]}}", "column_mapping"), ("{prepare: {dataset_name: 3}}", "dataset_name"),
        ("{select: {weights: [1]}}", "weights"), ("{seed: x}", "seed"), ("{output_dir: [1]}", "output_dir"),
        ("{compare: [zzz]}", "compare"), ("{compare: [[all]]}", "compare"), ("{env: [1]}", "env"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_refused_before_anything_runs(command, recipe, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    if text.startswith("{"):
        import yaml

        good = json.loads(recipe.read_text())
        for key, value in yaml.safe_load(text).items():
            good[key] = {**good[key], **value} if isinstance(value, dict) and key in good else value
        path.write_text(yaml.safe_dump(good))
    outcome = command("run", "--config", path)
    outcome.refused(words)
    assert "usage:" not in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--config", "quickstrat"], "Did you mean 'quickstart'"), (["--config", "/nowhere.yaml"], "/nowhere.yaml"), ([], "--config"),
     (["--config"], "--config"), (["--config", "RECIPE", "--stages", "foo"], "no stage 'foo'"),
     (["--config", "RECIPE", "--reward.lr", "1"], "'lr'"), (["--config", "RECIPE", "--foo", "1"], "'--foo'"),
     (["--config", "RECIPE", "--budget", "1.5"], "budget"), (["--config", "RECIPE", "--reward.max_steps"], "needs a value"),
     (["--config", "RECIPE", "--reward.max_steps", "--budget", "0.3"], "--reward.max_steps needs a value"),
     (["--config", "RECIPE", "--reward.max_steps", "1", "2"], "`max_steps` must be a single value"),
     (["--config", "RECIPE", "--dry_run", "perhaps"], "'perhaps'"),
     (["--config", "BINARY"], "binary.yaml"), (["--config", "RECIPE", "--stages", ""], "stages")],
)  # fmt: skip
def test_bad_arguments_of_run_are_refused(command, recipe, tmp_path, arguments, words):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(256)))
    places = {"RECIPE": str(recipe), "BINARY": str(binary)}
    command("run", *[places.get(a, a) for a in arguments]).refused(words)
    assert not (tmp_path / "out").exists()


def test_a_recipe_without_stages_is_refused(command, tmp_path):
    (tmp_path / "r.yaml").write_text(f"output_dir: {tmp_path}/out")
    command("run", "--config", tmp_path / "r.yaml").refused("stage")


def test_arguments_override_the_file_which_overrides_the_defaults(command, sources, tmp_path):
    (tmp_path / "c.yaml").write_text(f"budget: 0.2\ndataset_name: {sources['scored']}\n")
    for name, arguments, kept in (("a", [], 6), ("b", ["--budget", "0.5"], 15), ("c", ["--budget", "10"], 10)):
        outcome = command("select", "--config", tmp_path / "c.yaml", "--output_dir", tmp_path / name, *arguments)
        assert outcome.code == 0, outcome.err
        assert len(read_rows(tmp_path / name / "selected")) == kept


def test_paths_with_spaces_and_other_letters(command, write, tmp_path):
    folder = tmp_path / "a b ünï 'q'"
    folder.mkdir()
    data = write(make_scored()).rename(folder / "dä ta.jsonl")
    assert command("select", "--dataset_name", data, "--output_dir", folder / "o ut").code == 0
    assert len(read_rows(folder / "o ut" / "selected")) == 9


@pytest.mark.parametrize("stage", ["prepare", "select"])
def test_a_folder_or_file_of_the_user_is_never_replaced(command, write, tmp_path, stage):
    data = write(make_pairs() if stage == "prepare" else make_scored())
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    shutil.copy(data, home / "data.jsonl")
    for place in (home, tmp_path / "file", data):
        command(stage, "--dataset_name", data, "--output_dir", place).refused(str(place))
    assert (home / "letter.txt").read_text() == (tmp_path / "file").read_text() == "dear"
    assert (home / "data.jsonl").read_bytes() == data.read_bytes()


def test_an_input_folder_is_not_an_output_folder(command, sources, tmp_path):
    prepared = tmp_path / "prepared"
    assert command("prepare", "--dataset_name", sources["pairs"], "--output_dir", prepared).code == 0
    places = ["--dataset_name", prepared, "--output_dir", prepared]
    command("select", *places, "--source", "ratings", "--overwrite").refused(str(prepared))
    assert len(read_rows(prepared / "preferences")) == Manifest.load(prepared).counts["rows"]


def test_a_model_is_not_replaced_by_the_one_trained_from_it(command, sources, tiny_models, tmp_path):
    model = shutil.copytree(tiny_models["causal"], tmp_path / "model")
    before = (model / "model.safetensors").read_bytes()
    places = ["--dataset_name", sources["scored"], "--model_name_or_path", model, "--output_dir", model]
    command("dpo", *places, *FAST, "--learning_rate", "0.1").refused(str(model))
    assert (model / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_overwrite_replaces_a_run_with_its_checkpoints(command, sources, tiny_models, tmp_path, stage):
    places = [
        "--dataset_name",
        sources["scored"],
        "--model_name_or_path",
        tiny_models["causal"],
        "--output_dir",
        tmp_path / "o",
    ]
    places += ["--max_steps", 1, "--save_steps", 1, "--per_device_train_batch_size", 4]
    places += ["--aspects", "honesty"] if stage == "reward" else []
    assert command(stage, *places).code == 0
    command(stage, *places, "--learning_rate", "0.01").refused("--overwrite")
    replaced = command(stage, *places, "--learning_rate", "0.01", "--overwrite")
    assert replaced.code == 0, replaced.err


def test_overwrite_replaces_scores(command, sources, write, tiny_models, tmp_path):
    places = ["--reward_models", json.dumps({"honesty": tiny_models["reward"]}), "--output_dir", tmp_path / "scores"]
    assert command("score", "--dataset_name", sources["scored"], *places).code == 0
    other = write(make_scored(20))
    command("score", "--dataset_name", other, *places).refused("--overwrite")
    replaced = command("score", "--dataset_name", other, *places, "--overwrite")
    assert replaced.code == 0, replaced.err
    assert len(read_rows(tmp_path / "scores" / "scored")) == 20


def test_lora_rewards_need_no_more_than_use_peft(command, sources, tiny_models, tmp_path):
    places = [
        "--dataset_name",
        sources["scored"],
        "--model_name_or_path",
        tiny_models["causal"],
        "--output_dir",
        tmp_path / "o",
    ]
    outcome = command("reward", *places, *FAST, "--use_peft", "--aspects", "honesty")
    assert outcome.code == 0, outcome.err


def test_a_full_disk_loses_nothing(command, sources, tiny_models, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]).returncode:
        pytest.skip("needs the right to mount")
    try:
        for stage in ("reward", "dpo"):
            places = ["--dataset_name", sources["scored"], "--model_name_or_path", tiny_models["causal"]]
            command(stage, *places, "--output_dir", disk / stage, "--max_steps", 1).refused("No space left")
            shutil.rmtree(disk / stage)
        (disk / "full").write_bytes(b"0" * 60_000)
        command("select", "--dataset_name", sources["scored"], "--output_dir", disk / "s").refused("No space left")
        # What is written already is kept beside, for the same command.
        assert {p.name for p in disk.iterdir() if p.suffix != ".lock"} <= {"full", ".s.partial"}
        (disk / "full").unlink()
        assert command("select", "--dataset_name", sources["scored"], "--output_dir", disk / "s").code == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_processes_agree_with_one(command, sources, tiny_models, tmp_path):
    models = ["--reward_models", json.dumps({"honesty": tiny_models["reward"]}), "--pairs_per_shard", "4"]
    training = ["--model_name_or_path", tiny_models["causal"], "--max_steps", "2", "--save_strategy", "no"]
    for stage, arguments in {"score": models, "dpo": training}.items():
        for count in (1, 2):
            batch = ["--per_device_train_batch_size", 4 // count] if stage == "dpo" else []
            extra = ["--multi_gpu", "--num_processes", "2"] if count == 2 else []
            places = ["--dataset_name", sources["scored"], "--output_dir", tmp_path / stage / str(count)]
            done = command(stage, *places, *arguments, *batch, *extra)
            assert done.code == 0, done.err
    one, two = (read_rows(tmp_path / "score" / name / "scored")["reward_gap_honesty"][:] for name in "12")
    np.testing.assert_allclose(one, two, atol=1e-6)
    one, two = (load_file(tmp_path / "dpo" / name / "model.safetensors") for name in "12")
    for name, weight in one.items():
        np.testing.assert_allclose(weight, two[name], atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_processes_are_never_silently_fewer_than_asked_for(command, sources, tiny_models, tmp_path):
    places = ["--dataset_name", sources["scored"], "--model_name_or_path", tiny_models["causal"]]
    training = ["--per_device_train_batch_size", 4, "--num_train_epochs", 1, "--save_strategy", "no"]
    done = command("dpo", *places, *training, "--output_dir", tmp_path / "o", "--num_processes", "2")
    # 30 pairs in batches of 4: 8 steps of one process, 4 of two.
    assert done.code == 2 or Manifest.load(tmp_path / "o").results["steps"] == 4


@pytest.mark.parametrize("stage", ["prepare", "select"])
def test_stages_of_one_process_refuse_more(command, sources, tmp_path, stage):
    data = sources["pairs" if stage == "prepare" else "scored"]
    command(stage, "--dataset_name", data, "--output_dir", tmp_path / "o", "--num_processes", "2").refused("process")
    assert not (tmp_path / "o").exists()


def test_interrupted_training_says_so_and_goes_on(command, sources, tiny_models, tmp_path):
    places = [
        "--dataset_name",
        str(sources["scored"]),
        "--model_name_or_path",
        tiny_models["causal"],
        "--save_steps",
        "5",
    ]
    whole = [
        "dpo",
        *places,
        "--max_steps",
        "60",
        "--per_device_train_batch_size",
        "2",
        "--output_dir",
        str(tmp_path / "o"),
    ]
    process = subprocess.Popen([*PD_TRL, *whole], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while not list((tmp_path / "o").glob("checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    assert command(*whole).code == 0
    assert Manifest.load(tmp_path / "o").results["steps"] == 60


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error():
    done = run(["bash", "-c", f"set -o pipefail; {' '.join(PD_TRL)} reward --help | head -1"])
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("usage: pd-trl reward")


@pytest.mark.slow
def test_work_goes_on_without_a_reader():
    work = "from pd_trl.cli.terminal import say; [say(i) for i in range(20_000)]; import sys; sys.stderr.write('all done')"
    done = run(["bash", "-c", f'set -o pipefail; {sys.executable} -c "{work}" | head -1'])
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "all done")


def test_a_result_is_shown_where_it_lies(command, sources, tmp_path, monkeypatch):
    """A local path opens nothing, whatever it looks like; an address is no place to write to."""
    monkeypatch.chdir(tmp_path)
    for name in ("out?sig=abc", "api_key=s3cret/run", "hf_abcdefghijklmnopqrst"):
        done = command("prepare", "--dataset_name", sources["pairs"], "--output_dir", name)
        assert (
            done.code == 0
            and f"[prepare] done: {name} (" in done.out
            and (tmp_path / name / "manifest.json").is_file()
        )
        assert (
            f"already done: {name} ("
            in command("prepare", "--dataset_name", sources["pairs"], "--output_dir", name).out
        )
    for address in ("https://host/out?sig=s3cret", "s3://bucket/run", "file:///tmp/run"):
        refused = command("prepare", "--dataset_name", sources["pairs"], "--output_dir", address)
        refused.refused("must be a folder of this machine", "is an address")
        assert "s3cret" not in refused.err and not (tmp_path / address.split("/")[0]).exists()
