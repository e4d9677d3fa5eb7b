"""[`RewardSidecar`]: `pd_reward.json`, which records how a reward model was trained, so that it is scored alike."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..hub import local_model_folder
from ..method.length import LENGTH_CORRECTIONS, PENALTY_RULES, check_length_penalty
from ..runs.artifacts import write_json
from ..runs.forms import SIDECAR
from ..safety.schema import read_document, record, text
from .named import model_output

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
        pad_token_id (`int`, *optional*): Pad token of the training. A causal classifier reads its reward at the last token
            that differs from it, and an adapter is saved without its base's configuration.
        aspect (`str`, *optional*): Aspect whose labels it was trained on.
        num_train (`int`, *optional*): Number of training pairs.
        metrics (`dict`): Held-out metrics, see [`pair_metrics`].
        heads (`dict`): Of a model with a head for each aspect: what differs from head to head (`length_penalty`, `num_train`,
            `metrics`), by aspect, in the order of the heads.
        reading (`dict`): What these heads read, where it is not the last token at the last layer: `pooling`, `layers` and
            `standardize` of [`MultiAspectRewardConfig`], which an adapter's base does not say.
    """

    length_penalty: float = 0.0
    length_correction: str = "none"
    length_balance_temperature: float | None = None
    train_share: float = 1.0
    max_length: int | None = None
    pad_token_id: int | None = None
    aspect: str | None = None
    num_train: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, args: Any, heads: Sequence[str] = (), pad_token_id: int | None = None) -> "RewardSidecar":
        """The sidecar of a model trained with `args`, a [`PDRewardConfig`], and with `heads` for these aspects."""
        return cls(
            heads={aspect: {} for aspect in heads},
            # One that is chosen on held-out pairs is not known yet.
            length_penalty=0.0 if args.length_penalty in PENALTY_RULES else args.length_penalty,
            length_correction=args.length_correction,
            length_balance_temperature=args.length_balance_temperature,
            train_share=args.train_share,
            max_length=args.max_length,
            pad_token_id=pad_token_id,
        )

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `pd_reward.json` into `folder`."""
        content = asdict(self)
        for name in ("heads", "reading"):
            if not content[name]:
                del content[name]
        write_json(Path(folder) / SIDECAR_NAME, content)

    def set_penalty(self, penalty: float, aspect: str | None = None) -> None:
        """Sets the length penalty, with `aspect` that of one head."""
        if aspect is None:
            self.length_penalty = penalty
        else:
            self.heads[aspect]["length_penalty"] = penalty

    def of_head(self, aspect: str) -> "RewardSidecar":
        """What holds for one aspect: of a model with heads, its head's; else all. A single head stands for any name."""
        name = next(iter(self.heads)) if len(self.heads) == 1 else aspect
        if not self.heads or name not in self.heads:
            return self
        return replace(self, heads={}, aspect=name, **self.heads[name])

    @classmethod
    def load(cls, folder: str | os.PathLike, aspect: str | None = None) -> "RewardSidecar":
        """
        The sidecar in a local `folder`; a model without one (trained elsewhere) has no length term. With `aspect`, what holds for
        that one.
        """
        path = Path(folder) / SIDECAR_NAME
        if not path.is_file():
            return cls()
        content = read_document(path, _FORM, "what a reward model of pd_trl says of itself", "Train the model again.")
        sidecar = cls(**content)
        try:
            for head in (sidecar, *map(sidecar.of_head, sidecar.heads)):
                check_length_penalty(head.length_penalty, head.length_correction)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return sidecar if aspect is None else sidecar.of_head(aspect)


_FORM = record({**SIDECAR, "length_correction": text(LENGTH_CORRECTIONS)})


def proxy_metrics_of(reward_models: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The held-out metrics beside each reward model that is a folder or a Hub id; models without any are left out."""
    found = {}
    for name, model in reward_models.items():
        given = model_output(model)
        if given.is_named:
            metrics = RewardSidecar.load(local_model_folder(given.model), given.output or name).metrics
            if metrics:
                found[name] = metrics
    return found
