"""Results of training proxy rewards: held-out metrics, saved beside the weights, and a warning of weak proxies."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ...method.accuracy import verdict
from ...method.length import balanced_shares
from ...runs.artifacts import Manifest

logger = logging.getLogger(__name__)

_REPORTED = (
    "num_pairs", "num_prompts", "pair_accuracy", "pair_accuracy_se", "length_accuracy", "pair_accuracy_chosen_longer",
    "pair_accuracy_chosen_shorter", "gap_length_correlation", "raw_pair_accuracy", "raw_pair_accuracy_se",
    "raw_gap_length_correlation", "length_penalty", "loss",
)  # fmt: skip


@dataclass
class AspectReward:
    """
    A trained proxy reward: a model, or a head of one.

    Args:
        aspect (`str`): Its aspect.
        path (`str`): Folder of the model or adapter, with its tokenizer and `pd_reward.json`; the same for all heads of one.
        num_train (`int`): Pairs it was trained on.
        metrics (`dict`): Held-out metrics, see [`~method.accuracy.vote_metrics`], and `share_longer`, `share_longer_drawn`: the share of
            training pairs whose chosen response is the longer one, before and after length balancing.
    """

    aspect: str
    path: str
    num_train: int
    metrics: dict[str, float]


def fill_sidecar(trainer: Any, aspects: str | list[str], metrics: dict[str, float]) -> None:
    """
    Completes what is saved beside the weights.

    Args:
        trainer ([`PDRewardTrainer`]): The trainer, evaluated if there are held-out pairs.
        aspects (`str` or `list` of `str`): The aspect of its model, or those of its heads.
        metrics (`dict`): What `evaluate` returned.
    """
    sidecar, rows = trainer.sidecar_, trainer.train_dataset
    overall = _reported({name.removeprefix("eval_"): value for name, value in metrics.items()})
    sidecar.num_train, sidecar.metrics = len(rows), overall | _balance(rows, trainer.args)
    if isinstance(aspects, str):
        sidecar.aspect = aspects
        return
    labels = np.asarray(rows["aspect"][:])
    for aspect in aspects:
        own = rows.select(np.flatnonzero(labels == aspect))
        measured = _reported(trainer.aspect_metrics_.get(aspect, {})) | _balance(own, trainer.args)
        sidecar.heads[aspect] |= {"num_train": len(own), "metrics": measured}


def rewards_in(folder: Path, manifest: Manifest, aspects: str | list[str]) -> dict[str, AspectReward]:
    """The proxy rewards that a finished `folder` holds, by what its manifest says."""
    if isinstance(aspects, str):
        return {
            aspects: AspectReward(aspects, str(folder), manifest.counts["train"], dict(manifest.results["metrics"]))
        }
    found = {aspect: manifest.results["heads"][aspect] for aspect in aspects}
    return {a: AspectReward(a, str(folder), head["num_train"], dict(head["metrics"])) for a, head in found.items()}


def _reported(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name in _REPORTED}


def _balance(rows: Dataset, args: Any) -> dict[str, float]:
    lengths = [np.array([len(ids) for ids in rows[f"{side}_ids"]]) for side in ("chosen", "rejected")]
    share = float((lengths[0] >= lengths[1]).mean())
    drawn = share
    if args.balances_length and 0 < share < 1:
        drawn = balanced_shares(share, args.length_balance_temperature)[0]
    return {"share_longer": share, "share_longer_drawn": drawn}


def warn_of_weakness(aspect: str, metrics: Mapping[str, float]) -> None:
    """Warns of a reward model that is worse than a coin, or not better than it or than "longer wins", by two standard errors."""
    found = verdict(metrics)
    if found == "not measured":
        return
    accuracy, error = 100 * metrics["pair_accuracy"], 100 * metrics["pair_accuracy_se"]
    measured = f"right on {accuracy:.1f} ± {error:.1f} % of {metrics['num_pairs']} held-out pairs"
    if found == "worse than a coin":
        logger.warning(
            "The reward model of '%s' is worse than a coin: %s. Check whether chosen and rejected are swapped in a part of the "
            "data, and whether its length penalty is too large.",
            aspect, measured,
        )  # fmt: skip
    elif found == "no better than a coin":
        logger.warning(
            "The reward model of '%s' is no better than a coin: %s. Hold out more prompts to be sure, or leave it out of PD "
            "with `min_proxy_accuracy` or a weight of 0.", aspect, measured,
        )  # fmt: skip
    elif found == "no better than length":
        logger.warning(
            "The reward model of '%s' is no better than 'longer wins' (%.1f %%): %s. Its gaps may only count words: try "
            "`length_penalty='auto'`, or leave it out with a weight of 0.",
            aspect, 100 * metrics["length_accuracy"], measured,
        )  # fmt: skip
    else:
        logger.info("The reward model of '%s' is %s.", aspect, measured)
