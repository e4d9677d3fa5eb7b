"""The `evaluate` modules, alone, combined, and in a real trainer."""

import re
from pathlib import Path

import numpy as np
import pytest
from setuptools import find_packages

import pd_trl
from pd_trl import metrics
from pd_trl.errors import InputError
from pd_trl.evaluation.metrics import METRICS, compute_metrics, pair_logits, path
from pd_trl.trainers.reward.config import PDRewardConfig
from pd_trl.trainers.reward.trainer import PDRewardTrainer
from tests.tiny import tiny_preferences

evaluate = pytest.importorskip("evaluate")
A, B = [3.0, 1.0, 2.0, 5.0, 0.5], [1.0, 2.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize("name", METRICS)
def test_modules_say_what_they_are(name):
    metric = evaluate.load(path(name))
    assert metric.name == name and metric.license == "Apache-2.0"
    assert metric.description.strip() and "2508.07638" in metric.citation and metric.reference_urls
    # The example of the docstring is run.
    code = [line.strip()[4:] for line in metric.inputs_description.splitlines() if line.strip().startswith(">>>")]
    expected = metric.inputs_description.strip().splitlines()[-1].strip()
    space: dict = {}
    exec("\n".join(code[:-1]), space)
    assert repr(eval(code[-1], space)) == expected


def test_values():
    win = evaluate.load(path("win_score")).compute(predictions=A, references=B)
    assert (win["win_score"], win["wins"], win["losses"], win["ties"]) == (1 + (3 - 1) / 5, 3, 1, 1)
    tied = evaluate.load(path("win_score")).compute(predictions=A, references=B, tie=1.5)
    assert (tied["wins"], tied["losses"], tied["ties"]) == (2, 0, 3)
    accuracy = evaluate.load(path("pairwise_accuracy"))
    plain = accuracy.compute(predictions=A, references=B)
    assert plain["pair_accuracy"] == 0.6 and "length_accuracy" not in plain
    by_length = accuracy.compute(predictions=A, references=B, delta_lengths=[1, 2, -1, -3, 0])
    assert by_length["pair_accuracy_chosen_longer"] == 0.5 and by_length["pair_accuracy_chosen_shorter"] == 0.5
    assert by_length["length_accuracy"] == 0.5
    with pytest.raises(InputError, match="5 values"):
        accuracy.compute(predictions=A, references=B, delta_lengths=[1])
    conflict = evaluate.load(path("preference_conflict"))
    several = conflict.compute(
        predictions=[1, 1, -1, 1], references=[[-1, 2, 0], [1, 1, 1], [1, 1, -2], [0, 0, float("nan")]]
    )
    assert several["preference_conflict"] == (1 + 0 + 2) / 8 and several["any_conflict"] == pytest.approx(2 / 3)
    assert several["majority_conflict"] == pytest.approx(1 / 3) and several["undecided"] == 1
    single = conflict.compute(predictions=[1, 1], references=[-1, 1])
    assert single["preference_conflict"] == 0.5


def test_modules_are_combined_and_take_batches():
    combined = evaluate.combine([evaluate.load(path(name)) for name in METRICS])
    result = combined.compute(predictions=A, references=B)
    assert result["win_score"] == 1.4 and result["pair_accuracy"] == 0.6 and "preference_conflict" in result
    metric = evaluate.load(path("win_score"))
    for start in (0, 2):
        metric.add_batch(
            predictions=A[start : start + 3 if start else 2], references=B[start : start + 3 if start else 2]
        )
    assert metric.compute()["win_score"] == 1.4


@pytest.mark.parametrize("batch_size", [4, 7])
def test_in_a_reward_trainer(tiny_models, tmp_path, batch_size):
    data = tiny_preferences(18)
    delta = [len(row["chosen"].split()) - len(row["rejected"].split()) for row in data]
    votes = np.random.default_rng(0).choice([-1.0, 1.0], (18, 2))
    trainer = PDRewardTrainer(
        tiny_models["reward"],
        args=PDRewardConfig(
            tmp_path, use_cpu=True, bf16=False, per_device_eval_batch_size=batch_size, report_to="none"
        ),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=compute_metrics(*METRICS, delta_lengths=delta, others=votes),
        preprocess_logits_for_metrics=pair_logits,
    )
    rewards = trainer.predict(trainer.eval_dataset).predictions
    assert rewards.shape == (18, 2)
    found = trainer.evaluate()
    # What the trainer counts by itself, from other tensors.
    assert found["eval_pair_accuracy"] == pytest.approx((rewards[:, 0] > rewards[:, 1]).mean())
    assert found["eval_win_score"] == pytest.approx(1 + np.sign(rewards[:, 0] - rewards[:, 1]).mean())
    conflict = np.sign(rewards[:, :1] - rewards[:, 1:]) * votes < 0
    assert found["eval_preference_conflict"] == pytest.approx(conflict.mean())


def test_without_pair_logits_a_trainer_is_told(tiny_models, tmp_path):
    data = tiny_preferences(6)
    trainer = PDRewardTrainer(
        tiny_models["reward"],
        args=PDRewardConfig(tmp_path, use_cpu=True, bf16=False, per_device_eval_batch_size=4, report_to="none"),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=compute_metrics("win_score"),
    )
    with pytest.raises(InputError, match="preprocess_logits_for_metrics=pair_logits"):
        trainer.evaluate()


def test_metrics_have_a_public_name():
    assert pd_trl.metrics is metrics and "metrics" in pd_trl.__all__
    assert metrics.path("win_score") == path("win_score")
    assert metrics.compute_metrics is compute_metrics and metrics.pair_logits is pair_logits


def test_names():
    with pytest.raises(InputError, match="Did you mean 'win_score'"):
        path("win_scor")
    with pytest.raises(InputError, match="Name at least one"):
        compute_metrics()
    with pytest.raises(InputError, match="needs `others`"):
        compute_metrics("preference_conflict")


def test_the_modules_are_in_the_wheel():
    package = Path(pd_trl.__file__).parent
    packages = find_packages(str(package.parent), include=["pd_trl", "pd_trl.*"])
    setup = (package.parent / "setup.py").read_text()
    assert re.search(r'find_packages\(include=\["pd_trl", "pd_trl\.\*"\]\)', setup)
    assert {f"pd_trl.evaluation.metrics.{name}" for name in METRICS} <= set(packages)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_no_wrong_pair(value):
    with pytest.raises(InputError, match="those of pair 1"):
        evaluate.load(path("pairwise_accuracy")).compute(predictions=[1.0, value, 2.0], references=[0.0, 1.0, 1.0])
