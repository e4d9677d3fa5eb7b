import csv
import math
import random

import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.evaluation.alpaca import length_control
from pd_trl.evaluation.alpaca.instructions import NUM_INSTRUCTIONS, canonical_positions
from pd_trl.evaluation.alpaca.length_control import length_controlled_win_rate, why_no_length_control
from pd_trl.evaluation.alpaca.outputs import align, read_outputs, read_reference


def rows_of(recorded):
    return align(read_outputs(recorded.model, "model outputs"), read_reference(recorded.reference)).rows


def preferences_of(recorded, rows):
    found = {a["instruction"]: a["preference"] for a in recorded.annotations}
    return [found[row["instruction"]] for row in rows]


def test_positions_are_those_of_the_files(claude):
    """The digests in the package name each instruction's line, by which the difficulties are kept."""
    assert canonical_positions([row["instruction"] for row in claude.reference]) == list(range(NUM_INSTRUCTIONS))
    assert canonical_positions(["Write a poem."]) == [None]


@pytest.fixture
def glm_inputs(monkeypatch):
    """What alpaca_eval's GLM is really fitted to and evaluated on."""
    from pd_trl.evaluation.alpaca.session import alpaca_eval_session

    with alpaca_eval_session():
        from alpaca_eval.metrics import glm_winrate as glm

    calls = []
    original = glm._get_featurized_data

    def spy(df, *args, **kwargs):
        result = original(df, *args, **kwargs)
        calls.append((df, *result))
        return result

    monkeypatch.setattr(glm, "_get_featurized_data", spy)
    return calls


def test_subset_has_its_own_inputs(claude, glm_inputs):
    """200 shuffled instructions: each row meets the difficulty and the length difference of its own instruction."""
    subset = claude.subset(200, seed=3).shuffled(1)
    rows = rows_of(subset)
    random.Random(0).shuffle(rows)
    result = length_controlled_win_rate(
        rows, preferences_of(subset, rows), difficulty_file=claude.difficulty_file, num_resamples=0
    )
    with claude.difficulty_file.open(newline="") as file:
        difficulty = {int(row["index"]): float(row["instruction_difficulty"]) for row in csv.DictReader(file)}
    frame, train, features, _ = glm_inputs[0]
    assert len(features) == 200
    place = {row["instruction"]: i for i, row in enumerate(claude.reference)}
    reference = {row["instruction"]: row["output"] for row in subset.reference}
    outputs = {row["instruction"]: row["output"] for row in subset.model}
    instructions = frame["instruction"].tolist()
    assert [place[i] for i in instructions] == sorted(place[i] for i in instructions) == frame.index.tolist()
    assert features["instruction_difficulty"].tolist() == [difficulty[place[i]] for i in instructions]
    assert (features["np.tanh(std_delta_len)"] == 0).all()
    lengths = np.array([len(reference[i]) - len(outputs[i]) for i in instructions])
    expected = np.tanh(lengths / lengths.std(ddof=1))
    assert train["np.tanh(std_delta_len)"].to_numpy()[-200:] == pytest.approx(expected)
    known = {a["instruction"]: a["preference"] - 1 for a in subset.annotations}
    assert train["preference"].to_numpy()[-200:] == pytest.approx([known[i] for i in instructions])
    assert 15 < result.win_rate < 40


def test_order_does_not_matter(vicuna):
    subset = vicuna.subset(100)
    rows = rows_of(subset)
    settings = {"difficulty_file": vicuna.difficulty_file, "num_resamples": 3}
    first = length_controlled_win_rate(rows, preferences_of(subset, rows), **settings)
    shuffled = random.Random(1).sample(rows, len(rows))
    second = length_controlled_win_rate(shuffled, preferences_of(subset, shuffled), **settings)
    assert (first.win_rate, first.standard_error, first.weights) == (
        second.win_rate,
        second.standard_error,
        second.weights,
    )
    by_instruction = {row["instruction"]: p for row, p in zip(rows, first.preferences, strict=True)}
    assert [by_instruction[row["instruction"]] for row in shuffled] == second.preferences


def test_row_position_is_what_it_was_before(claude):
    """The trap itself: alpaca_eval alone, on the same rows in another order, gives other numbers."""
    import pandas as pd

    from pd_trl.evaluation.alpaca.session import alpaca_eval_session

    recorded = claude.shuffled(2)
    frame = pd.DataFrame(recorded.annotations)
    with alpaca_eval_session():
        from alpaca_eval.metrics import glm_winrate as glm

        with length_control._local_file(glm, claude.difficulty_file):
            info = {
                **glm.GLM_INFO["length_controlled_v1"],
                "kwargs": {"n_splits": 5, **length_control._cross_validation_arguments()},
            }
            naive = glm.get_length_controlled_winrate(frame, save_weights_dir=None, glm_info=info)
    rows = rows_of(recorded)
    ours = length_controlled_win_rate(
        rows, preferences_of(recorded, rows), difficulty_file=claude.difficulty_file, num_resamples=0
    )
    assert ours.win_rate == pytest.approx(25.2519, abs=0.2)
    assert abs(naive["length_controlled_winrate"] - ours.win_rate) > 1


def test_unknown_preferences_are_predicted(claude):
    rows = rows_of(claude)
    preferences = preferences_of(claude, rows)
    settings = {"difficulty_file": claude.difficulty_file, "num_resamples": 0}
    whole = length_controlled_win_rate(rows, preferences, **settings)
    gaps = length_controlled_win_rate(
        rows, [math.nan if i % 200 == 0 else p for i, p in enumerate(preferences)], **settings
    )
    assert len(gaps.preferences) == 805 and not any(map(math.isnan, gaps.preferences))
    assert gaps.win_rate == pytest.approx(whole.win_rate, abs=0.5)


def test_bootstrap_error(claude):
    rows = rows_of(claude)
    preferences = preferences_of(claude, rows)
    result = length_controlled_win_rate(rows, preferences, difficulty_file=claude.difficulty_file, num_resamples=60)
    # What is uncertain about the GLM makes it larger than the spread of its predictions.
    assert 1.2 < result.standard_error < 2.2
    assert result.predicted_standard_error == pytest.approx(0.7515, abs=0.02)


def test_reference_against_itself(claude):
    rows = [{**row, "output_2": row["output_1"], "generator_2": row["generator_1"]} for row in rows_of(claude)]
    assert "same length" in why_no_length_control(rows)


def test_when_it_is_refused(claude):
    rows = rows_of(claude)
    assert why_no_length_control(rows) is None
    assert "1 of 805 instructions are not among" in why_no_length_control([*rows[1:], {**rows[0], "instruction": "x"}])
    assert "too few" in why_no_length_control(rows[:19])
    assert "1 of 805 reference outputs are not those" in why_no_length_control(
        [*rows[1:], {**rows[0], "output_1": "x"}]
    )


@pytest.mark.parametrize("change", ["columns", "order"])
def test_wrong_difficulties(claude, change, tmp_path):
    lines = claude.difficulty_file.read_text().splitlines()
    lines = [lines[0].replace("index", "number"), *lines[1:]] if change == "columns" else [lines[0], *lines[:0:-1]]
    path = tmp_path / "df_gamed.csv"
    path.write_text("\n".join(lines))
    rows = rows_of(claude)
    with pytest.raises(InputError, match="must have the columns .* in order"):
        length_controlled_win_rate(rows, preferences_of(claude, rows), difficulty_file=path)
    with pytest.raises(InputError, match="no file of difficulties"):
        length_controlled_win_rate(rows, preferences_of(claude, rows), difficulty_file=tmp_path / "absent.csv")


def test_missing_difficulties_are_noticed_before_anything_is_paid(claude, evaluate, monkeypatch, tmp_path):
    from huggingface_hub import constants

    from tests.evaluation.alpaca.recorded import Recorded
    from tests.servers.replay_server import replay

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    subset = claude.subset(25)
    subset = Recorded(subset.model, subset.reference, subset.annotations)
    with replay(subset.annotations) as server:
        with pytest.raises(InputError, match="df_gamed.csv .* is not at hand"):
            evaluate(subset, server)
        assert not server.counts
        result = evaluate(subset, server, length_control=False)
    assert result.win_rate == pytest.approx(subset.win_rate, abs=1e-6)
    assert result.no_length_control == "it was not asked for"


def test_difficulties_from_the_cache(claude, tmp_path, monkeypatch):
    """A cache of the Hub is enough, whether it was filled by revision or by branch."""
    from huggingface_hub import constants

    rows = rows_of(claude.subset(60))
    preferences = preferences_of(claude, rows)
    for commit in (length_control.ALPACA_REVISION, "f" * 40):
        cache = tmp_path / commit
        repository = cache / "datasets--tatsu-lab--alpaca_eval"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "df_gamed.csv").write_bytes(claude.difficulty_file.read_bytes())
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        result = length_controlled_win_rate(rows, preferences, num_resamples=0)
        assert 5 < result.win_rate < 60
