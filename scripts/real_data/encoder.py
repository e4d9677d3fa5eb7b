"""Proxies on a frozen pretrained encoder, trained with `PDRewardTrainer`: a reward head on cached embeddings."""

import tempfile

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PrinterCallback, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput

from pd_trl import PDRewardTrainer
from pd_trl.method.length import adjusted_gap

from .features import FrozenEncoder
from .handling import Handling
from .sets import RealSet
from .training import held_out_rows, training_arguments


class HeadConfig(PretrainedConfig):
    """Configuration of [`EmbeddingReward`]."""

    model_type = "embedding_reward"

    def __init__(self, width: int = 384, hidden: int = 64, dropout: float = 0.1, **kwargs):
        super().__init__(**{"num_labels": 1, "pad_token_id": 0, "eos_token_id": 102, **kwargs})
        self.width, self.hidden, self.dropout = width, hidden, dropout


class EmbeddingReward(PreTrainedModel):
    """
    Reward of `prompt [SEP] response`: a head of one hidden layer on frozen features, which are looked up by the row's tokens
    and computed where they are not known.

    Args:
        config ([`HeadConfig`]): Sizes.
        encoder ([`FrozenEncoder`]): Makes the features. It is not trained and not saved with the model.
        known (`dict`): Features by the tuple of a row's tokens; filled as rows come.
    """

    config_class = HeadConfig

    def __init__(self, config: HeadConfig, encoder: FrozenEncoder, known: dict[tuple[int, ...], NDArray[np.float32]]):
        super().__init__(config)
        self.encoder, self.known = encoder, known
        self.dense = nn.Linear(2 * config.width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(config.hidden, 1, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, margin=None, **kwargs) -> SequenceClassifierOutput:
        """`margin` belongs to TRL's loss and is not used here."""
        rows = [tuple(row[: int(n)]) for row, n in zip(input_ids.tolist(), attention_mask.sum(1), strict=True)]
        unknown = list(dict.fromkeys(row for row in rows if row not in self.known))
        if unknown:
            self.known.update(zip(unknown, self.encoder.features([list(row) for row in unknown]), strict=True))
        return SequenceClassifierOutput(
            logits=self.rewards(torch.from_numpy(np.stack([self.known[row] for row in rows])))
        )

    def rewards(self, features: torch.Tensor) -> torch.Tensor:
        """Rewards of shape `(num_texts, 1)`."""
        return self.score(torch.tanh(self.dense(self.dropout(features))))


class EncoderProxies:
    """
    Trains proxies of one set with [`~pd_trl.PDRewardTrainer`].

    Args:
        real ([`RealSet`]): The set.
        encoder ([`FrozenEncoder`]): The encoder.
        ids (`list[list[int]]`): Tokens of each of the set's texts.
        features (array of shape `(num_texts, 2 * width)`): Their features.
        settings (`dict`): `learning_rate`, `num_train_epochs`, `batch_size`, `hidden`, `weight_decay`.
    """

    def __init__(
        self,
        real: RealSet,
        encoder: FrozenEncoder,
        ids: list[list[int]],
        features: NDArray[np.float32],
        settings: dict[str, float],
    ):
        self.real, self.encoder, self.ids, self.features, self.settings = real, encoder, ids, features, settings
        self.known = dict(zip(map(tuple, ids), features, strict=True))
        lengths = np.array([len(row) for row in ids])
        # The prompt and the special tokens are the same on both sides.
        self.delta_length = lengths[real.chosen] - lengths[real.rejected]

    def train(self, rows: NDArray[np.integer], handling: Handling, rho: float) -> tuple[EmbeddingReward, float]:
        """A head trained on `rows`, and its penalty: `rho`, or what the trainer chose on a fifth of the rows' prompts."""
        seed = self.real.seed
        set_seed(seed)
        model = EmbeddingReward(HeadConfig(self.encoder.width, int(self.settings["hidden"])), self.encoder, self.known)
        held_out = held_out_rows(self.real, rows, handling)
        with tempfile.TemporaryDirectory() as folder:
            args = training_arguments(folder, self.settings, handling, rho, seed)
            trainer = PDRewardTrainer(
                model=model,
                args=args,
                train_dataset=self._tokens(rows[~held_out]),
                eval_dataset=self._tokens(rows[held_out]) if handling.at_scoring else None,
                processing_class=self.encoder.tokenizer,
            )
            # It prints to the terminal where there is no progress bar.
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            if handling.at_scoring:
                rho = trainer.evaluate()["eval_length_penalty"]
        return model.eval(), rho

    def _tokens(self, rows: NDArray[np.integer]) -> Dataset:
        sides = {"chosen_ids": self.real.chosen, "rejected_ids": self.real.rejected}
        return Dataset.from_dict({name: [self.ids[i] for i in side[rows]] for name, side in sides.items()})

    @torch.no_grad()
    def gaps(
        self, model: EmbeddingReward, rows: NDArray[np.integer], handling: Handling, rho: float
    ) -> NDArray[np.float32]:
        """Adjusted gaps of `rows`: what `score_pairs` gives, without tokenising the texts again."""
        rewards = model.rewards(torch.from_numpy(self.features)).squeeze(-1).numpy()
        raw = rewards[self.real.chosen[rows]] - rewards[self.real.rejected[rows]]
        return adjusted_gap(raw, self.delta_length[rows], rho, handling.correction)


def encoder_gaps(
    proxies: EncoderProxies, handling: Handling, unified: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[dict]]:
    """Held-out gaps as of [`linear.linear_gaps`], by heads trained with [`~pd_trl.PDRewardTrainer`]."""
    real = proxies.real
    gaps = np.zeros((len(real), len(real.aspects)), dtype=np.float32)
    margin = np.zeros(len(real), dtype=np.float32) if unified else None
    notes = []
    for fold in np.unique(real.folds):
        test = np.flatnonzero(real.folds == fold)
        train, shared = real.training_rows(int(fold))
        rho = handling.per_token(proxies.delta_length[train])
        for k, aspect in enumerate(real.aspects):
            rows = train[real.own[train] == k]
            model, used = proxies.train(rows, handling, rho)
            gaps[test, k] = proxies.gaps(model, test, handling, used)
            notes.append(
                {"fold": int(fold), "aspect": aspect, "num_train": len(rows), "left_out_shared": shared, "rho": used}
            )
        if margin is not None:
            model, used = proxies.train(train, handling, rho)
            margin[test] = proxies.gaps(model, test, handling, used)
    return gaps, margin, notes
