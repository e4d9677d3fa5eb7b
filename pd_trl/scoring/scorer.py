"""[`RewardModelScorer`]: a reward model on batches of token ids."""

import inspect
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedTokenizerBase

from ..errors import InputError
from ..models.heads.configuration import is_encoder
from ..models.heads.reading import states_of
from ..models.inputs import num_embeddings
from ..models.positions import positions_of
from ..models.probes import agree, ordinary_tokens, rounding
from ..models.sidecar import RewardSidecar
from ..models.tree_batches import mask_for, why_no_trees
from .branches import BranchLayout
from .reading import LastToken, ResponseMean, decoder_parts
from .tokens import TokenRows

logger = logging.getLogger(__name__)


class RewardModelScorer:
    """
    Rewards of tokenised conversations for one or several aspects.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Sequence classifier with one output, or with `heads`.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        sidecars (`dict` of `str` to [`RewardSidecar`]):
            The aspects it scores, in order, and how each was trained. With more than one, `model` is a PEFT model with an
            adapter of each aspect's name, or `heads` says which output is whose.
        digest (`str`):
            Hash of the weights.
        heads (`list` of `int`, *optional*):
            Output of the model for each aspect, where it has one for each of several: one pass then scores all.
        factors (`list` of `float`, *optional*):
            What the output of each aspect is multiplied by. `None` is 1.
        pad_token_id (`int`, *optional*):
            The pad token of training, where the model's configuration does not say it, as that of an adapter's base.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        sidecars: Mapping[str, RewardSidecar],
        digest: str,
        adapters: bool = False,
        heads: list[int] | None = None,
        factors: list[float] | None = None,
        pad_token_id: int | None = None,
    ):
        self.model, self.tokenizer, self.sidecars, self.digest = model.eval(), tokenizer, dict(sidecars), digest
        self.adapters, self.heads = adapters, heads
        self.pad_token_id = _pad_token_id(model, tokenizer, pad_token_id)
        self.device = next(model.parameters()).device
        unchanged = factors is None or all(factor == 1 for factor in factors)
        self._factors = None if unchanged else torch.tensor(factors, device=self.device)
        self._backbone, self._head = decoder_parts(model)
        layers = getattr(model.config, "layers", None) or ()
        self._reading = (ResponseMean if self.counts_responses else LastToken)(layers, self.pad_token_id)
        self._direct: bool | None = None
        self._backend = "engine"
        self._shares: bool | None = None
        self._batched: str | None = None
        self.longest = positions_of(model)
        self.num_embeddings = num_embeddings(model)

    @property
    def aspects(self) -> list[str]:
        """Names of the aspects, in the order of the columns that a call returns."""
        return list(self.sidecars)

    @property
    def counts_responses(self) -> bool:
        """Whether the model must be told where the response of each sequence begins."""
        return getattr(self.model.config, "pooling", None) == "mean"

    @property
    def keeps_first(self) -> int:
        """Tokens at the start that a sequence keeps when it is cut: an encoder reads its reward at the first."""
        config = self.model.config
        return int(getattr(config, "pooling", None) == "first" or is_encoder(config))

    @property
    def default_budget(self) -> int:
        """Most tokens of a batch that is fast: on a CPU those that its caches hold."""
        return 2048 if self.device.type == "cpu" else 16384

    @property
    def shares_prefixes(self) -> bool:
        """Whether the model can read a prompt once for several responses: a decoder with attention over all of it."""
        if self._shares is None:
            self._shares = self._reads_directly and why_no_trees(self.model) is None
        return self._shares

    @property
    def computation(self) -> dict[str, Any]:
        """What changes the rounding of the rewards, for the identity of their shards."""
        attention = getattr(self.model.config, "_attn_implementation", None)
        return {"dtype": str(self.model.dtype), "backend": self._backend, "attention": attention}

    def call_whole_model(self) -> None:
        """From now on calls the model as it is, with an attention mask, and shares no prompt."""
        self._direct = False
        self._backend = "transformers"

    def compile(self) -> None:
        """Compiles the backbone by `torch.compile`, for shapes that differ. The first batches then take long."""
        backbone = self._backbone if self._backbone is not None else self.model
        backbone.compile(dynamic=True)

    @torch.inference_mode()
    def __call__(self, tokens: TokenRows) -> torch.Tensor:
        """Rewards of sequences, shape `(num_sequences, num_aspects)`, on the model's device."""
        if self._reads_directly:
            # Padding comes last, where no token of a decoder sees it, so that the fast attention without a mask will do.
            ids = self._on_device(tokens.padded(self.pad_token_id))
            read = self._reading.of_rows(tokens, self._on_device)
            return self._each_aspect(lambda: self._read(read(self._states(input_ids=ids, use_cache=False))))
        if self._batches == "alike":
            return self._by_length(tokens)
        return self._whole(tokens, self._batches == "left")

    @torch.inference_mode()
    def shared(
        self,
        prefixes: TokenRows,
        sequences: TokenRows,
        group: NDArray[np.integer],
    ) -> torch.Tensor:
        """
        Rewards of sequences of which each group begins with one prefix, which is read once.

        Args:
            prefixes ([`TokenRows`]): Prefix of each group.
            sequences ([`TokenRows`]): Whole sequences, group by group.
            group (array of shape `(num_sequences,)`): Group of each.

        Returns:
            `torch.Tensor` of shape `(num_sequences, num_aspects)`.
        """
        layout = BranchLayout(prefixes, sequences, group, self.pad_token_id)
        prefix_ids, branch_ids, positions = map(self._on_device, (layout.prefix_ids, layout.ids, layout.positions))
        mask = mask_for(self._backbone, layout.mask(self.device)) if layout.ids.size else None
        pooled = self._reading.of_branches(layout, sequences, self._on_device)

        def read() -> torch.Tensor:
            cache = {self._cache_argument: DynamicCache()}
            at_prefix = self._states(input_ids=prefix_ids, use_cache=True, **cache)
            if mask is None:
                return self._read(pooled(at_prefix, None))
            behind = self._states(
                input_ids=branch_ids, position_ids=positions, attention_mask=mask, use_cache=True, **cache
            )
            return self._read(pooled(at_prefix, behind))

        return self._each_aspect(read)

    @cached_property
    def _cache_argument(self) -> str:
        # transformers renames it in 5.40.
        return "cache" if "cache" in inspect.signature(self._backbone.forward).parameters else "past_key_values"

    def _each_aspect(self, read: Any) -> torch.Tensor:
        """`read()` for each adapter, or once where one pass has all outputs, each times its factor."""
        if self.heads is not None:
            rewards = read()[:, self.heads].float()
        else:
            columns = []
            for aspect in self.aspects:
                if self.adapters:
                    self.model.set_adapter(aspect)
                columns.append(read().float())
            rewards = torch.cat(columns, dim=1)
        return rewards if self._factors is None else rewards * self._factors

    def _states(self, **inputs: Any) -> torch.Tensor:
        """States of each token that the head reads, those of several layers side by side."""
        several = {"output_hidden_states": True} if len(self._reading.layers) > 1 else {}
        return states_of(self._backbone(**inputs, **several), self._reading.layers)

    def _read(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._head(hidden.to(self._head_dtype()))

    def _head_dtype(self) -> torch.dtype:
        return next(self._head.parameters()).dtype

    def _whole(self, tokens: TokenRows, pad_left: bool = False) -> torch.Tensor:
        inputs = self._inputs(tokens, pad_left)
        return self._each_aspect(lambda: self.model(**inputs).logits)

    def _by_length(self, tokens: TokenRows) -> torch.Tensor:
        """Rewards without padding: sequences of one length at a time, each by itself in an encoder with a decoder."""
        rewards = torch.empty(len(tokens), len(self.aspects), device=self.device)
        # BART's classifiers refuse a batch whose sequences have not all the same number of EOS tokens.
        keys = np.arange(len(tokens)) if self.model.config.is_encoder_decoder else tokens.lengths
        for key in np.unique(keys):
            rows = np.flatnonzero(keys == key)
            rewards[torch.from_numpy(rows).to(self.device)] = self._whole(tokens.take(rows))
        return rewards

    def _inputs(self, tokens: TokenRows, pad_left: bool = False) -> dict[str, torch.Tensor]:
        ids = tokens.padded(self.pad_token_id)
        columns = np.arange(ids.shape[1])
        inputs = {"input_ids": ids, "attention_mask": (columns < tokens.lengths[:, None]).astype(np.int64)}
        if self.counts_responses:
            inside = columns >= tokens.response_starts[:, None]
            inputs["response_mask"] = inputs["attention_mask"] * inside
        if pad_left:
            column = (columns - (ids.shape[1] - tokens.lengths[:, None])) % ids.shape[1]
            inputs = {name: np.take_along_axis(values, column, axis=1) for name, values in inputs.items()}
        return {name: self._on_device(values) for name, values in inputs.items()}

    def _on_device(self, array: NDArray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    @property
    def _batches(self) -> str:
        """
        Which batches give each sequence the reward that it has alone: padded on the `"right"`, on the `"left"` (XLNet reads the
        last place), or only of lengths that are `"alike"` (FNet mixes padding in).
        """
        if self._batched is None:
            self._batched = "alike" if self.model.config.is_encoder_decoder else self._side_that_agrees()
        return self._batched

    @torch.inference_mode()
    def _side_that_agrees(self) -> str:
        ordinary = ordinary_tokens(self.num_embeddings, (self.pad_token_id, *self.tokenizer.all_special_ids))
        if not ordinary:
            return "right"
        sequences = [[ordinary[(i + k) % len(ordinary)] for i in range(count)] for k, count in enumerate((4, 12))]
        tokens = TokenRows.of(sequences, np.array([2, 5])).shortened(self.longest)
        alone = self._by_length(tokens)
        for side in ("right", "left"):
            if self._same(alone, self._whole(tokens, side == "left")):
                return side
        logger.warning(
            "The rewards of %s (%s) depend on padding: only conversations of one length are batched, which is slower.",
            ", ".join(self.aspects), self.model.config.model_type,
        )  # fmt: skip
        return "alike"

    def _same(self, expected: torch.Tensor, found: torch.Tensor) -> bool:
        """Whether rewards are equal but for the rounding of the model's arithmetic."""
        return agree(expected, found, rounding(self.model.dtype), scale=1.0)

    @property
    def _reads_directly(self) -> bool:
        """Whether backbone and head, called by themselves without a mask, give what the whole model gives."""
        if self._direct is None:
            try:
                self._direct = self._backbone is not None and self._parts_agree()
            except (NotImplementedError, AttributeError, TypeError, ValueError, IndexError):
                # A model with a `score` that is put together in another way.
                self._direct = False
        return self._direct

    @torch.inference_mode()
    def _parts_agree(self) -> bool:
        size = self.model.get_input_embeddings().num_embeddings
        sequences = [[i % size for i in range(1, 9)], [i % size for i in range(4, 8)]]
        tokens = TokenRows.of(sequences, np.array([5, 2]))
        inputs = self._inputs(tokens)
        whole = self.model(**inputs).logits.float()
        read = self._reading.of_rows(tokens, self._on_device)
        parts = self._read(read(self._states(input_ids=inputs["input_ids"], use_cache=False)))
        return self._same(whole, parts.float())


def _pad_token_id(model: Any, tokenizer: PreTrainedTokenizerBase, trained_with: int | None) -> int:
    """
    The pad id the model was trained with, which its configuration holds: TRL's trainer mirrors the tokenizer's into it. A
    causal classifier reads its reward at the last token that differs from it, so that batches and single rows agree, also
    where it is EOS.
    """
    config = model.config.get_text_config()
    own = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    token = next((i for i in (trained_with, getattr(config, "pad_token_id", None), own) if i is not None), None)
    if token is None:
        raise InputError(
            "The reward model has no pad token, and its tokenizer has neither a pad nor an EOS token, so rows cannot be "
            "batched. Set `model.config.pad_token_id`."
        )
    if tokenizer.pad_token_id is not None and token != tokenizer.pad_token_id:
        logger.warning(
            "The reward model (%s) was trained with the pad token %r (id %d), its tokenizer's is %r (id %d): rewards are read "
            "with the model's.",
            model.config.name_or_path or model.config.model_type, tokenizer.convert_ids_to_tokens(int(token)), token,
            tokenizer.pad_token, tokenizer.pad_token_id,
        )  # fmt: skip
    config.pad_token_id = token
    model.config.pad_token_id = token
    return int(token)
