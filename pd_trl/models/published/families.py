"""
The families of published reward models: the names of their heads' tensors, what these compute, and the token that is read.
`docs/reward-models.md` says where each fact comes from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ...errors import InputError
from ...safety.schema import shown
from ..loading import foreign
from .checkpoint import Checkpoint

Layer = tuple[torch.Tensor, torch.Tensor | None]

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
# ArmoRM's objectives, and those of the QRM models of its design.
ARMORM = (
    *(f"helpsteer-{name}" for name in HELPSTEER),
    "ultrafeedback-overall_score", "ultrafeedback-instruction_following", "ultrafeedback-truthfulness",
    "ultrafeedback-honesty", "ultrafeedback-helpfulness", "beavertails-is_safe", "prometheus-score",
    "argilla-overall_quality", "argilla-judge_lm", "code-complexity", "code-style", "code-explanation",
    "code-instruction-following", "code-readability",
)  # fmt: skip
_OBJECTIVES = {len(ARMORM): ARMORM, len(HELPSTEER): tuple(f"helpsteer-{name}" for name in HELPSTEER)}
# What the one output of a model is called that says nothing of it.
REWARD = "reward"
# safe-rlhf's.
_SCORE_TYPES = (REWARD, "cost", "critic")
_EPSILON = 1e-8  # safe-rlhf's, beside the standard deviation


@dataclass(frozen=True)
class Head:
    """
    What a head computes of one hidden state: linear layers with ReLU between them.

    Args:
        layers (`list` of `tuple`): Weight and bias (or `None`) of each layer.
        names (`list` of `str`): Name of each output.
        signs (`list` of `int`): 1 for an output of which more is better, -1 for a cost.
    """

    layers: list[Layer]
    names: list[str]
    signs: list[int]


@dataclass(frozen=True)
class Family:
    """
    A family of checkpoints.

    Args:
        name (`str`): What messages call it.
        matches (callable): Whether a checkpoint is of the family, by its tensors' names.
        head (callable): Its head.
        reads_last (`bool`): Whether the reward is read at the last token, whatever it is, and not at the last that is no pad token.
        template (callable, *optional*): Chat template of its card, where the tokenizer has none.
        end_token (callable, *optional*): Id of a token that ends every conversation.
    """

    name: str
    matches: Callable[[Checkpoint], bool]
    head: Callable[[Checkpoint], Head]
    reads_last: bool = False
    template: Callable[[Checkpoint], str | None] = field(default=lambda checkpoint: None)
    end_token: Callable[[Checkpoint], int | None] = field(default=lambda checkpoint: None)


def family_of(checkpoint: Checkpoint) -> Family | None:
    """
    The family of a checkpoint; `None` where it is a classifier that transformers knows, or no known reward model.

    Raises:
        InputError: When its head is known and cannot be read.
    """
    for prefix, reason in _UNSUPPORTED.items():
        if any(name.startswith(prefix) for name in checkpoint.files):
            raise InputError(f"The reward model in {checkpoint.folder} is not supported: {reason}.")
    return next((family for family in FAMILIES if family.matches(checkpoint)), None)


def head_of(family: Family, checkpoint: Checkpoint) -> Head:
    """
    The head of a checkpoint of a family.

    Raises:
        InputError: When its tensors or its configuration do not make one.
    """
    what = f"The head of the reward model in {checkpoint.folder}"
    with foreign(what):
        head = family.head(checkpoint)
        width = None
        for weight, bias in head.layers:
            fits = (
                weight.ndim == 2
                and width in (None, weight.shape[1])
                and (bias is None or bias.shape == weight.shape[:1])
            )
            if not fits or not weight.is_floating_point():
                raise InputError(
                    f"{what} holds {tuple(weight.shape)} values of {weight.dtype}, which make no linear layer there."
                )
            width = weight.shape[0]
    return head


def _has(*names: str) -> Callable[[Checkpoint], bool]:
    return lambda checkpoint: all(name in checkpoint.files for name in names)


def _linear(checkpoint: Checkpoint, module: str) -> Layer:
    bias = checkpoint.tensor(f"{module}.bias") if f"{module}.bias" in checkpoint.files else None
    return checkpoint.tensor(f"{module}.weight"), bias


def _sequence(checkpoint: Checkpoint, module: str) -> list[Layer]:
    """The linear layers of a sequence of layers, in their order."""
    places = {
        name.removeprefix(f"{module}.").split(".")[0] for name in checkpoint.files if name.startswith(f"{module}.")
    }
    return [_linear(checkpoint, f"{module}.{place}") for place in sorted(places, key=int)]


def _named(checkpoint: Checkpoint, layers: list[Layer], names: Sequence[str] | None = None, sign: int = 1) -> Head:
    """A head whose outputs have the names of `id2label`, else `names`, else numbers."""
    count = len(layers[-1][0])
    known = names if names is not None and len(names) == count else [str(k) for k in range(count)]
    return Head(layers, checkpoint.labels(count) or list(known), [sign] * count)


def _regression_layer(checkpoint: Checkpoint) -> Head:
    """ArmoRM's objectives; QRM's are the means over quantiles, times its matrix where it has one."""
    weight, _ = _linear(checkpoint, "regression_layer")
    quantiles = checkpoint.whole_number("num_quantiles") or 1
    if quantiles < 1 or len(weight) % quantiles:
        raise InputError(
            f"The head in {checkpoint.folder} has {len(weight)} rows, which `num_quantiles={quantiles}` of its configuration does "
            "not divide."
        )
    count = len(weight) // quantiles
    if quantiles > 1:
        weight = weight.float().reshape(count, quantiles, -1).mean(1)
        if "reward_transform_matrix" in checkpoint.files:
            weight = checkpoint.tensor("reward_transform_matrix").float().T @ weight
    return _named(checkpoint, [(weight, None)], _OBJECTIVES.get(count))


def _score_head(checkpoint: Checkpoint) -> Head:
    """safe-rlhf's scores, normalised where the configuration says so. Those of a cost model point the other way."""
    config = checkpoint.config
    weight, bias = _linear(checkpoint, "score_head")
    kind = config.get("score_type", REWARD)
    if kind not in _SCORE_TYPES:
        # Whether more is better depends on it.
        raise InputError(
            f"`score_type` in {checkpoint.folder / 'config.json'} must be one of {', '.join(_SCORE_TYPES)}, got {shown(kind)}."
        )
    if config.get("do_normalize"):
        mean, var = (_statistic(checkpoint, name, default) for name, default in (("mean", 0.0), ("var", 1.0)))
        weight, bias = weight.float(), torch.zeros(len(weight)) if bias is None else bias.float()
        if kind == REWARD:
            bias = bias - mean
        if kind in (REWARD, "cost"):
            scale = 1 / (var.sqrt() + _EPSILON)
            weight, bias = weight * scale[:, None], bias * scale
    names = {REWARD: ["helpfulness"], "cost": ["safety"]}.get(kind)
    return _named(checkpoint, [(weight, bias)], names, sign=-1 if kind == "cost" else 1)


def _statistic(checkpoint: Checkpoint, name: str, default: float) -> torch.Tensor:
    if f"normalizer.{name}" in checkpoint.files:
        return checkpoint.tensor(f"normalizer.{name}").float()
    count = checkpoint.shape("score_head.weight")[0]
    given = checkpoint.config.get(name)
    return torch.full((count,), default) if given is None else torch.tensor(given, dtype=torch.float32)


def _value_head(checkpoint: Checkpoint) -> Head:
    linear = "v_head.summary.weight" in checkpoint.files
    layers = [_linear(checkpoint, "v_head.summary")] if linear else _sequence(checkpoint, "v_head.summary")
    return _named(checkpoint, layers, [REWARD])


def _urm(checkpoint: Checkpoint) -> Head:
    """The means of URM's five distributions: its rows are mean and uncertainty of each in turn."""
    weight, bias = _linear(checkpoint, "score")
    return _named(checkpoint, [(weight[0::2], None if bias is None else bias[0::2])], HELPSTEER)


def _is_urm(checkpoint: Checkpoint) -> bool:
    gated = any(name.startswith("weights.") for name in checkpoint.files)
    return gated and "score.weight" in checkpoint.files and checkpoint.shape("score.weight")[0] == 2 * len(HELPSTEER)


def _is_other_score(checkpoint: Checkpoint) -> bool:
    """A linear `score` that transformers' classifiers would read wrongly: with a bias, or of more outputs than they see."""
    if "score.weight" not in checkpoint.files:
        return False
    labels = checkpoint.config.get("id2label")
    stated = checkpoint.config.get("num_labels") or (len(labels) if labels else 2)
    return "score.bias" in checkpoint.files or checkpoint.shape("score.weight")[0] != stated


def _regression_head_template(checkpoint: Checkpoint) -> str:
    mistral = checkpoint.config.get("model_type") == "mistral"
    return _turns("[INST] ", " [/INST] ") if mistral else _turns("Human: ", "\\n\\nAssistant: ")


def _turns(user: str, assistant: str, begin: str = "", end: str = "") -> str:
    """A chat template of turns of the user and the assistant."""
    return (
        f"{{{{ bos_token }}}}{begin}{{% for message in messages %}}{{% if message['role'] == 'assistant' %}}"
        f"{{{{ '{assistant}' + message['content'] }}}}{end}{{% else %}}{{{{ '{user}' + message['content'] }}}}{{% endif %}}"
        "{% endfor %}"
    )


def _reward_token(checkpoint: Checkpoint) -> int | None:
    return checkpoint.whole_number("reward_token_id")


# A classifier of transformers with a linear `score`: it is loaded as such, and can be converted.
PLAIN = Family(
    "a sequence classifier", _has("score.weight"),
    lambda checkpoint: _named(checkpoint, [_linear(checkpoint, "score")], [REWARD]),
)  # fmt: skip

# The first that matches counts.
FAMILIES: tuple[Family, ...] = (
    Family("ArmoRM or QRM", _has("regression_layer.weight"), _regression_layer),
    Family(
        "UltraRM or Eurus-RM", _has("regression_head.weight"),
        lambda checkpoint: _named(checkpoint, [_linear(checkpoint, "regression_head")], [REWARD]),
        reads_last=True, template=_regression_head_template,
    ),
    Family(
        "Beaver", _has("score_head.weight"), _score_head, reads_last=True,
        template=lambda checkpoint: _turns(
            "USER: ", " ASSISTANT:", "BEGINNING OF CONVERSATION: ", "{{ eos_token }}"
        ),
    ),
    Family(
        "GRM, or a value head of TRL", lambda checkpoint: any(name.startswith("v_head.summary.") for name in checkpoint.files),
        _value_head, reads_last=True,
    ),
    Family(
        "InternLM2-Reward or Starling-RM", _has("v_head.weight"),
        lambda checkpoint: _named(checkpoint, [_linear(checkpoint, "v_head")], [REWARD]),
        reads_last=True, end_token=_reward_token,
    ),
    Family("URM", _is_urm, _urm),
    Family(
        "INF-ORM or Qwen2.5-Math-RM", _has("score.0.weight"),
        lambda checkpoint: _named(checkpoint, _sequence(checkpoint, "score"), [REWARD]),
    ),
    Family(
        "a linear head named `score`", _is_other_score,
        lambda checkpoint: _named(checkpoint, [_linear(checkpoint, "score")], HELPSTEER),
    ),
)  # fmt: skip

_UNSUPPORTED = {
    "regression_layer.network.": (
        "its outputs are probabilities of ratings (LDL-Reward), which are no linear function of a hidden state"
    ),
}
