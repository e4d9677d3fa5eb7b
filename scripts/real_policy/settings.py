"""Settings of the policies, and what was tried to choose them under an assignment that is not reported."""

from dataclasses import asdict, dataclass, replace
from typing import Any

CHOSEN_ON_SEED = 0
# Strengths that `--choose` tries, each on ALL at one epoch.
LEARNING_RATES = (1e-3, 2e-4)
BETAS = (0.1, 0.5)


@dataclass(frozen=True)
class PolicySettings:
    """
    What decides a policy beside its pairs.

    Args:
        learning_rate, beta (`float`): Of DPO.
        layers (`int`): Top layers that are trained. Those below are frozen, so that no backward pass runs through them.
        lora_rank (`int`): Rank of the adapters, 0 to train the weights of these layers.
        batch_size (`int`): Pairs of a step.
        pairs (`int`): Pairs that the arms choose from.
        proxy_pairs (`int`): Labelled pairs that proxies may train on, those that arms choose from among them.
        held_out (`int`): Pairs of held-out prompts that are read.
        per_prompt (`int`): Pairs that a prompt gives at most.
        budget (`float`): Share that a selection keeps.
        max_tokens (`int`): Pairs whose prompt and longer response have more tokens are left out, and counted.
    """

    learning_rate: float = 1e-3
    beta: float = 0.1
    layers: int = 4
    lora_rank: int = 16
    batch_size: int = 4
    pairs: int = 320
    proxy_pairs: int = 1600
    held_out: int = 240
    per_prompt: int = 4
    budget: float = 0.3
    max_tokens: int = 128

    @property
    def kept(self) -> int:
        """Pairs that a selection keeps of `pairs`."""
        return round(self.budget * self.pairs)

    def changed(self, **values: Any) -> "PolicySettings":
        """The same with other values."""
        return replace(self, **values)

    def of_pairs(self) -> dict[str, Any]:
        """What decides the pairs, whatever the training."""
        names = ("pairs", "proxy_pairs", "held_out", "per_prompt", "max_tokens")
        return {name: getattr(self, name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """All of them, ready for json."""
        return asdict(self)


QUICK = PolicySettings(pairs=40, proxy_pairs=120, held_out=24, max_tokens=48)
