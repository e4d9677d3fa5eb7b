"""[`PDDPOTrainer`]: TRL's DPOTrainer on the pairs that Preference Divergence keeps, with the DFPO loss on request."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray
from transformers import (
    BitsAndBytesConfig,
    DataCollator,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TrainerCallback,
)
from transformers.trainer_utils import EvalPrediction
from trl import DPOConfig, DPOTrainer

from ...data.ids import row_keys
from ...errors import InputError
from ...method.ranking import parse_budget, select_ranked
from ...models.inputs import naming_missing_pad
from ...runs.provenance import loaded_revision, trained_on
from ...selection.aspect_columns import numeric_column, scored_aspects
from ...selection.reasons import ALL_PAIRS, NO_VOTES
from ..arguments import default_arguments
from ..base import EvalDataset, PreferenceTrainer
from ..preparation import naming_images, token_counts, trained_rows
from .config import PDDPOConfig

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

logger = logging.getLogger(__name__)

_PD_INPUT = "preference_divergence"


class PDDPOTrainer(PreferenceTrainer, DPOTrainer):
    """
    Trainer for Direct Preference Optimization on the pairs that Preference Divergence keeps
    ([arXiv 2508.07638](https://huggingface.co/papers/2508.07638)).

    A drop-in subclass of [`~trl.DPOTrainer`], with working `train_sampling_strategy="group_by_length"`. With `pd_budget` it
    trains on exactly the pairs of lowest PD and says how many it left out; with `pd_loss="dfpo"` it trains with Eq. 4.
    `selection_` then holds what was selected.

    Example:

    ```python
    >>> from pd_trl import PDDPOConfig, PDDPOTrainer, PDFilter

    >>> trainer = PDDPOTrainer(
    ...     model="Qwen/Qwen2.5-0.5B-Instruct",
    ...     args=PDDPOConfig("dpo", pd_budget=0.3),
    ...     train_dataset=PDFilter(1.0)(scored),  # all rows, with the column `pd`
    ... )
    >>> trainer.train()
    ```

    Args:
        model, ref_model, data_collator, eval_dataset, processing_class, compute_metrics, callbacks, optimizers,
        quantization_config, peft_config:
            As in [`~trl.DPOTrainer`].
        args ([`PDDPOConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used. A plain [`~trl.DPOConfig`] is taken
            with our own parameters at their defaults.
        train_dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`] or `str`):
            As in [`~trl.DPOTrainer`], or the Hub id or path of a data set, whose split `train` is used. The column `pd_column`
            is needed by `pd_budget` and `pd_loss`. Of a published selection, `pd_budget` selects among all pairs; without it
            the kept ones are used. A column `image` or `images` without a single image is left out.

    Attributes:
        selection_ (`dict`, *optional*): What was selected, for the card: `total`, `kept`, `dropped`, `threshold`, `column`.
        datasets_ (`list` of `str`): Hub ids of the training data, for the card.
        prefix_sharing_ ([`~trainers.prefix_sharing.sharing.PrefixSharing`], *optional*): With `share_prefix`, how much it saved.

    Raises:
        InputError: When the PD column is missing or has missing values, when the budget is more than there is, or when an
            `IterableDataset` is given a `pd_budget`. With `share_prefix`, when the model or a setting does not allow it.
        HubError: With `push_to_hub`, when the Hub would refuse the push.
    """

    beta: float
    precompute_ref_logps: bool
    data_collator: Any
    _tag_names = [*DPOTrainer._tag_names, "preference", "pd_trl"]
    _dropped_because = "left no completion by max_length={max_length} tokens"

    def __init__(
        self,
        model: "str | PreTrainedModel | PeftModel",
        ref_model: PreTrainedModel | None = None,
        args: PDDPOConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Dataset | IterableDataset | str | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | ProcessorMixin | None = None,
        compute_metrics: Callable[[EvalPrediction], dict] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: "BitsAndBytesConfig | None" = None,
        peft_config: "PeftConfig | None" = None,
    ):
        args = default_arguments(args, PDDPOConfig, DPOConfig, model)
        self._check_arguments(args)
        self.datasets_: list[str] = []
        self._dataset_revision: str | None = None
        if isinstance(train_dataset, str):
            from ...data.sources import load_source

            self.datasets_ = trained_on(train_dataset)
            part = "scored" if args.pd_budget is not None else "selected"
            train_dataset = load_source(train_dataset, split="train", prefer=part)
            self._dataset_revision = loaded_revision(train_dataset)
        self.selection_: dict[str, Any] | None = None
        if args.pd_budget is not None:
            train_dataset, self.selection_ = select_for_training(train_dataset, args.pd_budget, args.pd_column)
        train_dataset = trained_rows(train_dataset, "train")
        eval_dataset = trained_rows(eval_dataset, "eval")
        self._kappa = _num_aspects(train_dataset, args) if args.pd_loss == "dfpo" else None
        # What Eq. 4 multiplies the margin by, at the `beta` of the arguments.
        self._margin_scale = 1 if args.pd_divide_beta else self._kappa or 1
        _say_strength(self._kappa, args)
        with naming_missing_pad(), naming_images():
            super().__init__(
                model=model,
                ref_model=ref_model,
                args=args,
                data_collator=data_collator,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                quantization_config=quantization_config,
                peft_config=peft_config,
            )
        if self._kappa is not None:
            self.data_collator = _CollatorWithDivergence(self.data_collator, args.pd_column)
        self._check_trainer()

    def _row_lengths(self, dataset: Dataset, args: Any) -> NDArray[np.int64]:
        prompt, chosen, rejected = token_counts(dataset, "prompt_ids", "chosen_ids", "rejected_ids")
        return np.minimum(prompt + np.maximum(chosen, rejected), args.max_length or np.inf).astype(np.int64)

    def _own_columns(self) -> list[str]:
        return [self.args.pd_column] if self._kappa is not None else []

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k != _PD_INPUT})

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self._kappa is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        divergence = inputs.pop(_PD_INPUT)
        beta, precomputed = self.beta, self.precompute_ref_logps
        if not precomputed:
            reference = self.ref_model if self.ref_model is not None else model
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = self.compute_ref_log_probs(reference, inputs)
        # sigmoid(scale * beta * (log-ratio difference) + pd) is TRL's loss at scale * beta with the reference shifted.
        self.beta = self._margin_scale * beta
        inputs["ref_chosen_logps"] = inputs["ref_chosen_logps"] - divergence / self.beta
        self.precompute_ref_logps = True
        try:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.beta, self.precompute_ref_logps = beta, precomputed
        self._unshift_metrics(divergence)
        return result

    def _card_facts(self) -> dict[str, Any]:
        loss = "DFPO (Eq. 4 of arXiv 2508.07638; v1 calls it DMPO)" if self.args.pd_loss == "dfpo" else "DPO"
        kinds = [kind for kind in self.loss_types if kind != "sigmoid"]
        if self._kappa is not None:
            loss += ", with beta divided by kappa" if self.args.pd_divide_beta else ", with beta as given"
            loss += f" (kappa = {self._kappa})"
        loss += f" with the loss {', '.join(kinds)}" if kinds else ""
        facts = {"kind": "policy", "selection": self.selection_, "loss": loss}
        known = {"datasets": self.datasets_, "dataset_revision": self._dataset_revision}
        return {**facts, **known} if self.datasets_ else facts

    def _unshift_metrics(self, divergence: torch.Tensor) -> None:
        """Turns the logged rewards of the shifted call into those of the policy: `beta` times the log-ratio."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        shift = self.accelerator.gather(divergence).mean().item()
        for name, offset in (("rewards/chosen", shift), ("rewards/rejected", 0.0), ("rewards/margins", shift)):
            if metrics.get(name):
                metrics[name][-1] = (metrics[name][-1] - offset) / self._margin_scale
        # The accuracy cannot be unshifted from its mean: it stays, under the name of what it is.
        if metrics.get("rewards/accuracies"):
            metrics["dfpo/logit_accuracies"].append(metrics["rewards/accuracies"].pop())
            if not metrics["rewards/accuracies"]:
                del metrics["rewards/accuracies"]


def select_for_training(
    dataset: Dataset | IterableDataset | None, budget: float | str, column: str
) -> tuple[Dataset, dict[str, Any]]:
    """
    The rows of `dataset` with the lowest values of `column`, in their order, and a record of the selection: `total`,
    `kept`, `dropped`, `threshold`, `column`.
    """
    if isinstance(dataset, IterableDataset):
        raise InputError(
            "`pd_budget` ranks all rows, which an `IterableDataset` cannot hold. Filter the stream first with a "
            "fitted `PDFilter` (`PDFilter.load(path).transform(stream)`), or pass a `Dataset`."
        )
    if not isinstance(dataset, Dataset):
        raise InputError(f"`train_dataset` must be a `Dataset` to select from, got `{type(dataset).__name__}`.")
    values = divergence_column(dataset, column, without=_without_votes(dataset))
    kept, thresholds = select_ranked(values, row_keys(dataset), parse_budget(budget))
    silent = int(np.isnan(values).sum())
    if silent:
        logger.warning(
            "%d of %d pairs have no PD (%s) and are left out; the budget is a share of the others.",
            silent, len(dataset), NO_VOTES,
        )  # fmt: skip
    selection = {
        "total": len(dataset),
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        "threshold": thresholds[ALL_PAIRS].score,
        "column": column,
    }
    logger.info(
        "Training on %(kept)d of %(total)d pairs with %(column)s <= %(threshold).4f; %(dropped)d dropped.", selection
    )
    return dataset.select(np.flatnonzero(kept)), selection


def _without_votes(dataset: Dataset) -> np.ndarray | None:
    """Mask of the pairs that a selection dropped since no other aspect votes on them."""
    if "pd_reason" not in dataset.column_names:
        return None
    return np.array([reason == NO_VOTES for reason in dataset["pd_reason"][:]], dtype=bool)


def divergence_column(dataset: Dataset, column: str, without: np.ndarray | None = None) -> np.ndarray:
    """
    Values of the PD column, shape `(num_pairs,)`; raises `InputError` where it is missing or has missing values, but for the pairs
    `without` votes.
    """
    if column not in dataset.column_names:
        raise InputError(
            f"The data set has no column {column!r} to select by; its columns are {', '.join(dataset.column_names)}. Score it "
            "with `PDFilter` or `pd-trl select` first, or name the column with `pd_column`."
        )
    values = numeric_column(dataset, column).astype(np.float32)
    unusable = np.isinf(values) | (np.isnan(values) if without is None else np.isnan(values) & ~without)
    missing = np.flatnonzero(unusable)
    if missing.size:
        raise InputError(
            f"Column {column!r} must hold finite numbers, got {values[missing[0]]} in row {missing[0]} ({missing.size} such "
            "rows)."
        )
    return values


def _num_aspects(dataset: Any, args: PDDPOConfig) -> int:
    if args.pd_num_aspects is not None:
        return args.pd_num_aspects
    # The gap of the overall label is no aspect's.
    count = len(scored_aspects(getattr(dataset, "column_names", None) or []))
    if count < 2:
        raise InputError(
            "`pd_loss='dfpo'` needs the number of aspects (kappa of Eq. 4), and the training set has `reward_gap_<aspect>` columns "
            f"of {count} aspects. Set `pd_num_aspects`."
        )
    if isinstance(dataset, Dataset):
        divergence_column(dataset, args.pd_column)
    return count


def _say_strength(kappa: int | None, args: PDDPOConfig) -> None:
    if kappa is None:
        return
    if args.pd_divide_beta:
        logger.info(
            "DFPO: beta = %g is divided by kappa = %d, so that the loss is as strong as DPO's.", args.beta, kappa
        )
        return
    logger.warning(
        "DFPO: Eq. 4 multiplies the margin by kappa = %d, so that beta = %g acts as %g does in DPO. `pd_divide_beta=True` "
        "trains with the strength of DPO.",
        kappa, args.beta, kappa * args.beta,
    )  # fmt: skip


@dataclass
class _CollatorWithDivergence:
    """Adds the PD of each pair to a batch."""

    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    column: str

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        values: list[Any] = [example.get(self.column) for example in examples]
        missing = [i for i, value in enumerate(values) if value is None or not math.isfinite(float(value))]
        if missing:
            raise InputError(
                f"`pd_loss='dfpo'` needs a finite number in the column {self.column!r} in every row, for evaluation sets too; "
                f"example {missing[0]} of a batch has {values[missing[0]]}."
            )
        batch = self.collator(examples)
        batch[_PD_INPUT] = torch.tensor([float(value) for value in values])
        return batch
