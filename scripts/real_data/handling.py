"""Ways to handle length in a proxy, as one value that every kind of proxy understands."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pd_trl.method.length import balanced_shares

# In logits at the median absolute delta_length: the same strength for summaries and for essays, whatever their outliers.
STRENGTHS = (0.1, 0.3, 1.0, 3.0)
# Per token, in training and in scoring as of Eq. 16 and 17: a value of ours, the paper's is not known.
FIXED_RHO = 0.001


@dataclass(frozen=True)
class Handling:
    """
    Args:
        name (`str`): Name in tables.
        correction (`str`): `"none"`, `"penalty"` (Eq. 16-17) or `"residual"`.
        temperature (`float`, *optional*): tau of length-balanced sampling; `None` is off.
        rho (`float`, *optional*): Penalty per token.
        strength (`float`, *optional*): Penalty in logits at [`length_scale`], instead of `rho`.
        auto (`bool`): Whether each aspect's penalty is chosen on held-out training pairs, and used in training too.
        at_scoring (`bool`): The same, but the penalty enters the gaps alone: what the package does when `length_penalty` names a rule.
        rule (`str`): That rule, one of [`~pd_trl.method.length.PENALTY_RULES`].
        min_gain (`float`): Standard errors that the chosen penalty has to gain over none, or else there is none.
    """

    name: str
    correction: str = "none"
    temperature: float | None = None
    rho: float | None = None
    strength: float | None = None
    auto: bool = False
    at_scoring: bool = field(default=False, repr=False)
    rule: str = field(default="auto", repr=False)
    min_gain: float = field(default=0.0, repr=False)

    def per_token(self, delta_length: NDArray) -> float:
        """The penalty per token for pairs with these `delta_length`."""
        if self.correction == "none" or self.at_scoring:
            return 0.0
        return self.rho if self.rho is not None else float(self.strength or 0.0) / length_scale(delta_length)


def length_scale(delta_length: NDArray) -> float:
    """Median absolute difference of length, in tokens, of the pairs whose sides differ."""
    absolute = np.abs(delta_length[delta_length != 0])
    return float(np.median(absolute)) if absolute.size else 1.0


def balance_weights(delta_length: NDArray, temperature: float | None) -> NDArray[np.float64]:
    """
    Weights of shape `(num_pairs,)`, of mean 1, that give both sides the shares length-balanced sampling draws in expectation.
    """
    longer = delta_length >= 0
    share = float(longer.mean())
    if temperature is None or share in (0.0, 1.0):
        return np.ones(len(delta_length))
    drawn = balanced_shares(share, temperature)
    return np.where(longer, drawn[0] / share, drawn[1] / (1 - share))


def _fixed(kind: str) -> list[Handling]:
    fixed = Handling(f"{kind} ρ=0.001", kind, 1.0, rho=FIXED_RHO)
    return [fixed, *(Handling(f"{kind} {s:g}", kind, 1.0, strength=s) for s in STRENGTHS)]


NONE = Handling("none")
FIXED = _fixed("penalty")[0]
HANDLINGS: dict[str, Handling] = {
    handling.name: handling
    for handling in [
        NONE,
        Handling("balance τ=1", temperature=1.0),
        Handling("balance τ=inf", temperature=math.inf),
        *_fixed("penalty"),
        *_fixed("residual"),
        Handling("decorrelate", "penalty", 1.0, at_scoring=True, rule="decorrelate"),
        Handling("auto", "penalty", 1.0, at_scoring=True),
        Handling("auto if > 2 SE", "penalty", 1.0, at_scoring=True, min_gain=2.0),
        Handling("auto penalty", "penalty", 1.0, auto=True),
        Handling("auto residual", "residual", 1.0, auto=True),
    ]
}
# Of these, the unified model of RAF is trained with the same handling too: on all pairs, it is as dear as all proxies together.
UNIFIED = (NONE.name, FIXED.name, "residual 1")
AUTO_STRENGTHS = (0.0, 0.03, *STRENGTHS)
