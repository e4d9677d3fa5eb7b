"""What heads read of a backbone: states of layers, at the last token or over the response, standardized or not."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ...errors import InputError
from .configuration import MultiAspectRewardConfig


def states_of(outputs: Any, layers: Sequence[int]) -> torch.Tensor:
    """
    Hidden states of each token, those of several layers side by side, shape `(batch_size, width, num_layers * hidden_size)`.

    Args:
        outputs: Output of a backbone, with `hidden_states` where there are several layers.
        layers (sequence of `int`): The layers, of which the last is the backbone's last. None is that one alone.
    """
    last = outputs.last_hidden_state
    return last if len(layers) < 2 else torch.cat([*(outputs.hidden_states[n] for n in layers[:-1]), last], dim=-1)


def mean_over(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Mean of the states at the tokens of a mask, in float32, shape `(batch_size, num_features)`.

    Args:
        states (`torch.Tensor` of shape `(batch_size, width, num_features)`): States of each token.
        mask (`torch.Tensor` of shape `(batch_size, width)`): 1 for the tokens of the response, at least one in a row.
    """
    weights = mask.to(states.device, torch.float32)
    # A product would carry what is not finite at padding into the sum.
    inside = states.float().masked_fill(weights[:, :, None] == 0, 0.0)
    return inside.sum(1) / weights.sum(1)[:, None]


def response_mask(attention_mask: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """
    1 at the last `counts` tokens of each row that are not padding, on whichever side that is, shape of `attention_mask`.

    Args:
        attention_mask (`torch.Tensor` of shape `(batch_size, width)`): 1 for tokens, 0 for padding.
        counts (`torch.Tensor` of shape `(batch_size,)`): Tokens of each response, which ends the row.
    """
    from_end = attention_mask.long().flip(1).cumsum(1).flip(1)
    return attention_mask.long() * (from_end <= counts.to(attention_mask.device)[:, None])


class StandardizedLinear(nn.Linear):
    """
    A linear layer without bias on `(features - mean) / scale`. Mean and scale are no parameters; they are saved with the weight.

    Args:
        in_features (`int`): Features.
        out_features (`int`): Outputs.
        kwargs: `dtype` and `device` of the weight.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, in_features: int, out_features: int, **kwargs: Any):
        super().__init__(in_features, out_features, bias=False, **kwargs)
        self.register_buffer("mean", torch.zeros(in_features, **kwargs))
        # 0 marks what was not measured yet.
        self.register_buffer("scale", torch.zeros(in_features, **kwargs))

    @property
    def is_measured(self) -> bool:
        """Whether [`measure`] was called, here or before the layer was saved."""
        return bool((self.scale > 0).all())

    @torch.no_grad()
    def measure(self, features: torch.Tensor) -> None:
        """Takes mean and standard deviation of `features`, shape `(num_rows, in_features)`."""
        values = features.double()
        spread = values.std(0, correction=0)
        self.mean.copy_(values.mean(0))
        self.scale.copy_(torch.where(spread > 1e-6 * (1 + values.abs().amax(0)), spread, 1.0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs of shape `(num_rows, out_features)`."""
        if not self.is_measured:
            raise InputError(
                "The head reads standardized features, and mean and scale of the features were not measured. Train it with "
                "`PDRewardTrainer`, which measures them on its training set."
            )
        return super().forward((features - self.mean) / self.scale)


def head_of(config: MultiAspectRewardConfig) -> nn.Module:
    """The head of a configuration: one linear layer, or several with ReLU between them."""
    sizes = [config.num_features, *config.head_widths, len(config.aspects)]
    if config.standardize:
        if len(sizes) > 2 or config.head_bias:
            raise InputError("`standardize` is for a head of one linear layer without bias.")
        return StandardizedLinear(*sizes)
    layers: list[nn.Module] = []
    for width, outputs in pairwise(sizes):
        layers += [nn.Linear(width, outputs, bias=config.head_bias), nn.ReLU()]
    return layers[0] if len(sizes) == 2 else nn.Sequential(*layers[:-1])


def new_head(config: MultiAspectRewardConfig, **kind: Any) -> nn.Linear:
    """A head of one linear layer to train: drawn as transformers draws a classifier's, a standardized one at 0."""
    if config.standardize:
        head = StandardizedLinear(config.num_features, len(config.aspects), **kind)
        # Many standardized features at random would be a large random reward.
        nn.init.zeros_(head.weight)
        return head
    linear = nn.Linear(config.num_features, len(config.aspects), bias=False, **kind)
    nn.init.normal_(linear.weight, std=getattr(config.get_text_config(), "initializer_range", None) or 0.02)
    return linear
