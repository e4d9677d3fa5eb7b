"""Proxies on a frozen pretrained language model: a [`MultiAspectRewardModel`] whose heads `PDRewardTrainer` trains."""

import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PrinterCallback, set_seed

from pd_trl import PDRewardTrainer
from pd_trl.method.length import adjusted_gap
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.trainers.reward.heads.reading import RESPONSE_TOKENS

from .handling import Handling
from .language_model import FrozenLanguageModel, features_of
from .sets import RealSet
from .training import held_out_rows, training_arguments

UNIFIED_HEAD = "overall"


class LanguageModelProxies:
    """
    Trains heads of one set.

    Args:
        real ([`RealSet`]): The set.
        lm ([`FrozenLanguageModel`]): The language model.
        ids (`list[list[int]]`): Tokens of each of the set's texts.
        counts (array of shape `(num_texts,)`): How many of them are the response's.
        states (array): [`FrozenLanguageModel.states`] of the texts.
        settings (`dict`): `pooling`, `layers`, `learning_rate`, `num_train_epochs`, `batch_size`, `weight_decay`.
    """

    def __init__(
        self,
        real: RealSet,
        lm: FrozenLanguageModel,
        ids: list[list[int]],
        counts: NDArray[np.integer],
        states: NDArray[np.float32],
        settings: dict[str, Any],
    ):
        self.real, self.lm, self.ids, self.counts, self.settings = real, lm, ids, counts, settings
        self.features = torch.from_numpy(features_of(states, lm.layers, settings["pooling"], settings["layers"]))
        self.delta_length = counts[real.chosen] - counts[real.rejected]
        self._models: dict[tuple[str, ...], MultiAspectRewardModel] = {}

    def train(
        self, rows: NDArray[np.integer], labels: list[str], handling: Handling, rho: float
    ) -> tuple[MultiAspectRewardModel, dict[str, float]]:
        """
        A model with a head for each of `labels`, trained on `rows`, and its penalties: `rho`, or what the trainer chose on a
        fifth of the rows' prompts.
        """
        real, chosen, aspects = self.real, self.settings, sorted(set(labels))
        set_seed(real.seed)
        model = self._new_model(aspects)
        held_out = held_out_rows(real, rows, handling)
        own = np.array(labels)
        with tempfile.TemporaryDirectory() as folder:
            args = training_arguments(
                folder, chosen, handling, rho, real.seed,
                freeze_backbone=True, per_device_eval_batch_size=chosen["batch_size"],
            )  # fmt: skip
            trainer = PDRewardTrainer(
                model=model, args=args, train_dataset=self.tokens(rows[~held_out], own[~held_out]),
                eval_dataset=self.tokens(rows[held_out], own[held_out]) if handling.at_scoring else None,
                processing_class=self.lm.tokenizer,
            )  # fmt: skip
            # It prints to the terminal where there is no progress bar.
            trainer.remove_callback(PrinterCallback)
            # The states are on disk already: the backbone is not run.
            for text in np.unique([real.chosen[rows], real.rejected[rows]]):
                count = int(self.counts[text]) if chosen["pooling"] == "mean" else 0
                trainer.frozen_features_.put(self.ids[text], count, self.features[text])
            trainer.train()
            if handling.at_scoring:
                trainer.evaluate()
        penalties = {a: trainer.sidecar_.of_head(a).length_penalty if handling.at_scoring else rho for a in aspects}
        return model.eval(), penalties

    def _new_model(self, aspects: list[str]) -> MultiAspectRewardModel:
        """The model with heads that are new; its backbone is loaded once."""
        key = tuple(aspects)
        if key not in self._models:
            self._models[key] = MultiAspectRewardModel.from_backbone(
                self.lm.folder,
                aspects,
                pooling=self.settings["pooling"],
                layers=self.settings["layers"],
                standardize=True,
            )
        model = self._models[key]
        torch.nn.init.zeros_(model.score.weight)
        torch.nn.init.zeros_(model.score.scale)
        return model

    def tokens(self, rows: NDArray[np.integer], labels: NDArray) -> Dataset:
        """`rows` as [`PDRewardTrainer`] takes them, with the aspect that each is trained on."""
        columns: dict[str, Any] = {
            "aspect": labels.tolist(),
            "prompt_id": self.real.prompts[rows].astype(str).tolist(),
        }
        for name, side, count in zip(("chosen_ids", "rejected_ids"), self._sides(rows), RESPONSE_TOKENS, strict=True):
            columns |= {name: [self.ids[i] for i in side], count: self.counts[side].tolist()}
        return Dataset.from_dict(columns)

    def _sides(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        return self.real.chosen[rows], self.real.rejected[rows]

    @torch.no_grad()
    def gaps(self, model: MultiAspectRewardModel, rows: NDArray[np.integer]) -> dict[str, NDArray[np.float32]]:
        """Raw gaps of `rows` by each head."""
        chosen, rejected = self._sides(rows)
        rewards = model(features=self.features).logits.numpy()
        return {aspect: rewards[chosen, k] - rewards[rejected, k] for k, aspect in enumerate(model.aspects)}


def language_model_gaps(
    proxies: LanguageModelProxies, handling: Handling, unified: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[dict]]:
    """Held-out gaps as of [`linear.linear_gaps`], by heads on a language model."""
    real, delta = proxies.real, proxies.delta_length
    gaps = np.zeros((len(real), len(real.aspects)), dtype=np.float32)
    margin = np.zeros(len(real), dtype=np.float32) if unified else None
    notes = []
    for fold in np.unique(real.folds):
        test = np.flatnonzero(real.folds == fold)
        train, shared = real.training_rows(int(fold))
        rho = handling.per_token(delta[train])
        model, used = proxies.train(train, [real.aspects[k] for k in real.own[train]], handling, rho)
        for aspect, raw in proxies.gaps(model, test).items():
            k, penalty = real.aspects.index(aspect), used[aspect]
            gaps[test, k] = adjusted_gap(raw, delta[test], penalty, handling.correction)
            notes.append(
                {"fold": int(fold), "aspect": aspect, "num_train": int((real.own[train] == k).sum()),
                 "left_out_shared": shared, "rho": penalty}
            )  # fmt: skip
        if margin is not None:
            model, used = proxies.train(train, [UNIFIED_HEAD] * len(train), handling, rho)
            raw = proxies.gaps(model, test)[UNIFIED_HEAD]
            margin[test] = adjusted_gap(raw, delta[test], used[UNIFIED_HEAD], handling.correction)
    return gaps, margin, notes
