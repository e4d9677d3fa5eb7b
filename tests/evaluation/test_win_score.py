"""Win scores: alignment, both orders, ties, what is left out, sets, resuming, and the local judges."""

import json
import random

import numpy as np
import pytest

from pd_trl import win_score
from pd_trl.errors import InputError, InputTypeError
from pd_trl.evaluation.judges import JUDGES, ScoreJudge, load_judge, parse_judge
from pd_trl.evaluation.judges.reward_model import RewardModelJudge
from pd_trl.evaluation.metrics.statistics import bootstrap_interval
from pd_trl.lab.simulation import SimulatedWorld, simulate_prompts
from pd_trl.lab.simulation.gold_judge import GoldJudge
from pd_trl.lab.simulation.judge import gold_win_rate
from pd_trl.pipeline.judges import register_gold_judge
from pd_trl.runs.results import load_results
from pd_trl.scoring.reward_models import load_scorers
from pd_trl.scoring.tokens import TokenRows
from tests.tiny import sentence


class Longer(ScoreJudge):
    """Prefers the longer output, and counts what it is asked."""

    def __init__(self):
        super().__init__("longer", "prefers the longer output", {"rule": "length"})
        self.asked = 0

    def compare(self, comparisons):
        self.asked += len(comparisons)
        return super().compare(comparisons)

    def score(self, pairs):
        return np.array([len(output) for _, output in pairs], dtype=float)


class Preference:
    """A judge by a function of the comparison."""

    def __init__(self, function, name="function"):
        self.function, self.name, self.description, self.identity = function, name, "a function", {"name": name}
        self.asked = []

    def compare(self, comparisons):
        order = list(range(len(comparisons)))
        random.Random(1).shuffle(order)
        for i in order:
            self.asked.append(comparisons[i])
            yield i, self.function(comparisons[i])


def records(texts, generator="a", dataset="set"):
    return [
        {"instruction": f"instruction {i}", "output": text, "generator": generator, "dataset": dataset}
        for i, text in enumerate(texts)
    ]


A = records(["xxx", "x", "xx", "xxxx", "xx", "", "xxx", "x"], "model")
B = records(["x", "xxx", "xx", "xx", "x", "x", "x", "xxx"], "other")  # wins 4, losses 3, ties 1


def test_value_error_interval_and_counts():
    result = win_score(A, B, judge=Longer())
    signs = np.array([1, -1, 0, 1, 1, -1, 1, -1])
    assert result.value == 1 + (4 - 3) / 8
    assert result.standard_error == pytest.approx(signs.std(ddof=1) / np.sqrt(8))
    assert result.interval[0] < result.value < result.interval[1]
    entry = result.sets[0]
    assert {key: entry.counts[key] for key in ("wins", "losses", "ties")} == {"wins": 4, "losses": 3, "ties": 1}
    assert entry.win_rate == 4.5 / 8 and entry.agreement == 1.0 and entry.first_preferred == 0.5
    assert (result.model, result.baseline, result.judge, entry.dataset) == ("model", "other", "longer", "set")
    assert win_score(B, A, judge=Longer()).value == 2 - result.value
    assert "1.125" in str(result) and "longer" in str(result)


def test_outputs_are_aligned_by_instruction():
    expected = win_score(A, B, judge=Longer())
    shuffled = [random.Random(seed).sample(rows, len(rows)) for seed, rows in ((1, A), (2, B))]
    found = win_score(*shuffled, judge=Longer())
    assert (found.value, found.interval) == (expected.value, expected.interval)


def test_a_judge_who_prefers_a_position_gives_ties():
    result = win_score(A, B, judge=Preference(lambda comparison: 1.0))
    assert result.value == 1 and result.sets[0].counts["ties"] == 8
    assert result.sets[0].first_preferred == (7 + 0.5) / 8 and result.sets[0].agreement == 1 / 8


def test_the_mean_of_both_orders_decides():
    # 0.9 for A when shown first, 0.3 when shown second: 0.6 in the mean.
    result = win_score(A, B, judge=Preference(lambda c: 0.9 if c.output_a in {r["output"] for r in A} else 0.7))
    assert result.sets[0].counts["wins"] == 8 - result.sets[0].counts["ties"]


def test_missing_and_repeated_instructions_are_counted_and_refused_over_a_share(caplog):
    for a, b, words in ((A[:-1], B, "1 missing"), (A, B[1:], "1 extra"), ([*A, A[0]], B, "1 duplicate")):
        with pytest.raises(InputError, match=words):
            win_score(a, b, judge=Longer())
    result = win_score(A[:-1], B[1:], judge=Longer(), max_problem_share=0.3)
    assert len(result.sets[0].signs) == 6
    assert (result.sets[0].counts["missing"], result.sets[0].counts["extra"]) == (1, 1)
    assert "1 missing" in caplog.text
    with pytest.raises(InputError, match="None of the 8 instructions"):
        win_score(A, [{**row, "instruction": row["instruction"] + "?"} for row in B], judge=Longer())


def test_unreadable_judgements_are_counted_refused_over_a_share_and_asked_again(tmp_path):
    def unreadable(comparison):
        return None if comparison.instruction in ("instruction 1", "instruction 3") else 1.0

    with pytest.raises(
        InputError, match=r"2 of the 8 pairs of set are without a judgement in both orders, more than 5 %"
    ):
        win_score(A, B, judge=Preference(unreadable), output_dir=tmp_path)
    left_out = win_score(A, B, judge=Preference(unreadable), max_problem_share=0.3)
    assert left_out.sets[0].counts["unparsed"] == 2 and len(left_out.sets[0].signs) == 6
    judge = Preference(lambda comparison: 1.0)
    win_score(A, B, judge=judge, output_dir=tmp_path)
    assert sorted(c.instruction for c in judge.asked) == ["instruction 1"] * 2 + ["instruction 3"] * 2


def test_a_stopped_judge_goes_on_without_asking_twice(tmp_path):
    count = 0

    def stops(comparison):
        nonlocal count
        count += 1
        if count > 5:
            raise KeyboardInterrupt
        return float(len(comparison.output_a) > len(comparison.output_b))

    with pytest.raises(KeyboardInterrupt):
        win_score(A, B, judge=Preference(stops), output_dir=tmp_path)
    judge = Preference(lambda c: float(len(c.output_a) > len(c.output_b)))
    win_score(A, B, judge=judge, output_dir=tmp_path)
    assert len(judge.asked) == 14 - 5
    again = Preference(None)
    win_score(A, B, judge=again, output_dir=tmp_path)
    assert not again.asked
    with pytest.raises(InputError, match=r"rows of another run"):
        win_score(A, B, judge=Longer(), output_dir=tmp_path)


def test_equal_pairs_are_asked_once():
    judge = Longer()
    twice = {"one": A, "two": A}
    win_score(twice, {"one": B, "two": B}, judge=judge)
    assert judge.asked == 14  # nor are equal outputs asked about


def test_sets_are_averaged_whatever_their_size(tmp_path):
    big = {f"{side}": records(["xx" if side == "a" else "x"] * 40, side, "big") for side in "ab"}
    result = win_score(
        {"small": A, "big": big["a"]}, {"big": big["b"], "small": B}, judge=Longer(), output_dir=tmp_path
    )
    assert result.value == pytest.approx((1.125 + 2.0) / 2)
    assert result.standard_error == pytest.approx(result.sets[0].standard_error / 2)
    saved = load_results(tmp_path)
    assert [(r.metric, r.value) for r in saved] == [
        ("win_score", 1.125),
        ("win_score", 2.0),
        ("average_win_score", result.value),
    ]
    assert saved[-1].settings["interval"] == list(result.interval) and saved[-1].num_samples == 48
    assert all(r.judge == "longer" and r.unit == "score" for r in saved)
    with pytest.raises(InputError, match="same sets, but A has small, x and B has big, small"):
        win_score({"small": A, "x": A}, {"big": B, "small": B}, judge=Longer())


def test_folders_hold_sets(tmp_path):
    for side, rows in (("a", A), ("b", B)):
        for name in ("one", "two"):
            (tmp_path / side / name).mkdir(parents=True)
            (tmp_path / side / name / "model_outputs.json").write_text(json.dumps(rows))
    result = win_score(tmp_path / "a", tmp_path / "b", judge=Longer())
    assert [entry.dataset for entry in result.sets] == ["one", "two"] and result.value == 1.125
    assert (
        win_score(tmp_path / "a" / "one", tmp_path / "b" / "one" / "model_outputs.json", judge=Longer()).value == 1.125
    )


def test_bootstrap_interval_is_that_of_drawn_instructions():
    rng = np.random.default_rng(0)
    sets = [rng.integers(-1, 2, 60), rng.integers(-1, 2, 25)]
    means = [np.mean([rng.choice(values, len(values)).mean() for values in sets]) for _ in range(20_000)]
    assert bootstrap_interval(sets) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    assert bootstrap_interval([np.ones(9)]) == (1.0, 1.0)


def test_bootstrap_interval_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    sets = [rng.integers(-1, 2, 60), rng.integers(-1, 2, 25)]
    found = stats.bootstrap(
        sets, lambda a, b, axis: (a.mean(axis) + b.mean(axis)) / 2, method="percentile", n_resamples=20_000, rng=rng
    )
    assert bootstrap_interval(sets) == pytest.approx(tuple(found.confidence_interval), abs=0.01)


def test_gold_judge_agrees_with_the_worlds_win_rate():
    world, rng = SimulatedWorld(seed=3), np.random.default_rng(0)
    prompts = simulate_prompts(60, 3)
    a, b = (
        [{"instruction": prompt, "output": world.write_response(prompt, rng)} for prompt in prompts] for _ in range(2)
    )
    expected = gold_win_rate(a, b, world)
    result = win_score(a, b, judge=GoldJudge(world))
    assert result.value == pytest.approx(expected["win_score"])
    assert result.sets[0].win_rate == pytest.approx(expected["win_rate"])


def test_reward_model_judge_prefers_by_the_models_own_rewards(tiny_models):
    generator = random.Random(0)
    a, b = (
        [{"instruction": f"the cat {'a ' * i}", "output": sentence(generator)} for i in range(12)] for _ in range(2)
    )
    judge = RewardModelJudge(tiny_models["reward"])
    scorer = next(load_scorers({"x": tiny_models["reward"]}))
    signs = []
    for row_a, row_b in zip(a, b, strict=True):
        texts = [
            [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]}]
            for row in (row_a, row_b)
        ]
        ids = [
            scorer.tokenizer.apply_chat_template(text, tokenize=True, return_dict=True)["input_ids"] for text in texts
        ]
        first, second = (float(scorer(TokenRows.of([row]))[0, 0]) for row in ids)
        signs.append(np.sign(first - second))
    result = win_score(a, b, judge=judge)
    assert result.value == pytest.approx(1 + np.mean(signs)) and 0 < result.value < 2
    assert result.judge == f"reward model {tiny_models['reward']}" and "not an LLM" in judge.description
    plain = RewardModelJudge(tiny_models["reward"], chat=False)
    assert plain.scores_of([("the cat ", "runs .")]) != judge.scores_of([("the cat ", "runs .")])


def test_unusable_judges_are_refused():
    with pytest.raises(InputTypeError, match="must be a judge"):
        win_score(A, B, judge="gpt")
    with pytest.raises(InputError, match=r"in \[0, 1\], but gave 3"):
        win_score(A, B, judge=Preference(lambda comparison: 3))
    for text in ("gpt-4", "gold:", "magic:x"):
        with pytest.raises(InputError, match="must be one of reward:VALUE"):
            parse_judge(text)


def test_the_pipeline_hands_the_gold_judge_to_the_others(monkeypatch):
    monkeypatch.delitem(JUDGES, "gold", raising=False)
    with pytest.raises(InputError, match="must be one of reward:VALUE"):
        load_judge("gold:nowhere")
    register_gold_judge()
    with pytest.raises(InputError, match="no world.json"):
        load_judge("gold:nowhere")
    with pytest.raises(InputError, match=r"does not take \['base_url'\]"):
        load_judge("gold:nowhere", base_url="http://127.0.0.1")
