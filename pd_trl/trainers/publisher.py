"""[`Publisher`]: the call-backs by which a trainer writes its card and pushes, without importing cards or publishing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo

from ..errors import InputError


@dataclass(frozen=True)
class Publisher:
    """
    What `pd_trl.publishing` does for a trainer.

    Args:
        existing_card (callable): `(folder)` -> the card in it that is a user's or ours, or `None`.
        planned_card (callable): `(trainer, **facts)` -> the card as far as it is known before training.
        write_card (callable): `(trainer, name, old, **facts)` turns the card that TRL wrote into ours.
        model_files (callable): `(folder)` -> the files of a model to publish, by name.
        push (callable): `(folder, facts_folder, repo_id, **settings)` publishes a model with its card, in one commit.
    """

    existing_card: Callable[[str], str | None]
    planned_card: Callable[..., str]
    write_card: Callable[..., None]
    model_files: Callable[[Path], Mapping[str, Path]]
    push: Callable[..., CommitInfo]


_publisher: Publisher | None = None


def set_publisher(publisher: Publisher) -> None:
    """Registers the publisher of all trainers of this process."""
    global _publisher
    _publisher = publisher


def publisher() -> Publisher | None:
    """The registered publisher. Without one, a trainer writes TRL's card."""
    return _publisher


def needed_publisher() -> Publisher:
    """The registered publisher; raises `InputError` where there is none."""
    if _publisher is None:
        raise InputError(
            "A trainer that is imported from its own module cannot push. Import it with `from pd_trl import PDRewardTrainer` (or "
            "`PDDPOTrainer`), or call `pd_trl.publishing.trained.serve_trainers()` first."
        )
    return _publisher
