"""What a report calls the aspects that vote: the other ones, or simply the aspects where no label is an aspect's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LABELS = {"overall": "overall label", "mean": "mean of the ratings"}


@dataclass(frozen=True)
class Wording:
    """
    Args:
        label (`str`, *optional*): The label of all pairs, such as `"overall label"`, where it is no aspect's.
    """

    label: str | None = None

    @property
    def voters(self) -> str:
        """Who votes on a pair."""
        return "the aspects" if self.label else "the other aspects"

    @property
    def label_of_pair(self) -> str:
        """What they agree with."""
        return f"the {self.label}" if self.label else "the pair's label"


def holds_one_label(labels: Sequence[str]) -> bool:
    """Whether all pairs carry one label that is no aspect's; `labels` are the different ones."""
    return len(labels) == 1 and labels[0] in _LABELS


def wording_of(numbers: Mapping[str, Any]) -> Wording:
    """The wording for the numbers of a [`SelectionReport`]."""
    names = list(numbers.get("kept_by_aspect") or ())
    return Wording(_LABELS.get(names[0]) if len(names) == 1 else None)


def said_of(entry: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """What `models.outputs.read_outputs` found of a model as words, each with the name that belongs to it."""
    words: list[tuple[str, str | None]] = []
    if entry.get("output") is not None:
        words.append(("output", str(entry["output"])))
    if entry.get("sign") == -1:
        words.append(("less is better", None))
    if entry.get("scale", 1) != 1:
        words.append((f"times {entry['scale']:g}", None))
    return words
