"""FLOPs and memory of training, scoring and decoding, by formula."""

from dataclasses import asdict, dataclass, field

from .shape import ModelShape


@dataclass
class Work:
    """
    The sequences that a stage passes through a model.

    Args:
        sequences (`int`): Sequences.
        tokens (`int`): Their tokens, without padding.
        padded (`int`): Their tokens with padding: what is computed.
        squares (`float`): Sum over sequences of the square of the padded length, for the attention.
        head_tokens (`int`): Positions that go through the head.
        batches (`int`): Calls of the model.
        steps (`int`): Steps of the optimizer.
        largest (`tuple` of `int`): Rows and padded length of the largest call.
    """

    sequences: int = 0
    tokens: int = 0
    padded: int = 0
    squares: float = 0.0
    head_tokens: int = 0
    batches: int = 0
    steps: int = 0
    largest: tuple[int, int] = (0, 0)

    def __add__(self, other: "Work") -> "Work":
        mine, theirs = asdict(self), asdict(other)
        largest = max(self.largest, other.largest, key=lambda pair: (pair[0] * pair[1], pair))
        return Work(**{k: mine[k] + theirs[k] for k in mine if k != "largest"}, largest=largest)

    def times(self, factor: float) -> "Work":
        """The same work `factor` times."""
        values = {k: type(v)(v * factor) for k, v in asdict(self).items() if k != "largest"}
        return Work(**values, largest=self.largest)


def _attention(shape: ModelShape, squares: float) -> float:
    # Scores and their product with the values: 2 FLOPs each for every pair of positions. With a padding mask, SDPA and eager
    # attention compute the masked half too; flash attention does not.
    full = 4.0 * shape.layers * shape.query * squares
    return full / 2 if shape.attention.startswith("flash") else full


def forward_flops(shape: ModelShape, work: Work) -> float:
    """
    FLOPs of a forward pass: `2 * matmul * tokens + 4 * layers * query * T^2` per sequence of T tokens (half of the second
    term with flash attention, which skips the masked half), and `2 * head` per position that goes through the head.
    """
    body = 2.0 * (shape.matmul + shape.adapter) * work.padded
    return body + _attention(shape, work.squares) + 2.0 * shape.head * work.head_tokens


def training_flops(shape: ModelShape, work: Work, *, checkpointing: bool, fused_head: bool = False) -> float:
    """
    FLOPs of training steps, forward and backward.

    The backward pass costs twice the forward pass: gradients of the inputs and of the weights. Gradients of frozen
    weights are left out; that of the first layer's input is counted all the same. SDPA and flash attention compute the scores again
    (2.5 times instead of 2), and TRL's fused head computes the logits again. Gradient checkpointing adds a forward
    pass of the layers, without the last product of each.

    Args:
        shape ([`ModelShape`]): The model.
        work ([`Work`]): The sequences of all steps.
        checkpointing (`bool`): Whether activations are computed again in the backward pass.
        fused_head (`bool`, *optional*, defaults to `False`): Whether the head is TRL's (DPO from TRL 1.15).
    """
    weights = 2.0 * shape.matmul * work.padded
    adapter = 2.0 * shape.adapter * work.padded
    attention = _attention(shape, work.squares)
    head = 2.0 * shape.head * work.head_tokens
    forward = weights + adapter + attention
    backward = weights * (1 if shape.frozen else 2) + 2 * adapter
    backward += attention * (2.0 if shape.attention == "eager" else 2.5)
    passes_of_head = 1 + (1 if shape.frozen else 2) + (1 if fused_head else 0)
    # An adapter beside the last product needs the product's input.
    last = (
        0.0 if shape.sparse or shape.frozen else 2.0 * shape.layers * shape.hidden * shape.intermediate * work.padded
    )
    again = forward - last if checkpointing else 0.0
    return forward + backward + head * passes_of_head + again


@dataclass
class Memory:
    """
    Peak memory of one device, in bytes, by part.

    Args:
        weights, reference, optimizer, gradients, activations, head, cache (`float`): Parts. Gradients and
            activations do not peak together unless gradients are accumulated: only the larger counts.
        accumulates (`bool`): Whether gradients stay in memory during the next forward pass.
    """

    weights: float = 0.0
    reference: float = 0.0
    optimizer: float = 0.0
    gradients: float = 0.0
    activations: float = 0.0
    head: float = 0.0
    cache: float = 0.0
    accumulates: bool = field(default=False)

    @property
    def total(self) -> float:
        """Peak in bytes."""
        passing = self.activations + self.head
        moving = self.gradients + passing if self.accumulates else max(self.gradients, passing)
        return self.weights + self.reference + self.optimizer + self.cache + moving


def layer_activations(shape: ModelShape, rows: int, width: int, *, half: bool) -> float:
    """
    Bytes that autograd keeps for one layer: inputs and outputs of both norms, queries, keys and values (repeated for
    all heads), the output of the attention, and four tensors of the MLP; with eager attention also the scores. `half`
    is bfloat16; norms stay in float32.
    """
    tokens = rows * width
    heads = 4 * shape.query
    small, wide = (20.0, 2.0) if half else (24.0, 4.0)
    per_token = small * shape.hidden + wide * (heads + 4 * shape.intermediate)
    scores = (6.0 if half else 4.0) * rows * width * width * shape.heads if shape.attention == "eager" else 0.0
    return per_token * tokens + scores


def training_memory(
    shape: ModelShape,
    largest: tuple[int, int],
    *,
    weight_bytes: float = 4.0,
    half: bool = False,
    optimizer: str = "adamw",
    checkpointing: bool = True,
    accumulates: bool = False,
    reference: bool = False,
    language_head: bool = False,
    triton: bool = True,
    processes: int = 1,
    sharding: str = "none",
) -> Memory:
    """
    Peak memory of a training step, in bytes.

    Args:
        shape ([`ModelShape`]): The model.
        largest (`tuple` of `int`): Rows and padded length of the largest batch.
        weight_bytes (`float`, *optional*, defaults to `4.0`): Bytes of a weight: 4, 2, or about 0.56 in 4 bits.
        half (`bool`, *optional*, defaults to `False`): Whether it computes in bfloat16.
        optimizer (`str`, *optional*, defaults to `"adamw"`): Name of the optimizer; 8-bit and Adafactor are known.
        checkpointing (`bool`, *optional*, defaults to `True`): Gradient checkpointing.
        accumulates (`bool`, *optional*, defaults to `False`): Whether gradients are accumulated over batches.
        reference (`bool`, *optional*, defaults to `False`): Whether a reference model is in memory too.
        language_head (`bool`, *optional*, defaults to `False`): Whether the head is a language model's, computed
            by TRL's fused head.
        triton (`bool`, *optional*, defaults to `True`): Whether the fused head runs in Triton, which works in
            place. Without Triton, as on a CPU, it holds 18 copies of a tile (measured with TRL 1.16 and torch 2.13).
        processes (`int`, *optional*, defaults to `1`): Devices over which states are sharded.
        sharding (`str`, *optional*, defaults to `"none"`): `"none"`, `"zero2"` (gradients and optimizer) or `"zero3"` (weights too).
    """
    trained_bytes = max(2.0, weight_bytes)
    rows, width = largest
    layer = layer_activations(shape, rows, width, half=half)
    boundary = 4.0 * rows * width * shape.hidden
    kept = shape.layers * boundary + layer if checkpointing else shape.layers * layer
    states = shape.trainable * _state_bytes(optimizer, trained_bytes)
    weights = shape.parameters * weight_bytes + shape.adapter * trained_bytes
    # Until the forward pass ends, autocast keeps a bfloat16 copy of the trained float32 weights.
    copies = 2.0 * shape.trainable if half and weight_bytes >= 4 and not shape.frozen else 0.0
    by_states = processes if sharding in ("zero2", "zero3") else 1
    by_weights = processes if sharding == "zero3" else 1
    return Memory(
        weights=weights / by_weights,
        reference=shape.parameters * weight_bytes / by_weights if reference else 0.0,
        optimizer=states / by_states,
        gradients=shape.trainable * trained_bytes / by_states,
        activations=kept + 3 * boundary + copies / by_weights,
        head=_fused_head(shape, rows * width, half, triton) if language_head else 0.0,
        accumulates=accumulates,
    )


def _fused_head(shape: ModelShape, tokens: int, half: bool, triton: bool) -> float:
    # Tiles of 4,096 positions by 32,768 tokens of the vocabulary, and the gradient of the head in float32.
    tile = min(tokens, 4096) * min(shape.vocabulary, 32768)
    gradient = 0 if shape.frozen else 4.0 * shape.head
    copies = 0.0 if triton else 17.25 * 4.0
    return tile * ((2.0 if half else 4.0) + copies) + gradient + 4.0 * tokens * shape.hidden


def _state_bytes(optimizer: str, weight_bytes: float) -> float:
    if "8bit" in optimizer:
        return 2.0
    if "adafactor" in optimizer:
        return 0.0
    if "sgd" in optimizer:
        return 0.0
    return 2.0 * weight_bytes


def inference_memory(
    shape: ModelShape, largest: tuple[int, int], *, weight_bytes: float, cached: int = 0, new_tokens: int = 0
) -> Memory:
    """
    Peak memory of scoring or decoding, in bytes.

    Args:
        shape ([`ModelShape`]): The model.
        largest (`tuple` of `int`): Rows and padded length of the largest batch.
        weight_bytes (`float`): Bytes of a weight and of an activation.
        cached (`int`, *optional*, defaults to `0`): Positions of a row in the KV cache.
        new_tokens (`int`, *optional*, defaults to `0`): Decoded tokens, part of `cached`. While the prompts are
            read, the cache has no room for them yet, so only one of the two peaks counts.
    """
    rows, width = largest
    # At once in a layer: the residual stream, norm, queries, keys, values and output, or the MLP's three.
    per_token = max(3 * shape.hidden + 4 * shape.query, 3 * shape.hidden + 3 * shape.intermediate)
    reading = weight_bytes * rows * width * per_token + 1.0 * rows * width * width
    position = 2.0 * shape.layers * shape.key_value * rows * weight_bytes
    return Memory(
        weights=shape.parameters * weight_bytes,
        activations=max(reading - position * new_tokens, weight_bytes * rows * per_token),
        head=8.0 * rows * shape.vocabulary if new_tokens else 0.0,
        cache=position * cached,
    )
