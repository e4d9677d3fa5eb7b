"""[`outputs_of`]: the outputs of a reward model, by its configuration or the names of its tensors, before it is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ..data.validation import check_aspect_names
from ..errors import InputError
from ..hub import local_model_folder
from .adapters import is_adapter
from .heads.configuration import MultiAspectRewardConfig
from .loading import foreign
from .named import ModelOutput, model_output
from .published import Checkpoint, Family, family_of
from .published.families import REWARD, head_of
from .sidecar import RewardSidecar

HEADS, PUBLISHED, CLASSIFIER = "heads", "published", "classifier"
# The aspect of a model whose one output has no name: a unified model.
UNIFIED = "overall"


@dataclass(frozen=True)
class Outputs:
    """
    The outputs of a model.

    Args:
        names (`list` of `str`): Names, or numbers where there are none.
        kind (`str`): `"heads"` of ours, `"published"` ones that are read by names, or those of a `"classifier"`.
        signs (`list` of `int`): -1 for an output of which less is better.
        named (`bool`): Whether the names are names.
        checkpoint ([`Checkpoint`]), family ([`Family`], *optional*): Of a published model.
    """

    names: list[str]
    kind: str
    signs: list[int]
    named: bool
    checkpoint: Checkpoint | None = None
    family: Family | None = None

    def index(self, given: ModelOutput, aspect: str, what: str) -> int:
        """
        The output that `given` means for `aspect`: the one it names, by name or number, else the one of the aspect's name, else
        the only one.

        Raises:
            InputError: When there is none.
        """
        wanted = aspect if given.output is None else given.output
        if wanted in self.names:
            return self.names.index(wanted)
        if given.output is None and len(self.names) == 1:
            return 0
        if given.output is not None and wanted.isdecimal() and int(wanted) < len(self.names):
            return int(wanted)
        shown = self.names[0] if self.named else "0"
        if self.kind == HEADS and given.output is None:
            raise InputError(
                f"{what} has heads for {', '.join(self.names)}, but none for {aspect}. Give it for aspects that it has a head for, or "
                f"name a head as in FOLDER#{shown}."
            )
        raise InputError(
            f"{what} has {len(self.names)} outputs ({', '.join(self.names)}), and none of the name {wanted!r}. Name one of these, or "
            f"its number from 0 on, as in '{given.model}#{shown}'."
        )


def outputs_of(folder: Path, trust_remote_code: bool = False) -> Outputs:
    """
    The outputs of the model or adapter in `folder`.

    Args:
        folder (`Path`): The model.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with it, for its configuration.

    Raises:
        InputError: When its configuration, or a head that is known, cannot be read.
    """
    if is_adapter(folder):
        heads = list(RewardSidecar.load(folder).heads)
        return _plain(heads, HEADS) if heads else _plain([REWARD], CLASSIFIER, named=False)
    checkpoint = Checkpoint(folder)
    if checkpoint.config.get("model_type") == MultiAspectRewardConfig.model_type:
        return _plain(list(checkpoint.config.get("aspects") or ()), HEADS)
    family = family_of(checkpoint)
    if family is not None:
        head = head_of(family, checkpoint)
        named = not all(name == str(k) for k, name in enumerate(head.names)) and head.names != [REWARD]
        return Outputs(head.names, PUBLISHED, head.signs, named, checkpoint, family)
    return _classifier(folder, checkpoint, trust_remote_code)


def outputs_in_memory(model: Any) -> Outputs:
    """The outputs of a model in memory."""
    config = model.config
    if isinstance(config, MultiAspectRewardConfig):
        return _plain(list(config.aspects), HEADS)
    return _labelled(config.id2label, config.num_labels)


def voters_of(folder: Path, name: str, trust_remote_code: bool = False) -> dict[str, ModelOutput]:
    """All outputs of the model in `folder`, which is called `name`, by the aspects that they are named after."""
    outputs = outputs_of(folder, trust_remote_code)
    if len(outputs.names) == 1 and not outputs.named:
        return {RewardSidecar.load(folder).aspect or UNIFIED: ModelOutput(name)}
    if not outputs.named:
        return {f"output_{k}": ModelOutput(name, str(k)) for k in range(len(outputs.names))}
    check_aspect_names(outputs.names)
    return {output: ModelOutput(name, None if outputs.kind == HEADS else output) for output in outputs.names}


def read_outputs(reward_models: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """
    By aspect, what is read of its reward model beside the only output as it is: `output` (its name or number, of several), `sign`
    (-1, less is better: as the caller or the model's family says) and `scale`. Models in memory are left out, and so are those of
    which nothing is to be said.
    """
    found = {}
    for aspect, model in reward_models.items():
        given = model_output(model)
        if not given.is_named:
            continue
        folder = local_model_folder(given.model, what=f"reward model of aspect '{aspect}'")
        outputs = outputs_of(folder)
        place = outputs.index(given, aspect, f"The reward model in {folder}")
        entry: dict[str, Any] = {"output": outputs.names[place]} if len(outputs.names) > 1 else {}
        if (outputs.signs[place] if given.sign is None else given.sign) < 0:
            entry["sign"] = -1
        if given.scale != 1:
            entry["scale"] = given.scale
        if entry:
            found[aspect] = entry
    return found


def _plain(names: Sequence[str], kind: str, named: bool = True) -> Outputs:
    return Outputs(list(names), kind, [1] * len(names), named)


def _classifier(folder: Path, checkpoint: Checkpoint, trust_remote_code: bool) -> Outputs:
    with foreign(f"The configuration of the reward model in {folder}"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return _labelled(config.id2label, config.num_labels)


def _labelled(id2label: Any, count: int) -> Outputs:
    labels = [str((id2label or {}).get(k, f"LABEL_{k}")) for k in range(count)]
    named = len(set(labels)) == count and labels != [f"LABEL_{k}" for k in range(count)]
    return _plain(labels if named else [str(k) for k in range(count)], CLASSIFIER, named and count > 1)
