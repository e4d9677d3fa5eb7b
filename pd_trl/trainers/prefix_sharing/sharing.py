"""[`PrefixSharing`]: forward passes that read once what the two sides of a pair share."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from ...errors import InputError
from ...models.tree_batches import backbone_of, why_no_trees
from .packed_pairs import PackedPairs, pack_pairs, splitting_attention

# Outputs of a backbone that would stay packed.
_MORE_OUTPUTS = ("output_hidden_states", "output_attentions", "output_router_logits")


@dataclass
class PrefixSharing:
    """
    Prefix sharing in the forward passes of a trainer, with counts of what it did.

    Attributes:
        batches (`int`):
            Forward passes on pairs.
        shared (`int`):
            Those of them that were packed.
        cells (`int`):
            Token positions that the backbone computed.
        padded_cells (`int`):
            Token positions that it would have computed without.
    """

    batches: int = 0
    shared: int = 0
    cells: int = 0
    padded_cells: int = 0
    _checked: WeakSet[nn.Module] = field(default_factory=WeakSet, repr=False)
    _is_on: bool = field(default=False, repr=False)

    def check(self, *models: Any) -> None:
        """
        Raises:
            InputError: When a model cannot take packed pairs.
        """
        for model in models:
            backbone = backbone_of(model)
            if backbone in self._checked:
                continue
            reason = why_no_trees(model) or _why_no_unpacking(backbone.config)
            if reason is not None:
                raise InputError(
                    f"`share_prefix=True` does not work with this {type(backbone).__name__}: {reason}. Train it without."
                )
            self._checked.add(backbone)

    @contextmanager
    def on(self, *models: Any, with_backward: bool = False) -> Iterator[None]:
        """
        Within it, the backbones of `models` pack each batch that comes in and unpack the hidden states that go out. With
        `with_backward` a backward pass of what was computed within it must come within it too.
        """
        if self._is_on:
            yield
            return
        self.check(*models)
        with ExitStack() as stack:
            self._is_on = True
            stack.callback(setattr, self, "_is_on", False)
            for backbone in dict.fromkeys(map(backbone_of, models)):
                splits = stack.enter_context(splitting_attention(backbone))
                hooks = _Hooks(self, splits, with_backward)
                for handle in (
                    backbone.register_forward_pre_hook(hooks.pack, with_kwargs=True),
                    backbone.register_forward_hook(hooks.unpack),
                ):
                    stack.callback(handle.remove)
            yield


class _Hooks:
    """What runs before and after the forward of a backbone."""

    def __init__(self, counts: PrefixSharing, splits: bool, with_backward: bool):
        self.counts, self.splits, self.with_backward = counts, splits, with_backward
        self.packed: PackedPairs | None = None

    def pack(self, backbone: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        self.packed = None
        pairs = _plain_pairs(args, kwargs)
        if pairs is None:
            return None
        padded_cells = pairs[0].numel()
        self.packed = packed = pack_pairs(*pairs)
        self.counts.batches += 1
        self.counts.padded_cells += padded_cells
        if packed is None:
            self.counts.cells += padded_cells
            return None
        self.counts.shared += 1
        self.counts.cells += packed.input_ids.numel()
        # Under gradient checkpointing the backward pass calls the layers again, and must find the same attention.
        split = self.splits and (self.with_backward or not torch.is_grad_enabled())
        return (), {**kwargs, **packed.inputs_for(backbone, split)}

    def unpack(self, backbone: nn.Module, args: tuple, output: Any) -> Any:
        if self.packed is None:
            return None
        hidden = self.packed.unpack(output[0])
        self.packed = None
        if isinstance(output, tuple):
            return (hidden, *output[1:])
        output["last_hidden_state"] = hidden
        return output


class SharesPrefixes:
    """Mixin of a preference trainer, before TRL's class: the passes of TRL's own loss share prefixes."""

    args: Any
    prefix_sharing_: PrefixSharing | None = None

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.prefix_sharing_ is None:
            return super().training_step(*args, **kwargs)  # type: ignore[misc]
        with self.prefix_sharing_.on(*_models_of(self), with_backward=True):
            return super().training_step(*args, **kwargs)  # type: ignore[misc]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if self.prefix_sharing_ is None:
            return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        with self.prefix_sharing_.on(*_models_of(self)):
            return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        if self.prefix_sharing_ is None:
            return super().compute_ref_log_probs(model, inputs)  # type: ignore[misc]
        with self.prefix_sharing_.on(model):
            return super().compute_ref_log_probs(model, inputs)  # type: ignore[misc]


def prefix_sharing_of(args: Any) -> PrefixSharing | None:
    """
    What the training arguments want: `None` without `share_prefix`.

    Raises:
        InputError: When `args` has `share_prefix` together with something that it does not work with.
    """
    if not args.share_prefix:
        return None
    names = ("torch_compile", "use_liger_kernel", "padding_free")
    found = [name for name in names if getattr(args, name, False)]
    if found:
        raise InputError(
            f"`share_prefix=True` does not work together with `{found[0]}=True`: the shape of a batch changes at each step. Set one "
            "of the two to False."
        )
    return PrefixSharing()


def check_sharing_trainer(trainer: Any) -> None:
    """
    Raises:
        InputError: When a trainer that is to share prefixes has a model or a loss that cannot.
    """
    if trainer.prefix_sharing_ is None:
        return
    if getattr(trainer, "aux_loss_enabled", False):
        raise InputError(
            "`share_prefix=True` does not work with the load-balancing loss of a mixture of experts, which counts the tokens of "
            "the padded batch. Set `router_aux_loss_coef=0.0`, or train without."
        )
    if trainer.is_fsdp_enabled:
        raise InputError(
            "`share_prefix=True` does not work with FSDP, which gathers the weights of a layer only while the whole model is called. Set "
            "`share_prefix=False`, or use ZeRO."
        )
    trainer.prefix_sharing_.check(*_models_of(trainer))


def _models_of(trainer: Any) -> list[Any]:
    reference = getattr(trainer, "ref_model", None)
    return [trainer.model] if reference is None else [trainer.model, reference]


def _plain_pairs(args: tuple, kwargs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Tokens and padding mask of a call of a backbone; `None` where it has other inputs or its rows are no pairs."""
    input_ids, attention_mask = args[0] if args else kwargs.get("input_ids"), kwargs.get("attention_mask")
    other = any(kwargs.get(name) is not None for name in ("position_ids", "inputs_embeds", "past_key_values", "cache"))
    if other or len(args) > 1 or any(kwargs.get(name) for name in _MORE_OUTPUTS):
        return None
    if input_ids is None or attention_mask is None or attention_mask.shape != input_ids.shape:
        return None
    return None if len(input_ids) % 2 else (input_ids, attention_mask)


def _why_no_unpacking(config: Any) -> str | None:
    for name in _MORE_OUTPUTS:
        if getattr(config, name, False):
            return f"its configuration has {name}=True, and only the last hidden states are brought back into place"
    return None
