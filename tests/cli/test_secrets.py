"""A recipe is someone else's file, and what a command leaves or shows holds no secret."""

import json
import os
import sys

import pytest
import yaml

from pd_trl.cli.parsing import EXIT_CODE_FILE
from pd_trl.runs.artifacts import read_json
from tests.cli.conftest import printable
from tests.evaluation.alpaca.recorded import made_up
from tests.processes import run
from tests.servers.replay_server import replay

TOKEN = "hf_" + "Qw7Er5Ty9Ui3Op1As2Df"
PASSWORD = "pa55wordOfMe"
FOREIGN = "https://llm.example.com/v1"


@pytest.fixture
def recipe(sources, tmp_path):
    """`recipe({...})` writes a recipe of `prepare` and `select` with these entries, and returns its path."""

    def write(*changes, name="recipe.yaml"):
        content = {
            "output_dir": str(tmp_path / "out"), "budget": 0.5, "prepare": {"dataset_name": str(sources["pairs"])},
            "select": {"source": "ratings"},
        }  # fmt: skip
        for change in changes:
            for key, value in change.items():
                content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
        (tmp_path / name).write_text(yaml.safe_dump(content))
        return tmp_path / name

    return write


@pytest.fixture
def pd_trl(monkeypatch):
    """`pd_trl("run", ...)` in a process of its own, whose environment holds nothing of a user."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return lambda *words, **env: run([sys.executable, "-m", "pd_trl", *map(str, words)], env=env)


def left(folder, *secrets):
    """Files below a folder that hold one of the secrets."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


@pytest.mark.parametrize("flags", [[], ["--dry_run"], ["--stages", "prepare"]])
@pytest.mark.parametrize(
    ("change", "place", "instead"),
    [
        ({"dpo": {"dataset_name": "d", "model_name_or_path": "m", "hub_token": TOKEN}}, "dpo.hub_token", "HF_TOKEN"),
        ({"dpo": {"model_init_kwargs": {"token": "of-any-shape"}}}, "dpo.model_init_kwargs.token", "HF_TOKEN"),
        ({"env": {"HF_TOKEN": TOKEN}}, "env.HF_TOKEN", "HF_TOKEN"),
        ({"prepare": {"note": [["x", f"log in as {TOKEN}"]]}}, "prepare.note", "HF_TOKEN"),
        (
            {"evaluate": {"alpaca": {"judge_arguments": json.dumps({"extra_headers": {"X-Api-Key": "abc"}})}}},
            "evaluate.alpaca.judge_arguments.extra_headers.X-Api-Key", "OPENAI_API_KEY",
        ),
        ({"evaluate": {"alpaca": {"base_url": f"http://me:{PASSWORD}@h/v1"}}}, "evaluate.alpaca.base_url", "OPENAI_BASE_URL"),
    ],
)  # fmt: skip
def test_a_recipe_with_a_secret_is_refused(command, recipe, tmp_path, change, place, instead, flags):
    outcome = command("run", "--config", recipe(change), *flags)
    outcome.refused(f"`{place}`", instead)
    assert not any(secret in outcome.out + outcome.err for secret in (TOKEN, PASSWORD, "of-any-shape", "abc"))
    assert not (tmp_path / "out").exists()


def test_so_is_one_on_the_command_line_of_a_run_or_in_a_configuration(command, recipe, tmp_path):
    outcome = command("run", "--config", recipe(), "--prepare.hub_token", TOKEN)
    outcome.refused("`prepare.hub_token`", "HF_TOKEN")
    (tmp_path / "dpo.yaml").write_text(f"hub_token: {TOKEN}")
    other = command("dpo", "--config", tmp_path / "dpo.yaml")
    other.refused("`hub_token`", "HF_TOKEN")
    assert TOKEN not in outcome.out + outcome.err + other.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "PYTHONSTARTUP", EXIT_CODE_FILE, "LD_PRELOAD", "PATH", "HF_ENDPOINT", "HF_HOME", "OPENAI_BASE_URL",
             "HTTPS_PROXY", "PD_TRL_OTHER", "NCCL_DEBUG_FILE", "BASH_ENV", "OMP_NUM_THREADS ", "omp_num_threads"],
)  # fmt: skip
@pytest.mark.parametrize("words", [["run"], ["run", "--dry_run"], ["plan"], ["select"]])
def test_a_recipe_sets_no_other_variables(command, recipe, tmp_path, name, words):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    before = dict(os.environ)
    outcome = command(*words, "--config", recipe({"env": {"OMP_NUM_THREADS": 7, name: str(precious)}}))
    outcome.refused("`env`", name, "OMP_NUM_THREADS")
    assert precious.read_text() == "mine" and dict(os.environ) == before and not (tmp_path / "out").exists()


def test_the_variables_that_it_may_set_are_set_when_it_runs(command, recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "before")
    path = recipe({"env": {"WANDB_PROJECT": "other"}})
    assert command("run", "--config", path, "--dry_run").code == 0 and os.environ["WANDB_PROJECT"] == "before"
    command("run", "--config", recipe({"env": {"WANDB_PROJECT": "other"}, "nonsense": {}})).refused("nonsense")
    command("run", "--config", recipe({"env": {"WANDB_PROJECT": [1]}})).refused("WANDB_PROJECT")
    assert os.environ["WANDB_PROJECT"] == "before"
    outcome = command("run", "--config", recipe({"env": {"WANDB_PROJECT": "other"}}, name="good.yaml"))
    assert outcome.code == 0, outcome.err
    assert os.environ["WANDB_PROJECT"] == "other"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("alpaca", {"api_key_env": "HF_TOKEN", "base_url": FOREIGN}),
        ("alpaca", {"api_key_env": "AWS_SECRET_ACCESS_KEY"}),
        ("alpaca", {"base_url": FOREIGN}),
        ("pairwise", {"judge_kwargs": {"api_key_env": "GITHUB_TOKEN", "base_url": FOREIGN}}),
        ("pairwise", {"judge_kwargs": json.dumps({"base_url": FOREIGN})}),
    ],
)
def test_a_recipe_sends_no_key_of_the_user_elsewhere(command, recipe, tmp_path, monkeypatch, kind, settings):
    monkeypatch.setenv("OPENAI_API_KEY", "the-users")
    files = {"outputs": "x.json"} if kind == "alpaca" else {"outputs": "x.json", "reference_outputs": "y.json"}
    section = {kind: {"judge": "openai:m", **files, **settings}}
    for flags in ([], ["--dry_run"]):
        outcome = command("run", "--config", recipe({"evaluate": section}), "--stages", "evaluate", *flags)
        outcome.refused("llm.example.com" if "example" in str(settings) else "api.openai.com")
        assert "the-users" not in outcome.err
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(section[kind]))
    command("evaluate", kind, "--config", path).refused("variable" if "HF_" not in str(settings) else "token")


def test_the_user_may_name_the_variable(command, recipe, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "the-users")
    section = {"alpaca": {"judge": "openai:m", "model_outputs": "nowhere.json", "base_url": FOREIGN}}
    path = recipe({"evaluate": section})
    flags = ["--evaluate.alpaca.api_key_env", "OPENAI_API_KEY", "--stages", "evaluate"]
    command("run", "--config", path, *flags).refused("nowhere.json")


@pytest.mark.parametrize("entry", ["--overwrite", "--output_dir=/tmp/x", "-h", "--", "-x", "--config"])
def test_a_value_of_a_recipe_is_no_flag(command, recipe, tmp_path, entry):
    for change in ({"prepare": {"aspects": ["helpfulness", entry]}}, {"prepare": {"aspects": [entry, "true"]}}):
        for words in (["run", "--stages", "prepare"], ["run", "--dry_run"]):
            outcome = command(*words, "--config", recipe(change))
            outcome.refused(f"{entry}")
            assert "usage" not in outcome.out
    command("run", "--config", recipe({"prepare": {"aspects": [["a", entry]]}})).refused("aspects")
    command("run", "--config", recipe({"prepare": {"dataset_name": entry}})).refused(entry)
    command("run", "--config", recipe({"prepare": {"labels": entry}})).refused("labels", entry)
    assert not (tmp_path / "out" / "prepare" / "manifest.json").exists()


def test_lists_of_a_recipe_are_read_as_the_command_line_reads_them(command, recipe):
    from pd_trl.cli.stage_commands import stage_parser

    values = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1, "-0.5"], "lora_target_modules": ["-x", "--y"]}
    parsed = stage_parser("dpo").parse([], values)[0]
    assert parsed[1].loss_weights == [1.0, -0.5] and parsed[2].lora_target_modules == ["-x", "--y"]
    command("run", "--config", recipe({"publish": {"report": "a/b", "language": [1.5]}}), "--dry_run")
    for value in (["many"], [True]):
        outcome = command("run", "--config", recipe({"dpo": {"loss_weights": value, "model_name_or_path": "m"}}))
        outcome.refused("loss_weights")


def test_code_of_a_model_is_announced_where_the_recipe_alone_asks_for_it(command, recipe):
    change = {"dpo": {"dataset_name": "nowhere", "model_name_or_path": "me/m", "trust_remote_code": True}}
    flags = ["--dry_run", "--stages", "dpo"]
    assert "run code that comes with its model" in command("run", "--config", recipe(change), *flags).err
    own = command("run", "--config", recipe(change), *flags, "--dpo.trust_remote_code", "true")
    assert "run code" not in own.err


def test_aliases_do_not_make_a_small_recipe_endless(command, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("prepare: &a {aspects: [*a]}\n")
    command("run", "--config", path).refused("aliases")
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(["a0: &a0 [x, x]", *rows]))
    command("run", "--config", path).refused("aliases")


def test_what_a_run_leaves(pd_trl, recipe, tmp_path):
    folder = f"out\x1b[31m\u202e{TOKEN[3:8]}"
    path = recipe({"output_dir": str(tmp_path / folder)})
    environment = {"HF_TOKEN": TOKEN, "OPENAI_API_KEY": PASSWORD}
    finished = pd_trl("run", "--config", path, **environment)
    assert finished.returncode == 0, finished.stderr
    again = pd_trl("run", "--config", path, "--dry_run", **environment)
    for text in (finished.stdout, finished.stderr, again.stdout, again.stderr):
        assert printable(text) and TOKEN not in text and PASSWORD not in text
    assert left(tmp_path, TOKEN, PASSWORD) == []
    files = [tmp_path / folder / name for name in ("run.json", "prepare/manifest.json", "select/manifest.json")]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert read_json(files[0])["recipe"]["select"]["source"] == "ratings"


@pytest.mark.slow
def test_what_a_judge_leaves(pd_trl, tmp_path):
    pytest.importorskip("openai", reason="the extra `alpaca` is not installed")
    recorded = made_up(12)
    for name, rows in (("model", recorded.model), ("reference", recorded.reference)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    answer = {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "A"}}
    headers = {"X-Own": "headerOfMe", "X-Api-Key": "keyOfMe"}
    with replay([], lambda prompt, attempt: answer) as server:
        runs = []
        for password in (PASSWORD, "another"):
            address = f"{server.base_url.replace('//', f'//me:{password}@')}?key=queryOfMe"
            kwargs = {"base_url": address, "arguments": {"extra_headers": headers}, "settings": {"max_retries": 0}}
            flags = [
                "--outputs",
                tmp_path / "model.json",
                "--reference_outputs",
                tmp_path / "reference.json",
                "--judge",
                "openai:m",
            ]
            flags += ["--judge_kwargs", json.dumps(kwargs), "--output_dir", tmp_path / "out"]
            runs.append(pd_trl("evaluate", "pairwise", *flags, OPENAI_API_KEY="sk-ofMeAlone"))
            asked = sum(server.counts.values())
            assert runs[-1].returncode == 0, runs[-1].stderr
        assert "already done" in runs[1].stdout and sum(server.counts.values()) == asked
    secrets = (PASSWORD, "headerOfMe", "keyOfMe", "queryOfMe", "sk-ofMeAlone")
    assert left(tmp_path, *secrets) == []
    assert not any(secret in r.stdout + r.stderr for r in runs for secret in secrets)
    private = [*(tmp_path / "out").rglob("manifest.json"), *(tmp_path / "out").rglob("*.jsonl")]
    assert len(private) >= 3 and {file.stat().st_mode & 0o777 for file in private} == {0o600}


def test_stages_without_a_token_know_no_flag_for_it(command):
    outcome = command("select", "--hub_token", TOKEN)
    outcome.refused("hub_token")
    assert TOKEN not in outcome.err


def test_a_token_on_the_command_line_of_a_stage_goes_into_the_environment(monkeypatch):
    from pd_trl.cli.stage_commands import _token_in_environment

    monkeypatch.setenv("HF_TOKEN", "before")
    for flags in (["--hub_token", TOKEN], [f"--hub-token={TOKEN}"], ["--push_to_hub_token", TOKEN]):
        monkeypatch.setenv("HF_TOKEN", "before")
        assert _token_in_environment(["--seed", "1", *flags]) == ["--seed", "1"]
        assert os.environ["HF_TOKEN"] == TOKEN
