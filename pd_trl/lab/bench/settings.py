"""What a benchmark runs: the world of a cell, the proxies, the training, and the size of it all."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...errors import InputError
from ...runs.artifacts import digest_of


@dataclass(frozen=True)
class CellSettings:
    """
    One set of preferences: a world, and the share of its labels that contradict the overall label.

    Args:
        seed (`int`): Seed of the world, the labels, the models and the evaluation prompts.
        conflict (`float`, *optional*): Share of pairs whose aspect label contradicts the overall label, constructed by
            [`to_preferences`]. `None` leaves the labels as they fall.
        num_pairs (`int`, *optional*, defaults to `6000`): Pairs.
        num_texts (`int`, *optional*, defaults to `40000`): Texts to pretrain the policy on.
        num_prompts (`int`, *optional*, defaults to `500`): Prompts for evaluation.
        num_aspects (`int`, *optional*, defaults to `4`): Aspects, 2 to 8.
        tradeoff (`float`, *optional*, defaults to `0.4`): How much the aspects are traded for each other, see
            [`SimulatedWorld`]'s `conflict`.
        noise (`float`, *optional*, defaults to `0.6`): Temperature of the annotators, in points of gold reward.
        length_bias (`float`, *optional*, defaults to `0.1`): Logits that annotators add for each extra word.
        adversarial (`str`, *optional*): Aspect whose annotator answers the opposite of what they see.
    """

    seed: int
    conflict: float | None = 0.2
    num_pairs: int = 6000
    num_texts: int = 40_000
    num_prompts: int = 500
    num_aspects: int = 4
    tradeoff: float = 0.4
    noise: float = 0.6
    length_bias: float = 0.1
    adversarial: str | None = None

    @property
    def name(self) -> str:
        """Name of the cell's folder."""
        return f"seed{self.seed}-conflict{self.conflict}-{digest_of(asdict(self))[:8]}"

    @property
    def model_key(self) -> str:
        """Name of the folder of what cells that differ in their labels only have in common: the pretrained model."""
        parts = {k: getattr(self, k) for k in ("seed", "num_texts", "num_aspects", "tradeoff")}
        return f"seed{self.seed}-{digest_of(parts)[:8]}"


@dataclass(frozen=True)
class ProxySettings:
    """
    How the proxy reward models are trained.

    Args:
        name (`str`): Name of the variant.
        length_penalty (`float` or `str`, *optional*): See [`PDRewardConfig`].
        length_correction (`str`, *optional*): See [`PDRewardConfig`].
        temperature (`float`, *optional*): `length_balance_temperature` of [`PDRewardConfig`].
        train_share (`float`, *optional*, defaults to `1.0`): Share of D_k trained on, the paper's p_r.
        hidden_size (`int`, *optional*, defaults to `64`): Width of the pretrained model that the proxies start from.
        seed_offset (`int`, *optional*, defaults to `0`): Added to the training seed: members of an ensemble.
        unified (`bool`, *optional*, defaults to `False`): One model trained on all labels (RAF) in place of one per aspect.
        heads (`bool`, *optional*, defaults to `False`): One model with a head for each aspect in place of one per aspect: the
            same epochs over the same pairs.
    """

    name: str = "default"
    length_penalty: float | str = "decorrelate"
    length_correction: str = "penalty"
    temperature: float | None = 1.0
    train_share: float = 1.0
    hidden_size: int = 64
    seed_offset: int = 0
    unified: bool = False
    heads: bool = False


DEFAULT_PROXY = ProxySettings()
# Eq. 16 and 17 as the paper has them; rho is ours.
QUOTED = ProxySettings("quoted", length_penalty=0.001)
NO_LENGTH = ProxySettings("nl", length_penalty=0.0, length_correction="none", temperature=None)
HEADS = replace(DEFAULT_PROXY, name="heads", heads=True)
UNIFIED = replace(DEFAULT_PROXY, name="unified", unified=True)


@dataclass(frozen=True)
class BenchSettings:
    """
    The size of a benchmark.

    Args:
        seeds (`tuple` of `int`): Seeds, one world each.
        conflicts (`tuple` of `float`): Levels of conflict.
        budget (`float`): Share that the selecting rows keep, the paper's lambda.
        world (`dict`): Fields of [`CellSettings`] that differ from their defaults.
        reward, dpo (`dict`): Training arguments of proxies and policies.
    """

    seeds: tuple[int, ...] = (11, 12, 13)
    conflicts: tuple[float, ...] = (0.1, 0.2, 0.3)
    budget: float = 0.3
    world: dict[str, Any] = field(default_factory=dict)
    reward: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 1e-3, "num_train_epochs": 3})
    dpo: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 2e-4, "num_train_epochs": 1, "beta": 1.0})

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"`seeds` must be at least one, all different, got {list(self.seeds)}.")
        if not self.conflicts or not all(0 < level < 1 for level in self.conflicts):
            raise InputError(f"`conflicts` must be shares in (0, 1), got {list(self.conflicts)}.")

    def cells(self) -> list[CellSettings]:
        """The cells of the table, those of one seed together."""
        return [CellSettings(seed, conflict, **self.world) for seed in self.seeds for conflict in self.conflicts]


# Learning rates, epochs, beta and the world were chosen on the seeds 1 and 2, which no table reports.
TUNING_SEEDS = (1, 2)
FULL = BenchSettings()
QUICK = BenchSettings(
    seeds=(11,), conflicts=(0.3,), world={"num_pairs": 3000, "num_texts": 20_000, "num_prompts": 300}
)
