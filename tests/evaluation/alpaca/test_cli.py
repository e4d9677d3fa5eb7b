import json
import shutil

import pytest
import yaml
from safetensors.torch import load_file, save_file

from pd_trl.evaluation import plan_alpaca
from pd_trl.evaluation.alpaca.config import config_path
from pd_trl.evaluation.judges.digest import judge_digest
from tests.cli.conftest import command  # noqa: F401
from tests.evaluation.alpaca.conftest import OFFICIAL
from tests.evaluation.alpaca.recorded import made_up
from tests.servers.replay_server import replay


def arguments(paths, folder, *more):
    return ["evaluate", "alpaca", "--outputs", paths["model"], "--reference_outputs", paths["reference"],
            "--judge", OFFICIAL, "--output_dir", folder, *more]  # fmt: skip


def test_evaluate_alpaca(command, files, tmp_path):  # noqa: F811
    recorded = made_up(20)
    paths, folder = files(recorded), tmp_path / "out"
    with replay(recorded.annotations) as server:
        run = arguments(paths, folder, "--base_url", server.base_url, "--num_resamples", 0)
        outcome = command(*run)
        assert outcome.code == 0, outcome.err
        assert f"{recorded.win_rate:.2f} %" in outcome.out and "Not comparable to the leaderboard" in outcome.out
        assert "Traceback" not in outcome.err and "INFO" not in outcome.err
        again = command(*run)
        assert again.code == 0 and "already done" in again.out
        assert f"win rate: {recorded.win_rate:.2f} %" in again.out
        command(*run, "--seed", 1).refused("holds the result of another run", "`seed`")
        asked = sum(server.counts.values())
        other = command(*run, "--seed", 1, "--overwrite")
        assert other.code == 0 and sum(server.counts.values()) == asked
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["stage"] == "evaluate alpaca" and manifest["counts"]["judged"] == 20


def test_another_judge_of_the_same_name_is_not_the_one_that_judged(command, files, tiny_models, tmp_path):  # noqa: F811
    """Weights, and a prompt beside the configuration."""
    paths, judge = files(made_up(6)), tmp_path / "judge"
    shutil.copytree(tiny_models["reward"], judge)
    run = arguments(paths, tmp_path / "out")
    run[run.index(OFFICIAL)] = f"reward:{judge}"
    assert command(*run).code == 0
    weights = load_file(judge / "model.safetensors")
    save_file({name: -value for name, value in weights.items()}, judge / "model.safetensors", {"format": "pt"})
    command(*run).refused("another run", "input 'judge'")
    own = tmp_path / "annotators" / "mine"
    own.mkdir(parents=True)
    packaged = config_path(OFFICIAL)
    config = yaml.safe_load(packaged.read_text())
    config[OFFICIAL]["prompt_template"] = "mine/prompt.txt"
    (own / "configs.yaml").write_text(yaml.safe_dump(config))
    (own / "prompt.txt").write_text("{instruction} {output_1} {output_2}")
    before = judge_digest(str(own))
    assert before and judge_digest(str(own)) == before == judge_digest(f"alpaca:{own}")
    (own / "prompt.txt").write_text("{instruction}: {output_1} {output_2}")
    assert judge_digest(str(own)) != before
    assert judge_digest(OFFICIAL) == judge_digest(None) == judge_digest("openai:m") == {}


def test_without_difficulties_the_ways_out_are_named(command, claude, files, tmp_path):  # noqa: F811
    run = arguments(files(claude), tmp_path / "out")
    # The judge is looked at first.
    command(*run, "--judge", "nobody").refused("no annotator 'nobody'")
    command(*run).refused("difficulty_file", "length_control")


def test_dry_run(command, files, tmp_path):  # noqa: F811
    recorded = made_up(20)
    paths, folder = files(recorded), tmp_path / "out"
    outcome = command(*arguments(paths, folder, "--dry-run", "--price_per_million_tokens", 10))
    assert outcome.code == 0, outcome.err
    assert "19 (0 answered before)" in outcome.out and "about $" in outcome.out
    assert not folder.exists()
    with replay(recorded.annotations) as server:
        command(*arguments(paths, folder, "--base_url", server.base_url))
    later = command(*arguments(paths, folder, "--dry-run", "--overwrite"))
    assert "19 (19 answered before)" in later.out and "about $0.00" in later.out


def test_refusals(command, files, tmp_path):  # noqa: F811
    paths = files(made_up(20))
    command("evaluate", "alpaca").refused("--outputs")
    command("evaluate", "alpacas").refused("Did you mean 'alpaca'")
    command(*arguments(paths, tmp_path / "o", "--judge", "nobody")).refused("no annotator 'nobody'")
    command(*arguments(paths, tmp_path / "o", "--judge_arguments", "{broken")).refused("judge_arguments")
    command(*arguments(paths, tmp_path / "o", "--max_problem_share", 2)).refused("max_problem_share")
    command(*arguments(paths, tmp_path)).refused("holds the input")


def test_estimate_of_the_leaderboard(claude):
    """Requests are exact; tokens and cost are within a few percent of what the recorded judge was paid."""
    plan = plan_alpaca(claude.model, reference_outputs=claude.reference, judge=OFFICIAL)
    assert (plan.num_instructions, plan.num_requests, plan.length_control) == (805, 803, None)
    tokens = sum((a["raw_completion"] or {}).get("total_tokens", 0) for a in claude.annotations)
    assert plan.num_tokens == pytest.approx(tokens, rel=0.05)
    assert plan.cost == pytest.approx(sum(a["price_per_example"] or 0 for a in claude.annotations), rel=0.05)
    unknown = plan_alpaca(claude.model, reference_outputs=claude.reference, judge=OFFICIAL, judge_model="mine")
    assert unknown.cost is None and "price_per_million_tokens" in str(unknown)
    priced = plan_alpaca(
        claude.model, reference_outputs=claude.reference, judge=OFFICIAL, price_per_million_tokens=2.0
    )
    assert priced.cost == pytest.approx(2e-6 * priced.num_tokens)
