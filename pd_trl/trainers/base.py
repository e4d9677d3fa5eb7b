"""[`PreferenceTrainer`] and [`PreferenceConfig`]: what both trainers and both configurations share."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from numpy.typing import NDArray

from ..errors import InputError
from .arguments import check_offloading, orders_by_length, sampling_strategy
from .prefix_sharing.sharing import SharesPrefixes, check_sharing_trainer, prefix_sharing_of
from .preparation import check_sides, check_tokenised, describe_dropped, readable_rows
from .progress import show_steps
from .push import HubPushes, check_push

EvalDataset: TypeAlias = (
    Dataset | IterableDataset | DatasetDict | IterableDatasetDict | dict[str, Dataset | IterableDataset]
)


@dataclass
class PreferenceConfig:
    """
    Arguments of both trainers, beside TRL's. Mixin of a configuration, before TRL's class.

    Parameters:
        share_prefix (`bool`, *optional*, defaults to `False`):
            Whether to read what the two sides of a pair share (the prompt) once: both sides go into one row, under a mask by
            which neither sees the other. Losses and gradients are the same up to rounding. It pays where prompts are longer
            than responses; a batch in which it would save less than a tenth of the token positions is run without it. Needs a
            decoder in which each layer attends to the whole sequence, with `sdpa` or `eager` attention. With dropout
            (`disable_dropout=False`) both sides see the same noise in what they share.
    """

    share_prefix: bool = field(
        default=False,
        metadata={
            "help": "Whether to read what the two sides of a pair share (the prompt) once, in one row under a tree mask. The "
            "loss is the same; a step is faster where prompts are long."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[misc]
        max_length = getattr(self, "max_length", None)
        if max_length is not None and max_length < 1:
            raise InputError(f"`max_length` must be at least 1 token, or None for no limit, got {max_length}.")

    @property
    def sampling_strategy(self) -> str:
        """`train_sampling_strategy`, also for transformers below 5.1, which has `group_by_length` instead."""
        return sampling_strategy(self)


class PreferenceTrainer(HubPushes, SharesPrefixes):
    """
    Mixin of a trainer, before TRL's class: refusals before the model is loaded, rows that TRL cannot read or drops, and the
    column by which transformers groups rows of similar length.
    """

    _signature_columns: list[str]
    _dropped_because: str

    def _check_arguments(self, args: Any) -> None:
        """Refuses, before the model is loaded, what could not work."""
        check_push(args)
        check_offloading(args)
        self.prefix_sharing_ = prefix_sharing_of(args)

    def _check_trainer(self) -> None:
        """Refuses, before the first step, data and models that could not work."""
        check_tokenised(self)
        check_sharing_trainer(self)
        self._check_planned_card()
        show_steps(self)

    def _check_rows(self, dataset: Any, args: Any, dataset_name: str) -> None:
        """Raises `InputError` on rows that this kind of trainer cannot use."""

    def _row_lengths(self, dataset: Dataset, args: Any) -> NDArray[np.int64]:
        """Tokens of the longer side of each prepared row."""
        raise NotImplementedError

    def _own_columns(self) -> list[str]:
        """Columns that the batches of this kind of trainer need, beside TRL's."""
        return []

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        check_sides(dataset, dataset_name)
        self._check_rows(dataset, args, dataset_name)
        with readable_rows(dataset, processing_class, dataset_name) as rows:
            prepared = super()._prepare_dataset(rows, processing_class, args, dataset_name)  # type: ignore[misc]
        if not isinstance(prepared, Dataset):
            return prepared
        reason = self._dropped_because.format(max_length=args.max_length)
        describe_dropped(len(dataset), len(prepared), dataset_name, reason)
        if orders_by_length(args) and args.length_column_name not in prepared.column_names:
            prepared = prepared.add_column(args.length_column_name, self._row_lengths(prepared, args).tolist())
        return prepared

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        # The samplers that group by length look for their column after the unused ones have been removed.
        needed = [self.args.length_column_name, *self._own_columns()]
        added = [name for name in needed if name not in self._signature_columns]
        self._signature_columns = [*self._signature_columns, *added]
