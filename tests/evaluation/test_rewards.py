"""Accuracy of reward models on our contract and on RewardBench's columns, against other ways to compute it."""

import json
import math
import random

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import evaluate_rewards, score_pairs
from pd_trl.errors import InputError
from pd_trl.evaluation.metrics.statistics import calibration
from pd_trl.evaluation.reward_accuracy import Accuracy, points_of
from pd_trl.evaluation.reward_bench import SCORE, SECTIONS, section_accuracies
from pd_trl.evaluation.reward_data import to_examples
from pd_trl.runs.results import load_results
from pd_trl.scoring.scorer import RewardModelScorer
from tests.tiny import ASPECTS, sentence, tiny_preferences, tiny_reward_model, tiny_tokenizer


def entries(result, model="m"):
    return {entry.subset: entry for entry in result.entries if entry.model == model}


def test_preferences_agree_with_score_pairs(tiny_models):
    preferences = tiny_preferences(40)
    result = evaluate_rewards({"m": tiny_models["reward"]}, preferences)
    gaps = np.array(
        score_pairs(preferences, {"honesty": tiny_models["reward"]}, length_correction="none")["reward_gap_honesty"]
    )
    found = entries(result)
    assert list(found) == [*ASPECTS, "all"]
    aspects = np.array(preferences["aspect"][:])
    for name, rows in ((ASPECTS[0], aspects == ASPECTS[0]), ("all", np.ones(40, dtype=bool))):
        assert found[name].accuracy == pytest.approx((gaps[rows] > 0).mean())
        assert found[name].num_samples == rows.sum() and found[name].chance == 0.5
    longer = np.array([len(row["chosen"]) - len(row["rejected"]) for row in preferences])
    assert found["all"].length_accuracy == pytest.approx((longer > 0).mean() + 0.5 * (longer == 0).mean())
    assert found["all"].by_length["accuracy_right_longer"] == pytest.approx((gaps[longer > 0] > 0).mean())
    assert found["all"].calibration["log_loss"] == pytest.approx(np.log1p(np.exp(-gaps)).mean(), abs=1e-6)


def test_pairs_are_tested_on_every_decided_label(tiny_models):
    generator = random.Random(0)
    rows = [
        {
            "prompt": sentence(generator),
            "response_a": sentence(generator),
            "response_b": sentence(generator),
            "pref_honesty": generator.choice([0.0, 0.5, 1.0]),
            "pref_overall": generator.choice([0.0, 1.0, None]),
        }
        for _ in range(30)
    ]
    result = evaluate_rewards({"m": tiny_models["reward"]}, Dataset.from_list(rows))
    found = entries(result)
    ties = sum(row["pref_honesty"] == 0.5 for row in rows)
    missing = sum(row["pref_overall"] is None for row in rows)
    assert (found["honesty"].num_samples, found["overall"].num_samples) == (30 - ties, 30 - missing)
    assert result.counts == {"examples": 60 - ties - missing, "ties": ties, "unlabelled": missing}
    turned = [
        {
            **row,
            "response_a": row["response_b"],
            "response_b": row["response_a"],
            **{k: None if row[k] is None else 1 - row[k] for k in ("pref_honesty", "pref_overall")},
        }
        for row in rows
    ]
    assert entries(evaluate_rewards({"m": tiny_models["reward"]}, Dataset.from_list(turned))) == found


def bench(count: int, seed: int = 0):
    """Rows in the columns of allenai/reward-bench."""
    generator = random.Random(seed)
    return Dataset.from_list(
        [
            {
                "prompt": sentence(generator),
                "chosen": sentence(generator),
                "chosen_model": "a",
                "rejected": sentence(generator),
                "rejected_model": "b",
                "subset": generator.choice(["llmbar-natural", "math-prm"]),
                "id": i,
            }
            for i in range(count)
        ]
    )


def test_reward_bench_is_read_as_a_conversation(tiny_models, tmp_path):
    data = bench(24)
    result = evaluate_rewards({"m": tiny_models["reward"]}, data, name="allenai/reward-bench", output_dir=tmp_path)
    chats = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "chosen": [{"role": "assistant", "content": row["chosen"]}],
                "rejected": [{"role": "assistant", "content": row["rejected"]}],
                "subset": row["subset"],
            }
            for row in data
        ]
    )
    assert entries(evaluate_rewards({"m": tiny_models["reward"]}, chats)) == entries(result)
    plain = entries(evaluate_rewards({"m": tiny_models["reward"]}, data, chat=False))
    assert plain["all"].calibration != entries(result)["all"].calibration
    saved = load_results(tmp_path)
    sections = {"Chat Hard", "Reasoning"}
    assert {record.settings["subset"] for record in saved} == {"llmbar-natural", "math-prm", "all", *sections}
    assert all(record.dataset == "allenai/reward-bench" for record in saved)
    for record in saved:
        is_section = record.settings["subset"] in sections
        assert record.metric == ("section_accuracy" if is_section else "pair_accuracy")


def test_parts_of_the_prompt_in_other_columns_are_read():
    sides = {"chosen": ["c", "d"], "rejected": ["r", "s"]}
    data = Dataset.from_dict({"instruction": ["Translate.", "Sum up."], "input": ["oui", None], **sides})
    assert [e.prompt for e in to_examples(data).examples] == ["Translate.\n\noui", "Sum up."]
    asked = [[{"role": "user", "content": q}] for q in ("p", "q")]
    said = {"role": "system", "content": "Be brief."}
    for labelled in (sides, {"response_a": ["c", "d"], "response_b": ["r", "s"], "pref_help": [1.0, 0.0]}):
        data = Dataset.from_dict({"prompt": ["p", "q"], "system": ["Be brief.", None], **labelled})
        assert [e.prompt for e in to_examples(data).examples] == [[said, *asked[0]], asked[1]]
        merged = data.remove_columns("prompt").add_column("prompt", [[said, *asked[0]], asked[1]])
        assert [e.prompt for e in to_examples(merged).examples] == [[said, *asked[0]], asked[1]]
        with pytest.raises(InputError, match="Row 0 has a system column"):
            to_examples(merged.remove_columns("system").add_column("system", ["Be long.", None]))


def as_accuracy(subset, accuracy, count=10):
    return Accuracy("m", subset, accuracy, 0.1, count, 0.5, 0.4)


def test_sections_and_score_are_those_of_the_leaderboard():
    # The leaderboard's own function, on all subsets: numpy's weighted mean in each section, and their mean.
    generator = random.Random(3)
    subsets = [as_accuracy(name, generator.random()) for weights in SECTIONS.values() for name in weights]
    found = {entry.subset: entry for entry in section_accuracies(subsets)}
    assert list(found) == ["Chat", "Chat Hard", "Safety", "Reasoning", SCORE]
    values = {entry.subset: entry.accuracy for entry in subsets}
    for section, weights in SECTIONS.items():
        expected = np.average([values[name] for name in weights], weights=list(weights.values()))
        assert found[section].accuracy == pytest.approx(expected)
    assert found[SCORE].accuracy == pytest.approx(np.mean([found[name].accuracy for name in SECTIONS]))
    # PRM math counts as much as the six of code together, whatever number of rows was read.
    code = [entry.accuracy for entry in subsets if entry.subset.startswith("hep-")]
    assert found["Reasoning"].accuracy == pytest.approx((values["math-prm"] + np.mean(code)) / 2)
    share = np.array([100, 95, 95, 28, 40]) / 358
    assert found["Chat"].standard_error == pytest.approx(0.1 * np.sqrt((share**2).sum()))
    # Prior sets are a fifth section of half the weight.
    prior = [as_accuracy("shp", 0.9), as_accuracy("summarize", 0.5)]
    fifth = {entry.subset: entry for entry in section_accuracies([*subsets, *prior])}
    four = sum(found[name].accuracy for name in SECTIONS)
    assert fifth["Prior Sets"].accuracy == pytest.approx(0.7)
    assert fifth[SCORE].accuracy == pytest.approx((2 * four + 0.7) / 9)
    # Without a section there is no score; of other data there are no sections.
    assert [entry.subset for entry in section_accuracies([as_accuracy("math-prm", 0.5)])] == ["Reasoning"]
    assert section_accuracies([as_accuracy("Focus", 0.5), as_accuracy("shp", 0.5)]) == []


def test_best_of_four(tiny_models):
    generator = random.Random(0)
    rows = [
        {
            "id": str(i),
            "prompt": sentence(generator),
            "chosen": [sentence(generator) for _ in range(2 if i % 4 == 0 else 1)],
            "rejected": [sentence(generator) for _ in range(3)],
            "num_correct": 1,
            "subset": "Ties" if i % 4 == 0 else "Focus",
        }
        for i in range(40)
    ]
    result = evaluate_rewards({"m": tiny_models["reward"]}, Dataset.from_list(rows))
    found = entries(result)
    assert found["Focus"].chance == 0.25 and found["Ties"].chance == pytest.approx(1 / 10)
    assert found["Focus"].calibration is None and "best_of_n" in result.results()[0].metric
    # By pairs: right where each right response beats each wrong one.
    pairs = [
        {"prompt": row["prompt"], "chosen": right, "rejected": wrong, "subset": str(i)}
        for i, row in enumerate(rows)
        for right in row["chosen"]
        for wrong in row["rejected"]
    ]
    won = entries(evaluate_rewards({"m": tiny_models["reward"]}, Dataset.from_list(pairs)))
    for name, own in (("Focus", [i for i in range(40) if i % 4]), ("Ties", range(0, 40, 4))):
        assert found[name].accuracy == pytest.approx(np.mean([won[str(i)].accuracy == 1 for i in own]))


@pytest.mark.parametrize(
    "right, wrong, points",
    [
        ([1], [0], 1), ([0], [1], 0), ([1], [1], 0), ([2], [1, 0, 1], 1), ([1], [1, 0, 0], 0.5),
        ([1], [1, 1, 1], 0.25), ([1], [2, 2, 0], 0), ([3, 2], [1, 0], 1), ([3, 1], [1, 0], 0),
    ],
)  # fmt: skip
def test_points(right, wrong, points):
    assert points_of(np.array(right), np.array(wrong)) == points


def test_rewards_are_not_computed_twice(tiny_models, tmp_path, monkeypatch):
    data = bench(10)
    first = evaluate_rewards({"m": tiny_models["reward"]}, data.select(range(4)), output_dir=tmp_path)
    scored = []
    original = RewardModelScorer.__call__

    def counting(self, sequences):
        scored.append(len(sequences))
        return original(self, sequences)

    monkeypatch.setattr(RewardModelScorer, "__call__", counting)
    whole = evaluate_rewards({"m": tiny_models["reward"]}, data, output_dir=tmp_path)
    assert sum(scored) == 12 and first.counts["examples"] == 4
    alone = entries(evaluate_rewards({"m": tiny_models["reward"]}, data))
    for name, entry in entries(whole).items():
        assert entry.accuracy == alone[name].accuracy
        if entry.calibration is None:
            continue  # a section of RewardBench
        assert entry.calibration["log_loss"] == pytest.approx(alone[name].calibration["log_loss"], abs=1e-6)


@pytest.mark.parametrize(
    "row", ['"x"', "[]", "[1, 2]", "[null]", "[NaN]", "[[1]]", "5", '{"a": 1}', "[true]", "[1e999]"]
)
def test_a_kept_reward_of_another_form_is_computed_again(row, tiny_models, tmp_path, caplog):
    data = bench(3)
    evaluate = lambda: entries(evaluate_rewards({"m": tiny_models["reward"]}, data, output_dir=tmp_path))  # noqa: E731
    first = evaluate()
    log = tmp_path / "rewards-m.jsonl"
    lines = log.read_text().splitlines()
    key = json.loads(lines[1])["key"]
    log.write_text("\n".join([lines[0], f'{{"key": "{key}", "row": {row}}}', *lines[2:], ""]))
    again = evaluate()
    assert {name: e.accuracy for name, e in again.items()} == {name: e.accuracy for name, e in first.items()}
    assert "1 of" in caplog.text and "damaged" in caplog.text


def test_calibration_of_gaps_with_a_known_truth():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    signs = np.where(rng.random(logits.size) < 1 / (1 + np.exp(-np.abs(logits))), 1, -1)
    honest = calibration(np.abs(logits) * signs)
    assert honest["ece"] < 0.01 and honest["temperature"] == pytest.approx(1, abs=0.03)
    assert sum(entry["num_pairs"] for entry in honest["bins"]) == logits.size
    loud = calibration(3 * np.abs(logits) * signs)
    assert loud["temperature"] == pytest.approx(3, abs=0.1) and loud["ece"] > 0.05
    assert loud["log_loss"] > honest["log_loss"]
    assert calibration([1.0, 2.0])["temperature"] is None
    assert calibration([0.0])["log_loss"] == pytest.approx(math.log(2))


def test_unusable_data_is_refused(tiny_models):
    for rows, words in (
        ([{"text": "x"}], "the columns are text"),
        ([{"prompt": "x", "response_a": "y", "response_b": "z"}], "pref_<aspect>"),
        ([{"prompt": "x", "response_a": "y", "response_b": "z", "pref_a": 0.5}], "No example is left"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate_rewards({"m": tiny_models["reward"]}, Dataset.from_list(rows))
    bare = tiny_tokenizer(chat_template=None)
    with pytest.raises(InputError, match="no chat template"):
        evaluate_rewards({"m": (tiny_reward_model(), bare)}, bench(2), chat=True)
    assert to_examples(bench(2)).benchmark


def test_results_hold_plain_values(tiny_models):
    settings = [record.settings for record in evaluate_rewards({"m": tiny_models["reward"]}, bench(5)).results()]
    assert settings and json.loads(json.dumps(settings)) == settings


def test_sides_in_other_forms():
    share = lambda role, text: {"from": role, "value": text}  # noqa: E731
    right, wrong = ({"role": "assistant", "content": text} for text in ("yes", "no"))
    expected = ([{"role": "user", "content": "q"}], ([right],), ([wrong],))
    for row in (
        {"prompt": [share("human", "q")], "chosen": [share("gpt", "yes")], "rejected": [share("gpt", "no")]},
        {"prompt": share("human", "q"), "chosen": right, "rejected": wrong},
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "q"}]}],
            "chosen": share("gpt", "yes"),
            "rejected": wrong,
        },
    ):
        (example,) = to_examples(Dataset.from_list([row])).examples
        assert (example.prompt, example.right, example.wrong) == expected
    image = {"role": "user", "content": [{"type": "image", "image": "x"}]}
    with pytest.raises(InputError, match="Row 0 has messages with parts other than text"):
        to_examples(Dataset.from_list([{"prompt": [image], "chosen": [right], "rejected": [wrong]}]))
