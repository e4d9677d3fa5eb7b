import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.runs.results import load_results
from tests.evaluation.alpaca.conftest import KEY, OFFICIAL
from tests.evaluation.alpaca.recorded import Recorded, made_up
from tests.servers.replay_server import replay

# The leaderboard's own row of each model: win rate, its standard error, length-controlled win rate, discrete win rate, length.
TABLE = {
    "claude": (15.733506736409938, 1.120315865445773, 25.251943886133027, 14.409937888198757, 1096),
    "vicuna": (4.16261116226087, 0.6135107768217068, 6.277217738516609, 3.602484472049689, 1044),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.slow
def test_leaderboard_numbers(name, request, evaluate):
    """All 805 instructions through the real client and annotator, then from other orders of everything."""
    recorded = request.getfixturevalue(name)
    win_rate, error, length_controlled, discrete, length = TABLE[name]
    with replay(recorded.annotations) as server:
        result = evaluate(recorded, server, num_resamples=200)
        assert result.num_judged == 805 and not result.problems and not result.not_comparable
        assert result.win_rate == pytest.approx(win_rate, abs=1e-6)
        assert result.standard_error == pytest.approx(error, abs=1e-6)
        assert result.length_controlled_win_rate == pytest.approx(length_controlled, abs=0.2)
        assert result.discrete_win_rate == pytest.approx(discrete, abs=1e-6)
        assert int(result.average_length) == length
        # The two with equal outputs are not asked about.
        assert sum(server.counts.values()) == 803
        for seed in (1, 2):
            shuffled = evaluate(recorded.shuffled(seed), server)
            assert shuffled.win_rate == result.win_rate
            assert shuffled.length_controlled_win_rate == result.length_controlled_win_rate
        assert sum(server.counts.values()) == 803
    again = evaluate(recorded.shuffled(3), annotations=recorded.shuffled(4).annotations, folder="recorded")
    assert again.win_rate == pytest.approx(win_rate, abs=1e-6)
    assert again.length_controlled_win_rate == pytest.approx(length_controlled, abs=0.2)


def test_leaderboard_numbers_from_recorded_annotations(claude, vicuna, evaluate):
    for name, recorded in (("claude", claude), ("vicuna", vicuna)):
        result = evaluate(recorded.shuffled(5), annotations=recorded.shuffled(6).annotations, folder=name)
        assert result.win_rate == pytest.approx(TABLE[name][0], abs=1e-6)
        assert result.length_controlled_win_rate == pytest.approx(TABLE[name][2], abs=0.2)
        assert result.judge == OFFICIAL and "recorded" in result.not_comparable[0]


def test_subset_through_the_server(claude, evaluate):
    subset = claude.subset(60)
    with replay(claude.annotations) as server:
        result = evaluate(subset, server)
        shuffled = evaluate(subset.shuffled(1), server, folder="shuffled")
        of_whole = Recorded(subset.model, claude.reference, [], claude.difficulty_file)
        whole = evaluate(of_whole, server, folder="whole", subset=True)
    assert result.win_rate == pytest.approx(subset.win_rate, abs=1e-6)
    for other in (shuffled, whole):
        assert other.win_rate == result.win_rate
        assert other.length_controlled_win_rate == result.length_controlled_win_rate
    assert result.task == "AlpacaEval 2, 60 of its instructions"
    assert result.not_comparable == ["60 of 805 instructions are judged"]


def test_own_instructions(evaluate, tmp_path):
    recorded = made_up()
    with replay(recorded.annotations) as server:
        result = evaluate(recorded, server)
        assert sum(server.counts.values()) == len(recorded.model) - 1
        body = server.bodies[0]
    assert result.win_rate == pytest.approx(recorded.win_rate, abs=1e-6)
    values = np.array([a["preference"] for a in recorded.annotations])
    assert result.standard_error == pytest.approx(100 * values.std(ddof=1) / np.sqrt(len(values)), abs=1e-6)
    assert result.discrete_win_rate == pytest.approx(100 * np.mean((values > 1.5) + 0.5 * (values == 1.5)), abs=1e-9)
    assert result.length_control is None and "not among AlpacaEval's 805" in result.no_length_control
    assert (result.num_wins, result.num_losses, result.num_ties) == (
        sum(values > 1.5),
        sum(values < 1.5),
        sum(values == 1.5),
    )
    assert result.num_ties == 1
    # What the leaderboard's judge is sent, and nothing else.
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "gpt-4-1106-preview",
        "max_tokens": 1,
        "temperature": 1,
        "top_p": 1.0,
        "logprobs": True,
        "top_logprobs": 5,
    }
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert sorted(os.listdir(tmp_path)) == ["alpaca"]


def test_records(evaluate, tmp_path):
    recorded = made_up()
    with replay(recorded.annotations) as server:
        evaluate(recorded, server)
    results = {r.metric: r for r in load_results(tmp_path / "alpaca")}
    assert set(results) == {"win_rate", "discrete_win_rate", "average_length"}
    win_rate = results["win_rate"]
    assert win_rate.value == pytest.approx(recorded.win_rate, abs=1e-6)
    assert (win_rate.model, win_rate.baseline, win_rate.judge) == ("model", "baseline", OFFICIAL)
    assert win_rate.num_samples == len(recorded.model) and win_rate.standard_error > 0
    settings = win_rate.settings
    assert settings["served_as"] == ["gpt-4-1106-preview"]
    assert settings["official_comparable"] is False
    assert {"alpaca_eval", "openai", "pd_trl"} <= set(settings["versions"])
    assert settings["judged_from"] <= settings["judged_to"]
    annotations = json.loads((tmp_path / "alpaca" / "annotations.json").read_text())
    expected = {a["instruction"]: a["preference"] for a in recorded.annotations}
    assert {a["instruction"]: a["preference"] for a in annotations} == pytest.approx(expected, abs=1e-9)


def test_second_reference_has_no_length_control(claude, vicuna, evaluate):
    """Against another model the win rate stands, and what the difficulties do not fit is refused by name."""
    other = {row["instruction"]: row["output"] for row in vicuna.model}
    rows = [
        {**row, "output_1": other[row["instruction"]], "preference": 1.25 + 0.5 * (i % 2)}
        for i, row in enumerate(claude.annotations)
    ]
    duel = Recorded(claude.model, vicuna.model, rows, claude.difficulty_file)
    result = evaluate(duel, annotations=duel.annotations)
    assert result.win_rate == pytest.approx(duel.win_rate) and result.reference == "vicuna-7b"
    assert result.length_control is None
    assert "the reference is 'vicuna-7b'" in result.no_length_control
    assert "length_controlled_win_rate" not in {record.metric for record in result.records()}
    renamed = [{**row, "generator": "gpt4_1106_preview"} for row in duel.reference]
    again = evaluate(Recorded(duel.model, renamed, rows, duel.difficulty_file), annotations=rows, folder="renamed")
    assert again.length_control is None and "although they bear its name" in again.no_length_control


def test_nothing_is_left_behind(evaluate, tmp_path, monkeypatch):
    """Root logger, environment, scikit-learn, the working folder and alpaca_eval's own are as before."""
    import alpaca_eval
    import sklearn

    package = Path(alpaca_eval.__file__).parent

    def files() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc"}

    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    root = logging.getLogger()
    # pytest's own handlers stand in the way of `logging.basicConfig`.
    handlers = root.handlers[:]
    root.handlers.clear()
    try:
        before = root.level, dict(os.environ), sklearn.get_config(), files()
        recorded = made_up()
        with replay(recorded.annotations) as server:
            evaluate(recorded, server)
        assert root.handlers == [] and root.filters == []
        assert (root.level, dict(os.environ), sklearn.get_config(), files()) == before
    finally:
        root.handlers[:] = handlers
    assert not list(elsewhere.iterdir())


def test_key_is_nowhere(evaluate, tmp_path, capfd, caplog):
    """Not in files, messages or errors, although the server repeats it."""
    recorded = made_up(12)
    with replay(recorded.annotations, lambda prompt, attempt: 500 if attempt == 1 else 200) as server:
        evaluate(recorded, server)
        assert server.keys == {f"Bearer {KEY}"}
        address = server.base_url.replace("http://", "http://user:pa55word@")
        evaluate(recorded, server, folder="credentials", base_url=address)
        server.status = lambda prompt, attempt: 401
        with pytest.raises(InputError, match=r"status 401: .*\*\*\*.*Check the key") as failure:
            evaluate(recorded, server, folder="refused")
    out, err = capfd.readouterr()
    texts = [p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()]
    for found in [str(failure.value), out, err, caplog.text, *texts]:
        assert KEY not in found and "pa55word" not in found


def test_a_server_that_says_it_is_another_model_is_not_the_leaderboards_judge(evaluate):
    recorded = made_up(12)
    with replay(recorded.annotations) as server:
        server.served_as = "some-other-model"
        result = evaluate(recorded, server)
    assert "the server says that some-other-model judged" in result.not_comparable
