import json
import shutil

import pytest
import yaml

from pd_trl.errors import InputError
from pd_trl.evaluation.submission import build_submission, check_submission
from pd_trl.evaluation.submission.layout import JUDGE, LEADERBOARD, WEIGHTS, Layout, read_table
from tests.cli.conftest import command  # noqa: F401
from tests.evaluation.alpaca.recorded import leaderboard, made_up

pytest.importorskip("patsy", reason="the extra `alpaca` is not installed")
NAME = "claude-again"


@pytest.fixture(scope="module")
def evaluated(shared_data, tmp_path_factory):
    """A finished evaluation of a recorded model by the leaderboard's judge."""
    from pd_trl.evaluation import evaluate_alpaca

    recorded = leaderboard(shared_data, "claude-2.1")
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate_alpaca(
        recorded.model,
        reference_outputs=recorded.reference,
        annotations=recorded.annotations,
        output_dir=folder,
        difficulty_file=recorded.difficulty_file,
        num_resamples=0,
    )
    return recorded, folder


@pytest.fixture(scope="module")
def complete(evaluated, tmp_path_factory):
    return build(evaluated[1], tmp_path_factory.mktemp("submission") / "pr")


def build(evaluation, folder, **changes):
    settings = {
        "name": NAME,
        "evaluation": evaluation,
        "pretty_name": "Claude, again",
        "link": "https://example.org/model",
        "prompt_template": "<|im_start|>user\n{instruction}<|im_end|>",
        "completions_kwargs": {"model_name": "me/model", "max_new_tokens": 2048},
        **changes,
    }
    return build_submission(folder, **settings)


@pytest.fixture
def submission(complete, tmp_path):
    """A copy to spoil."""
    root = tmp_path / "pr"
    shutil.copytree(complete, root)
    return Layout(root, NAME)


def test_complete_submission_passes(complete, evaluated):
    recorded, _ = evaluated
    assert check_submission(complete, recorded.reference) == []
    files = {path.relative_to(complete).as_posix() for path in complete.rglob("*") if path.is_file()}
    assert files == {
        f"src/alpaca_eval/models_configs/{NAME}/configs.yaml",
        f"src/alpaca_eval/models_configs/{NAME}/prompt.txt",
        f"results/{NAME}/model_outputs.json",
        f"results/{NAME}/{JUDGE}/annotations.json",
        LEADERBOARD.as_posix(),
        WEIGHTS.as_posix(),
    }
    outputs = json.loads(Layout(complete, NAME).outputs.read_text())
    assert [row["instruction"] for row in outputs] == [row["instruction"] for row in recorded.reference]
    assert {row["generator"] for row in outputs} == {NAME}


def test_one_line_more_in_the_table(complete):
    """The row agrees with that of the same model under its other name, and no other line changes."""
    from pathlib import Path

    import alpaca_eval

    ours = (complete / LEADERBOARD).read_text().splitlines()
    theirs = (Path(alpaca_eval.__file__).parent / LEADERBOARD.relative_to("src/alpaca_eval")).read_text().splitlines()
    added = [line for line in ours if line.startswith(f"{NAME},")]
    assert len(added) == 1 and [line for line in ours if line not in added] == theirs
    _, rows = read_table(complete / LEADERBOARD)
    row, twin = rows[NAME][0], rows["claude-2.1"][0]
    for column in ("win_rate", "standard_error", "discrete_win_rate"):
        assert float(row[column]) == pytest.approx(float(twin[column]), abs=1e-6)
    assert float(row["length_controlled_winrate"]) == pytest.approx(float(twin["length_controlled_winrate"]), abs=0.2)
    for column in ("n_wins", "n_wins_base", "n_draws", "n_total", "avg_length"):
        assert int(row[column]) == int(twin[column])
    assert row["mode"] == "community"
    rates = [float(line.split(",")[10]) for line in ours[1:] if line.split(",")[10]]
    place = rates.index(float(row["length_controlled_winrate"]))
    assert rates[place - 1] >= rates[place] >= rates[place + 1]


def test_tables_of_a_checkout(evaluated, tmp_path):
    checkout = tmp_path / "alpaca_eval"
    for path, text in (
        (LEADERBOARD, ",win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,discrete_win_rate,mode,avg_length,"
                      "length_controlled_winrate,lc_standard_error\nbest,90,1,1,1,1,805,90,verified,1000,99,\n"
                      "worst,1,1,1,1,1,805,1,verified,1000,1,"),
        (WEIGHTS, ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\nbest,1,2,3\n"),
    ):  # fmt: skip
        (checkout / path).parent.mkdir(parents=True)
        (checkout / path).write_text(text)
    root = build(evaluated[1], tmp_path / "pr", repository=checkout)
    assert check_submission(root) == []
    assert [line.split(",")[0] for line in (root / LEADERBOARD).read_text().splitlines()] == [
        "",
        "best",
        NAME,
        "worst",
    ]
    assert [line.split(",")[0] for line in (root / WEIGHTS).read_text().splitlines()] == ["", "best", NAME]
    with pytest.raises(InputError, match="is no checkout"):
        build(evaluated[1], tmp_path / "pr", repository=tmp_path)
    with pytest.raises(InputError, match="'best' is on the leaderboard already"):
        build(evaluated[1], tmp_path / "other", repository=checkout, name="best")


def change_rows(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def config_without(layout, key):
    content = yaml.safe_load(layout.config.read_text())
    del content[NAME][key]
    layout.config.write_text(yaml.safe_dump(content))


def change_line(path, old, new):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.replace(old, new) if line.startswith(NAME) else line for line in lines))


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


SPOILT = {
    "no config": (lambda s: s.config.unlink(), "configs.yaml is missing"),
    "another top key": (lambda s: replace_in(s.config, f"{NAME}:", "other:"), f"one top key '{NAME}'"),
    "no link": (lambda s: config_without(s, "link"), "has no link"),
    "no decoder": (lambda s: config_without(s, "fn_completions"), "has no fn_completions"),
    "no prompt": (lambda s: s.prompt.unlink(), "prompt.txt, which is missing"),
    "prompt without a place": (lambda s: s.prompt.write_text("Hello"), "no place for {instruction}"),
    "no outputs": (lambda s: s.outputs.unlink(), "make it with `pd-trl generate`"),
    "804 rows": (lambda s: change_rows(s.outputs, lambda r: r[1:]), "804 rows instead of 805"),
    "a row twice": (lambda s: change_rows(s.outputs, lambda r: [*r[1:], r[5]]), "repeat an instruction"),
    "own instruction": (
        lambda s: change_rows(s.outputs, lambda r: [{**r[0], "instruction": "Sing."}, *r[1:]]),
        "1 instructions of .* are not AlpacaEval's",
    ),
    "empty": (lambda s: change_rows(s.outputs, lambda r: [{**r[0], "output": " "}, *r[1:]]), "1 outputs in .* are empty"),
    "generator": (
        lambda s: change_rows(s.outputs, lambda r: [{**row, "generator": "x"} for row in r]),
        "`generator` of 805 rows",
    ),
    "no dataset": (
        lambda s: change_rows(s.outputs, lambda r: [{k: v for k, v in row.items() if k != "dataset"} for row in r]),
        "805 rows of .* lack a text in dataset",
    ),
    "no annotations": (lambda s: s.annotations.unlink(), "`--dry-run` shows the cost"),
    "six missing": (lambda s: change_rows(s.annotations, lambda r: r[6:]), r"lacks 6 of 805 instructions \(at most 5\)"),
    "unread": (
        lambda s: change_rows(s.annotations, lambda r: [{**r[0], "preference": None}, *r[1:]]),
        "1 preferences in .* are not numbers",
    ),
    "another judge": (
        lambda s: change_rows(s.annotations, lambda r: [{**row, "annotator": "mine"} for row in r]),
        f"`annotator` in .* must be '{JUDGE}' everywhere, but is also 'mine'",
    ),
    "another reference": (
        lambda s: change_rows(s.annotations, lambda r: [{**r[0], "output_1": "x"}, *r[1:]]),
        "`output_1` of 1 rows .* is not the output of gpt4_1106_preview",
    ),
    "other outputs judged": (
        lambda s: change_rows(s.annotations, lambda r: [{**r[0], "output_2": "x"}, *r[1:]]),
        "`output_2` of 1 rows",
    ),
    "no row": (lambda s: replace_in(s.leaderboard, f"{NAME},", "x,"), "0 rows of claude-again instead of one"),
    "mode": (lambda s: change_line(s.leaderboard, "community", "verified"), "must be 'community'"),
    "win rate": (lambda s: replace_in(s.leaderboard, f"{NAME},15.7", f"{NAME},16.7"), "but its annotations say 15.7"),
    "no weights": (lambda s: s.weights.unlink(), "baseline_gpt4_1106_preview.csv is missing"),
    "reference outputs": (
        lambda s: s.outputs.with_name("reference_outputs.json").write_text("[]"),
        "reference_outputs.json must not be in a submission",
    ),
    "own leaderboard": (
        lambda s: s.annotations.with_name("leaderboard.csv").write_text(""),
        "leaderboard.csv must not be in a submission",
    ),
    "another file": (lambda s: (s.root / "notes.txt").write_text(""), "notes.txt is no part of a submission"),
    "another model": (lambda s: (s.root / "results" / "other").mkdir(), "One pull request is of one model"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_what_breaks_a_rule_is_named(name, submission):
    import re

    spoil, words = SPOILT[name]
    spoil(submission)
    problems = check_submission(submission.root)
    assert any(re.search(words, problem) for problem in problems), problems


def test_before_anything_is_paid(evaluated, tmp_path):
    """Outputs alone: only what a judge adds is missing; with a gap in them, that is named as well."""
    recorded, _ = evaluated
    root = build(None, tmp_path / "pr", model_outputs=recorded.model)
    problems = check_submission(root)
    assert len(problems) == 3 and "--dry-run" in problems[0]
    root = build(None, tmp_path / "pr", model_outputs=recorded.model[2:])
    assert any("803 rows instead of 805" in problem for problem in check_submission(root))


def test_own_instructions_do_not_pass(tmp_path):
    root = build(None, tmp_path / "pr", model_outputs=made_up(12).model)
    problems = check_submission(root)
    assert any("12 rows instead of 805" in p for p in problems) and any("not AlpacaEval's" in p for p in problems)


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "with space"])
def test_unfit_names(name, tmp_path):
    with pytest.raises(InputError, match="becomes a folder"):
        build(None, tmp_path / "pr", name=name, model_outputs=made_up(3).model)


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds other files than a submission"):
        build(None, tmp_path, model_outputs=made_up(3).model)
    with pytest.raises(InputError, match="holds no submission"):
        check_submission(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_command(command, evaluated, tmp_path):  # noqa: F811
    root = tmp_path / "pr"
    run = [
        "submission",
        "--name",
        NAME,
        "--evaluation",
        evaluated[1],
        "--output_dir",
        root,
        "--link",
        "https://example.org",
    ]
    outcome = command(*run)
    assert outcome.code == 0 and "names the prompt" in outcome.out, outcome
    # Copied over a checkout, a table with one row would take the other models' out.
    assert "Give a checkout with --repository" in outcome.out
    command("submission", "--output_dir", root, "--check", "true").refused("does not pass (1)", "prompt.txt")
    outcome = command(*run, "--prompt_template", "{instruction}")
    assert outcome.code == 0 and "Passes the rules" in outcome.out
    assert command("submission", "--output_dir", root, "--check", "true").code == 0
    command("submission").refused("--name")
    command("submission", "--name", "x").refused("Nothing to submit")
