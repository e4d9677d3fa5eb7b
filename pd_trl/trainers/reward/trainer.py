"""[`PDRewardTrainer`]: TRL's RewardTrainer with length balancing and the length term of Eq. 16 and 17."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray
from transformers import BitsAndBytesConfig, DataCollator, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, EvalPrediction
from trl import RewardConfig, RewardTrainer

from ...errors import InputError
from ...method.length import PENALTY_RULES, training_margin
from ...models.heads.names import heads_of_model
from ...models.inputs import naming_missing_pad
from ...models.sidecar import RewardSidecar
from ..arguments import default_arguments
from ..base import EvalDataset, PreferenceTrainer
from ..preparation import token_counts, trained_rows
from .config import PDRewardConfig
from .evaluation import HeldOutPairs, measure_pairs
from .heads.batches import AspectBalancedSampler, aspect_ids, check_aspect_column
from .heads.reading import RESPONSE_TOKENS, FrozenFeatures, measure_features, needs_responses, with_response_tokens
from .heads.training import check_heads, passing_for_one_output, set_up_heads, with_target_modules
from .rows import MARGIN, PAIR_KEYS, PairCollator, check_margin, keys_of_batch, share_of, with_pair_keys
from .sampler import LengthBalancedSampler
from .saved_head import ensure_score_is_saved, has_head

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

logger = logging.getLogger(__name__)

_NEUTRAL = {"length_balance_temperature": None, "length_penalty": 0.0, "margin_column": MARGIN}


class PDRewardTrainer(PreferenceTrainer, RewardTrainer):
    """
    Trainer for the proxy reward models of Preference Divergence
    ([arXiv 2508.07638](https://huggingface.co/papers/2508.07638)).

    A drop-in subclass of [`~trl.RewardTrainer`], with length-balanced sampling, the length penalty of Eq. 16, exact
    evaluation metrics split by length, working `train_sampling_strategy="group_by_length"`, and a count of the rows that
    TRL filters for their length.

    `evaluate()` adds, for each evaluation set and whatever the batch size:

    - of the gap that enters the PD (Eq. 17): `pair_accuracy` with its standard error by prompt `pair_accuracy_se`,
      `pair_accuracy_chosen_longer`, `pair_accuracy_chosen_shorter` and `gap_length_correlation`;
    - of the raw gap on the same pairs: `raw_pair_accuracy`, `raw_pair_accuracy_se` and `raw_gap_length_correlation`;
    - `length_accuracy` (of the rule "longer wins"), `num_pairs` and `num_prompts`.

    A rule of `length_penalty` chooses the penalty on the trainer's own evaluation set: on the pairs of half of its prompts. The
    accuracy is then that on the other half. Any other set is measured with the penalty that was chosen before.

    Example:

    ```python
    >>> from pd_trl import PDRewardConfig, PDRewardTrainer

    >>> trainer = PDRewardTrainer(
    ...     model="Qwen/Qwen2.5-0.5B-Instruct",
    ...     args=PDRewardConfig("rm-honesty", length_balance_temperature=1.0, length_penalty=0.001),
    ...     train_dataset=preferences.filter(lambda row: row["aspect"] == "honesty"),
    ... )
    >>> trainer.train()
    ```

    Args:
        model, data_collator, train_dataset, eval_dataset, processing_class, compute_metrics, callbacks, optimizers,
        optimizer_cls_and_kwargs, preprocess_logits_for_metrics, quantization_config, peft_config:
            As in [`~trl.RewardTrainer`], with one exception: an adapter always saves a new reward head. A `peft_config` that
            neither saves it nor names it in `target_modules`, such as a `LoraConfig()` without a `task_type` on a language
            model, gets `"score"` added to its `modules_to_save`. Under TRL the head of such an adapter is random again after
            each loading.
        args ([`PDRewardConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used. With a plain
            [`~trl.RewardConfig`], length balancing and penalty are off: the losses are TRL's.

    Attributes:
        sidecar_ ([`RewardSidecar`]): The content of `pd_reward.json`, which is saved beside the weights.
        prefix_sharing_ ([`~trainers.prefix_sharing.sharing.PrefixSharing`], *optional*): With `share_prefix`, how much it saved.
        aspect_metrics_ (`dict`): Of a model with heads: metrics of the last evaluation by aspect.

    Raises:
        InputError: When length balancing is on for an `IterableDataset`, or no row is left to train on. With `share_prefix`,
            when the model or a setting does not allow it.
        HubError: With `push_to_hub`, when the Hub would refuse the push.
    """

    data_collator: Any
    _tag_names = [*RewardTrainer._tag_names, "preference", "pd_trl"]
    _paper = {
        "title": "Data Selection for LLM Alignment Using Fine-Grained Preferences",
        "id": "2508.07638",
    }
    _dropped_because = "longer than max_length={max_length} tokens"

    def __init__(
        self,
        model: "str | PreTrainedModel | PeftModel",
        args: PDRewardConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable[[EvalPrediction], dict] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        quantization_config: "BitsAndBytesConfig | None" = None,
        peft_config: "PeftConfig | None" = None,
    ):
        as_trl = args is not None and not isinstance(args, PDRewardConfig)
        args = default_arguments(args, PDRewardConfig, RewardConfig, model, neutral=_NEUTRAL)
        self._check_arguments(args)
        if args.length_penalty in PENALTY_RULES and eval_dataset is None:
            logger.warning(
                f"`length_penalty='{args.length_penalty}'` chooses the penalty on held-out pairs, but there is no `eval_dataset`: gaps keep "
                "their length bias. Pass an `eval_dataset` and call `evaluate()` before saving, or set a number."
            )
        if isinstance(train_dataset, IterableDataset) and args.balances_length:
            raise InputError(
                "Length-balanced sampling needs the length of every row before the first step, which an `IterableDataset` "
                "does not have. Pass a `Dataset`, or set `length_balance_temperature=None`."
            )
        if isinstance(train_dataset, Dataset) and args.train_share < 1:
            train_dataset = share_of(train_dataset, args.train_share, args.seed)
        self._eval_rows: list[tuple[torch.Tensor, ...]] | None = None
        self._reads_margin_as_trl, self._train_is_prepared, self._chooses_penalty = as_trl, False, False
        self._penalty_step: int | None = None
        self._margin_per_token = training_margin(args.length_penalty, args.length_correction)
        revision = (args.model_init_kwargs or {}).get("revision")
        self._aspects = heads_of_model(model, revision)
        check_heads(args, model, self._aspects)
        self._needs_responses = needs_responses(model)
        self.frozen_features_: FrozenFeatures | None = None
        # The heads of several aspects are always an adapter's own.
        base_has_head = self._aspects is None and has_head(model, revision)
        self.aspect_metrics_: dict[str, dict[str, float]] = {}
        train_dataset = trained_rows(train_dataset, "train", images=False)
        eval_dataset = trained_rows(eval_dataset, "eval", images=False)
        with passing_for_one_output(model), naming_missing_pad():
            super().__init__(
                model=model,
                args=args,
                data_collator=data_collator,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
                preprocess_logits_for_metrics=preprocess_logits_for_metrics,
                quantization_config=quantization_config,
                peft_config=with_target_modules(ensure_score_is_saved(peft_config, base_has_head), model),
            )
        self.data_collator = PairCollator(self.data_collator, args.margin_column, as_trl)
        self.sidecar_ = RewardSidecar.of(args, self._aspects or (), pad_token_id=self.processing_class.pad_token_id)
        if self._aspects is not None:
            set_up_heads(self, self._aspects)
        # So that the model, scored in memory, is scored as it was trained.
        self.model.pd_reward_sidecar = self.sidecar_
        self._check_trainer()

    def _check_rows(self, dataset: Any, args: Any, dataset_name: str) -> None:
        if self._aspects is not None:
            check_aspect_column(dataset, self._aspects, dataset_name)
        if not self._reads_margin_as_trl:
            check_margin(dataset, args.margin_column, dataset_name)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if self._needs_responses:
            prepared = with_response_tokens(prepared, processing_class, dataset_name)
        if self._train_is_prepared:
            return with_pair_keys(prepared)
        # The first set that the constructor prepares is the training set.
        self._train_is_prepared = True
        return prepared

    def _row_lengths(self, dataset: Dataset, args: Any) -> NDArray[np.int64]:
        return np.maximum(*token_counts(dataset, "chosen_ids", "rejected_ids"))

    def _own_columns(self) -> list[str]:
        names = [PAIR_KEYS, self.args.margin_column, "aspect" if self._aspects else None]
        names += RESPONSE_TOKENS if self._needs_responses else ()
        return [name for name in names if name is not None]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not self.args.balances_length or not isinstance(dataset, Dataset):
            return super()._get_train_sampler(train_dataset)
        chosen, rejected = token_counts(dataset, "chosen_ids", "rejected_ids")
        settings: dict[str, Any] = {
            "temperature": self.args.length_balance_temperature,
            "seed": self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            # `set_epoch` does not reach a custom sampler after a mid-epoch resume or with several processes.
            "epoch": lambda: int((self.state.epoch or 0) + 1e-6),
            "lengths": np.maximum(chosen, rejected) if self.args.sampling_strategy == "group_by_length" else None,
            "batch_size": self.args.train_batch_size * self.args.gradient_accumulation_steps,
        }
        if self._aspects is None:
            return LengthBalancedSampler(chosen - rejected, **settings)
        heads = aspect_ids(dataset["aspect"][:], self._aspects)
        return AspectBalancedSampler(chosen - rejected, heads, **settings)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.frozen_features_ is not None:
            inputs = {**inputs, "features": self.frozen_features_.of(inputs)}
        recorded = None if self.model.training else self._eval_rows
        keys = inputs.pop(PAIR_KEYS, None)
        if recorded is None and self._margin_per_token == 0:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # The prompt and the template are the same on both sides, so this is the difference in completion tokens.
        chosen_length, rejected_length = inputs["attention_mask"].sum(dim=1).chunk(2)
        delta_length = chosen_length - rejected_length
        if self._margin_per_token != 0:
            inputs = {**inputs, "margin": inputs.get("margin", 0.0) + self._margin_per_token * delta_length}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if recorded is not None:
            keys = keys_of_batch(inputs) if keys is None else keys
            chosen, rejected = outputs.logits.detach().squeeze(-1).chunk(2)
            rows: tuple[torch.Tensor, ...] = ((chosen - rejected).float(), delta_length, keys)
            if self._aspects is not None:
                rows = (*rows, inputs["aspect_ids"].chunk(2)[0])
            recorded.append(tuple(column.cpu() for column in self.accelerator.gather_for_metrics(rows)))
        return (loss, outputs) if return_outputs else loss

    def train(self, *args: Any, **kwargs: Any) -> Any:
        measure_features(self)
        return super().train(*args, **kwargs)

    def evaluate(
        self,
        eval_dataset: EvalDataset | str | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        own = self.eval_dataset
        # Of several own sets, which are evaluated one by one under their names, the first chooses.
        self._chooses_penalty = (
            eval_dataset == next(iter(own), None) and isinstance(eval_dataset, str)
            if isinstance(own, dict)
            else eval_dataset is None or eval_dataset is own
        )
        try:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:
            self._chooses_penalty = False

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        self._eval_rows = []
        try:
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            rows = self._eval_rows
        finally:
            self._eval_rows = None
        if rows and output.metrics is not None:
            pairs = HeldOutPairs(*(torch.cat(column).numpy() for column in zip(*rows, strict=True)))
            metrics, self.aspect_metrics_ = measure_pairs(
                pairs, self.args, self.sidecar_, aspects=self._aspects, chooses=self._chooses_penalty
            )
            if self._chooses_penalty:
                self._penalty_step = self.state.global_step
            for aspect, found in self.aspect_metrics_.items():
                metrics |= {f"{key}_{aspect}": value for key, value in found.items()}
            output.metrics.update({f"{metric_key_prefix}_{key}": value for key, value in metrics.items()})
        return output

    def _card_facts(self) -> dict[str, Any]:
        sidecar = self.sidecar_
        length = {
            "temperature": sidecar.length_balance_temperature,
            "penalty": sidecar.length_penalty,
            "correction": sidecar.length_correction,
            "max_length": sidecar.max_length,
        }
        return {
            "kind": "reward", "aspect": sidecar.aspect, "heads": sidecar.heads, "reading": sidecar.reading, "length": length,
            "metrics": sidecar.metrics,
        }  # fmt: skip

    def _save_beside(self, folder: str) -> None:
        rule, step = self.args.length_penalty, self.state.global_step
        is_checkpoint = Path(folder).name.startswith(PREFIX_CHECKPOINT_DIR)
        if (
            rule in PENALTY_RULES
            and self.eval_dataset is not None
            and self._penalty_step != step
            and not is_checkpoint
        ):
            logger.warning(
                f"`length_penalty='{rule}'`: the penalty that is saved was "
                + ("never chosen" if self._penalty_step is None else f"chosen at step {self._penalty_step}")
                + f", and the weights are those of step {step}. Call `evaluate()` before saving."
            )
        if self.args.should_save:
            self.sidecar_.save(folder)
