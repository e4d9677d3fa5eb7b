"""What a kind of work takes on this machine, by short runs of models with random weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from transformers import set_seed

from pd_trl.pipeline.cost.shape import ModelShape
from pd_trl.pipeline.cost.sources import PlannedModel

# CPU seconds of a call beyond which only the first layers are measured, and of all measured calls of a kind.
LONGEST_CALL = 2.0
MEASURED_SECONDS = 4.0
# Share of the peak of a matrix product that is guessed before there is a measurement.
_GUESSED_UTILIZATION = 0.4


@dataclass
class Rate:
    """
    What a kind of work takes.

    Args:
        fixed (`float`): CPU seconds to set a model up and to put it away.
        per_row (`float`): CPU seconds for each row that is prepared.
        per_flop (`float`): CPU seconds per FLOP.
    """

    fixed: float
    per_row: float
    per_flop: float


@dataclass
class TimedRun:
    """
    A short run.

    Args:
        seconds (`float`): CPU seconds of its calls.
        flops (`float`): Their FLOPs.
        fixed, per_row (`float`): As in [`Rate`].
    """

    seconds: float
    flops: float
    fixed: float = 0.0
    per_row: float = 0.0


def guessed_seconds(flops: float, peak: float) -> float:
    """CPU seconds that some FLOPs probably take."""
    return flops / (_GUESSED_UTILIZATION * peak)


def rate_of(run: Callable[[ModelShape], TimedRun], shape: ModelShape, flops_of_call: float, peak: float) -> Rate:
    """
    The rate of the whole model. Where a call of it takes long, that of one and two layers, with each further layer taken to
    cost what the second does.
    """
    if guessed_seconds(flops_of_call, peak) < LONGEST_CALL or shape.layers < 3:
        whole = run(shape)
        return Rate(whole.fixed, whole.per_row, whole.seconds / whole.flops)
    one, two = run(_first_layers(shape, 1)), run(_first_layers(shape, 2))
    more = shape.layers - 1
    seconds = one.seconds + more * (two.seconds - one.seconds)
    flops = one.flops + more * (two.flops - one.flops)
    return Rate(one.fixed + more * max(0.0, two.fixed - one.fixed), two.per_row, seconds / flops)


def _first_layers(shape: ModelShape, layers: int) -> ModelShape:
    share = layers / shape.layers
    return replace(shape, layers=layers, matmul=round(shape.matmul * share), adapter=round(shape.adapter * share))


def random_model(source: PlannedModel, shape: ModelShape, *, reward: bool) -> Any:
    """A model of the real class and width, of `shape.layers` layers, with random weights."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    set_seed(0)
    config = copy.deepcopy(source.config)
    text = config.get_text_config()
    text.num_hidden_layers = shape.layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: shape.layers]
    if reward:
        config.num_labels = 1
        pad = source.tokenizer.pad_token_id
        config.pad_token_id = text.pad_token_id = source.tokenizer.eos_token_id if pad is None else pad
    kind = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    attention = shape.attention if shape.attention in ("eager", "sdpa") else None
    return kind.from_config(config, attn_implementation=attention, trust_remote_code=source.trust_remote_code)
