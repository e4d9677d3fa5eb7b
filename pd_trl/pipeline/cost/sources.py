"""The pairs and the models of a plan."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from numpy.typing import NDArray

from ...errors import InputError
from ...hub import split_revision
from ...models.adapters import base_of, is_adapter
from ...runs.artifacts import read_rows
from ...trainers.reward.aspects import heldout_rows
from ..recipe import Step
from ..stages.inputs import rows_of
from ..stages.prepare import run_prepare
from ..stages.rated_rows import rows_to_rate
from ..stages.scored_rows import rows_to_score
from .lengths import PairLengths, assumed_lengths, pair_lengths
from .shape import ModelShape, model_shape

# Number of aspects if the data cannot be read: the paper's UltraFeedback.
ASSUMED_ASPECTS = 4


@dataclass
class ParsedStep:
    """A step of a recipe with its parsed dataclasses."""

    step: Step
    outputs: tuple[Any, ...]

    @property
    def stage(self) -> str:
        """Its stage."""
        return self.step.stage


@dataclass
class Pairs:
    """
    The preferences of a recipe.

    Args:
        rows ([`~datasets.Dataset`], *optional*): The preferences; `None` if only their number is known.
        aspects (array of shape `(num_pairs,)`): Aspect of each pair's label.
        conversations_per_pair (`float`): Distinct conversations per pair, if only the number of pairs is known.
        tokens_per_pair (`float`, *optional*): Tokens of both conversations of a pair, if given.
        sample_rows (`int`): Maximum number of pairs to tokenise.
        seed (`int`): Seed of the sample.
        assumptions (`list` of `str`): What was assumed.
    """

    rows: Any
    aspects: NDArray
    conversations_per_pair: float = 2.0
    tokens_per_pair: float | None = None
    sample_rows: int = 2000
    seed: int = 42
    assumptions: list[str] = field(default_factory=list)
    _lengths: dict[str, PairLengths] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.aspects.size)

    def heldout(self, share: float, seed: int) -> NDArray[np.bool_]:
        """Mask of the pairs that are held out when reward models are trained."""
        if self.rows is not None:
            return heldout_rows(self.rows, share, seed)
        return np.random.default_rng(seed).permutation(len(self)) < round(share * len(self))

    def lengths(self, model: "PlannedModel") -> PairLengths:
        """Tokens of each pair by the model's tokenizer."""
        if model.name not in self._lengths:
            self._lengths[model.name] = self._measure(model)
        return self._lengths[model.name]

    def _measure(self, model: "PlannedModel") -> PairLengths:
        if self.tokens_per_pair is not None:
            return assumed_lengths(len(self), self.tokens_per_pair, self.conversations_per_pair)
        try:
            tokenizer = model.tokenizer
        except InputError as error:
            raise InputError(f"{error} Or say how long pairs are, with --tokens_per_pair.") from None
        source = f"the tokenizer of {model.name}"
        return pair_lengths(self.rows, tokenizer, sample_rows=self.sample_rows, seed=self.seed, source=source)


@dataclass
class PlannedModel:
    """
    A model by its configuration and tokenizer; its weights are not read.

    Args:
        name (`str`): Folder or Hub id.
        revision (`str`, *optional*): Revision on the Hub.
        trust_remote_code (`bool`): Whether to run code that comes with it.
    """

    name: str
    revision: str | None = None
    trust_remote_code: bool = False

    @cached_property
    def _place(self) -> dict[str, Any]:
        path = Path(self.name).expanduser()
        if path.is_dir() and is_adapter(path):
            return PlannedModel(base_of(path))._place
        repo_id, pinned = (str(path), None) if path.exists() else split_revision(self.name)
        return {
            "pretrained_model_name_or_path": repo_id,
            "revision": self.revision or pinned or "main",
            "trust_remote_code": self.trust_remote_code,
        }

    @cached_property
    def config(self) -> Any:
        """Its configuration."""
        from transformers import AutoConfig

        return self._read(AutoConfig, "configuration")

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        from transformers import AutoTokenizer

        return self._read(AutoTokenizer, "tokenizer")

    def _read(self, kind: Any, what: str) -> Any:
        try:
            return kind.from_pretrained(**self._place)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"The {what} of the model {self.name} cannot be read ({reason}). Check the name and the connection, or name a "
                "folder that holds its config.json and tokenizer, such as with --reward.model_name_or_path FOLDER."
            ) from None

    def shape(self, **options: Any) -> ModelShape:
        """Its sizes, see [`model_shape`]."""
        return model_shape(self.config, name=self.name, trust_remote_code=self.trust_remote_code, **options)


def find_pairs(
    steps: Iterable[ParsedStep],
    *,
    num_pairs: int | None,
    tokens_per_pair: float | None,
    num_aspects: int | None,
    conversations_per_pair: float,
    sample_rows: int,
    seed: int,
) -> Pairs:
    """
    The pairs of a recipe: the result of `prepare`, else what `prepare` would make from the source, else `num_pairs`
    assumed pairs.

    Raises:
        InputError: If the data cannot be read and `num_pairs` and `tokens_per_pair` are not given.
    """
    options: dict[str, Any] = {
        "sample_rows": sample_rows,
        "seed": seed,
        "conversations_per_pair": conversations_per_pair,
    }
    if num_pairs is not None:
        if tokens_per_pair is None:
            raise InputError("`num_pairs` replaces the data, so `tokens_per_pair` is needed too.")
        assumed = assumed_lengths(num_pairs, tokens_per_pair, conversations_per_pair)
        count = num_aspects or ASSUMED_ASPECTS
        if count < 1:
            raise InputError(f"`num_aspects` must be at least 1, got {num_aspects}.")
        text = (
            f"The data was not read: {assumed.source}, {conversations_per_pair:g} distinct conversations per pair, "
            f"{count} aspects."
        )
        padding = "There is no padding, and half of each conversation is its prompt."
        aspects = np.arange(num_pairs) % count
        return Pairs(None, aspects, tokens_per_pair=tokens_per_pair, assumptions=[text, padding], **options)
    try:
        rows = _rows(list(steps))
    except (InputError, OSError, ConnectionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{reason} Or give --num_pairs and --tokens_per_pair to plan without the data.") from None
    if "aspect" not in rows.column_names:
        raise InputError(
            f"The data has no column 'aspect'; its columns are {', '.join(rows.column_names)}. Plan from the folder of "
            "`prepare`."
        )
    assumptions = [f"Pairs have {tokens_per_pair:g} tokens each, as given."] if tokens_per_pair is not None else []
    return Pairs(
        rows, np.asarray(rows["aspect"][:]), tokens_per_pair=tokens_per_pair, assumptions=assumptions, **options
    )


def _rows(steps: list[ParsedStep]) -> Any:
    world = next((Path(parsed.step.output_dir) for parsed in steps if parsed.stage == "simulate"), None)
    if world is not None and not (world.expanduser() / "pairs").is_dir():
        raise InputError(
            f"The simulated pairs and model are not in {world} yet: make them with `pd-trl run --stages simulate,prepare`."
        )
    for parsed in steps:
        if parsed.stage != "prepare":
            continue
        arguments = parsed.outputs[0]
        folder = Path(arguments.output_dir).expanduser() / "preferences"
        if any(folder.glob("train-*.parquet")):
            return read_rows(folder)
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary) / "prepared"
            run_prepare(replace(arguments, output_dir=str(place), dry_run=False))
            # In memory, because the files are about to be deleted.
            files = sorted((place / "preferences").glob("train-*.parquet"))
            return Dataset(pa.concat_tables([pq.read_table(file) for file in files]))
    for parsed in steps:
        name = getattr(parsed.outputs[0], "dataset_name", None)
        if name and parsed.stage == "rate":
            return rows_to_rate(parsed.outputs[0])
        if name and parsed.stage == "score":
            given = rows_to_score(name, parsed.outputs[0].column_mapping)
            if given.part != "pairs":
                raise InputError(f"{name} holds single responses, and a plan is made for pairs.")
            return given.rows
        if name:
            part = {"select": "scored", "dpo": "selected"}.get(parsed.stage, "preferences")
            return rows_of(name, part)
    raise InputError("The recipe names no data.")
