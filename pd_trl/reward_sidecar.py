"""What a proxy reward model must say about itself to be scored as it was trained: `pd_reward.json` beside its weights."""

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .artifacts import read_json, write_json
from .errors import InputError
from .length import PENALTY_RULES, check_length_penalty

SIDECAR_NAME = "pd_reward.json"


@dataclass
class RewardSidecar:
    """
    Args:
        length_penalty (`float`, *optional*, defaults to `0.0`): The penalty rho per completion token of Eq. 16.
        length_correction (`str`, *optional*, defaults to `"none"`): How it entered: `"penalty"`, `"residual"`, `"none"`.
        length_balance_temperature (`float`, *optional*): The temperature tau of length-balanced sampling.
        train_share (`float`, *optional*, defaults to `1.0`): Share of the pairs trained on.
        max_length (`int`, *optional*): Longest training sequence, in tokens.
        aspect (`str`, *optional*): Aspect whose labels it was trained on.
        num_train (`int`, *optional*): Number of training pairs.
        metrics (`dict`): Held-out metrics, see [`pair_metrics`].
    """

    length_penalty: float = 0.0
    length_correction: str = "none"
    length_balance_temperature: float | None = None
    train_share: float = 1.0
    max_length: int | None = None
    aspect: str | None = None
    num_train: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, args: Any) -> "RewardSidecar":
        """The sidecar of a model trained with `args`, a [`PDRewardConfig`]."""
        return cls(
            # One that is chosen on held-out pairs is not known yet.
            length_penalty=0.0 if args.length_penalty in PENALTY_RULES else args.length_penalty,
            length_correction=args.length_correction,
            length_balance_temperature=args.length_balance_temperature,
            train_share=args.train_share,
            max_length=args.max_length,
        )

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `pd_reward.json` into `folder`."""
        write_json(Path(folder) / SIDECAR_NAME, asdict(self))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "RewardSidecar":
        """The sidecar in a local `folder`; a model without one (trained elsewhere) has no length term."""
        path = Path(folder) / SIDECAR_NAME
        if not path.is_file():
            return cls()
        content = read_json(path)
        known = {f.name for f in fields(cls)}
        if not isinstance(content, dict) or not set(content) <= known:
            raise InputError(f"{path} must hold a json object with the keys {sorted(known)}.")
        sidecar = cls(**content)
        for name, kinds in (("length_penalty", (int, float)), ("length_correction", (str,)), ("metrics", (dict,))):
            if not isinstance(getattr(sidecar, name), kinds):
                raise InputError(f"`{name}` in {path} has the wrong type: {getattr(sidecar, name)!r}.")
        check_length_penalty(sidecar.length_penalty, sidecar.length_correction)
        return sidecar
