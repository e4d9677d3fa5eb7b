"""[`ScoringRun`]: scores the shards of a data set, one reward model after the other."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ..data.chat import text_kind, wrap_text
from ..data.columnar import dataset_table, table_dataset
from ..errors import InputError
from ..models.inputs import check_token_ids
from ..models.sidecar import RewardSidecar
from ..runs.identity import data_key, digest_of, shard_identity
from ..runs.progress import Bar
from ..text.tables import printable
from .backends import Scorer, scorers_of
from .batching import score_sequences
from .encoding import PAIR, SINGLE
from .layout import prompt_groups, shard_rows
from .reward_models import RewardModel
from .settings import ScoringSettings
from .shard_tokens import ShardReader, ShardTokens, side_name
from .shards import ShardFolder, compute_shards

logger = logging.getLogger(__name__)

_LONGEST_NAME = 200
_TEXT_COLUMNS = ("pair_id", "prompt", *PAIR, *SINGLE, "tools", "chat_template_kwargs")


def _is_string(rows: Dataset, name: str) -> bool:
    return text_kind(rows.features.arrow_schema.field(name).type) == "text"


def as_messages(texts: Dataset, sides: Sequence[str]) -> Dataset:
    """Strings as messages: the prompt as the user's, the responses as the assistant's."""
    if "prompt" not in texts.column_names:
        raise InputError("`chat` makes messages of a prompt and its responses, and the data has no column 'prompt'.")
    table = dataset_table(texts)
    columns = {name: table.column(name) for name in table.column_names}
    columns["prompt"] = wrap_text(columns["prompt"], "user")
    columns |= {name: wrap_text(columns[name], "assistant") for name in sides}
    return table_dataset(pa.table(columns), texts.features)


class Scores(NamedTuple):
    """
    What a model says of some rows.

    Args:
        values (array of shape `(num_rows, num_aspects)`): Raw gaps in nats, or rewards of single responses.
        lengths (array of shape `(num_rows,)`): Tokens of the chosen minus those of the rejected response, or of the response.
        kept (array of shape `(num_rows,)`): Whether each row is kept.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int32]
    kept: NDArray[np.bool_]


class ScoringRun:
    """
    Args:
        rows ([`~datasets.Dataset`]): The pairs, or single responses (column `response`).
        settings ([`ScoringSettings`]): How they are scored.
        folder (`Path`, *optional*): Where the shards go. `None` is for rows that are one shard, see [`~ScoringRun.alone`].
    """

    def __init__(self, rows: Dataset, settings: ScoringSettings, folder: Path | None):
        self.settings, self.folder = settings, folder
        self.sides: tuple[str, ...] = PAIR if PAIR[0] in rows.column_names else SINGLE
        self.unit = "pairs" if self.sides == PAIR else "responses"
        columns = [name for name in _TEXT_COLUMNS if name in rows.column_names]
        self.texts = rows.select_columns([name for name in columns if name not in {*PAIR, *SINGLE} - {*self.sides}])
        self.strings = all(_is_string(self.texts, name) for name in self.sides)
        if settings.chat and self.strings:
            self.texts, self.strings = as_messages(self.texts, self.sides), False
        self.ids = np.asarray(rows["pair_id"][:], dtype=str)
        groups = prompt_groups(rows)
        self.rows = shard_rows(groups, settings.pairs_per_shard if folder is not None else len(rows))
        self._reader = ShardReader(self.texts, groups, self.rows, self.sides)
        self._identity = {
            "max_length": settings.max_length,
            "on_long": settings.on_long,
            "pairs_per_shard": settings.pairs_per_shard,
        }

    @cached_property
    def _data(self) -> str:
        return data_key(self.texts)

    def close(self) -> None:
        """Ends the thread that tokenises."""
        self._reader.close()

    def scorers(self, reward_models: Mapping[str, RewardModel]) -> Iterator[Scorer]:
        """The models, loaded one after the other."""
        how = self.settings
        return scorers_of(
            reward_models, how.backend, torch_compile=how.torch_compile, engine_kwargs=how.engine_kwargs,
            tokenizer=how.tokenizer, dtype=how.dtype, attn_implementation=how.attn_implementation,
            trust_remote_code=how.trust_remote_code,
        )  # fmt: skip

    def shards_of(self, scorer: Scorer) -> ShardFolder:
        """Folder of a model's shards."""
        identity = shard_identity(
            data=self._data, model=scorer.digest, aspects=scorer.aspects, computation=scorer.computation,
            longest=self._longest(scorer), **self._identity,
        )  # fmt: skip
        if self.folder is None:
            raise ValueError("Rows that are scored alone have no folder of shards.")
        return ShardFolder(self.folder / "shards" / _folder_name(scorer.aspects), len(self.rows), identity)

    def compute(self, scorer: Scorer) -> ShardFolder:
        """Scores what is left of a model's shards."""
        if (warning := self.template_warning(scorer)) is not None:
            logger.warning("%s", warning)
        shards = self.shards_of(scorer)
        with Bar(
            total=len(self.ids),
            desc=printable(f"Scoring {', '.join(scorer.aspects)}"),
            unit=self.unit[:-1],
            disable=None,
        ) as bar:
            bar.update(sum(rows.size for index, rows in enumerate(self.rows) if shards.is_done(index)))

            def compute(index: int) -> tuple[Dataset, dict[str, int]]:
                ids, tokens = self.ids[self.rows[index]], self.read(scorer, index)
                if (following := shards.following(index)) is not None:
                    self._reader.read_ahead(scorer.tokenizer, following, scorer.counts_responses)
                found, counts = self._score(scorer, tokens, ids, _pairs_of(len(ids), len(tokens.tokens), bar.update))
                content = {"pair_id": ids.tolist(), self._length: found.lengths, "kept": found.kept}
                content |= {f"gap_{k}": found.values[:, k] for k in range(found.values.shape[1])}
                return Dataset.from_dict(content), counts

            compute_shards(shards, compute)
        return shards

    def read(self, scorer: Scorer, index: int = 0) -> ShardTokens:
        """The tokens of a shard."""
        return self._reader.read(scorer.tokenizer, index, scorer.counts_responses)

    def alone(self, scorer: Scorer) -> tuple[Scores, dict[str, int]]:
        """Scores of all rows as one shard, of which nothing stays on the disk, and what they took."""
        return self._score(scorer, self.read(scorer), self.ids, lambda count: None)

    def template_warning(self, scorer: Scorer) -> str | None:
        """Of texts that are strings, and a model not trained here that has a chat template, which it then does not see."""
        trained_here = any(sidecar != RewardSidecar() for sidecar in scorer.sidecars.values())
        if not self.strings or not scorer.tokenizer.chat_template or trained_here:
            return None
        return (
            f"The texts are strings, and the model of {', '.join(scorer.aspects)} has a chat template: prompt and response are joined "
            "without it. If the model was trained on chats, use chat=True (--chat true)."
        )

    def each(self, scorers: Iterable[Scorer]) -> Iterator[tuple[Scorer, Scores]]:
        """The scores by each model, one after the other."""
        for scorer in scorers:
            yield scorer, self.merged(scorer, self.compute(scorer))
            # The next model is loaded while this frame still holds this one.
            del scorer

    def merged(self, scorer: Scorer, shards: ShardFolder) -> Scores:
        """The scores in the order of the rows."""
        merged, counts = shards.merged()
        if counts["truncated"]:
            logger.warning("%s", truncation(counts, self.unit, self._longest(scorer), scorer.aspects))
        logger.info("%s", describe(scorer.aspects, counts, self.unit))
        arrays = merged.with_format("numpy")[:]
        order = np.concatenate(self.rows)
        if arrays["pair_id"].astype(str).tolist() != self.ids[order].tolist():
            raise InputError(f"The shards in {shards.folder} do not match the data. Remove the folder and run again.")
        gaps = np.stack([arrays[f"gap_{k}"] for k in range(len(scorer.aspects))], axis=1).astype(np.float32)
        back = np.argsort(order)
        return Scores(gaps[back], arrays[self._length].astype(np.int32)[back], arrays["kept"].astype(bool)[back])

    @property
    def _length(self) -> str:
        """Column of the shards with the number of tokens."""
        return "delta_length" if self.sides == PAIR else "num_tokens"

    def _longest(self, scorer: Scorer) -> int | None:
        return self.settings.max_length if self.settings.max_length is not None else scorer.longest

    def _named(self, row_id: Any) -> str:
        return f"pair_id {str(row_id)!r}" if self.sides == PAIR else f"row {row_id}"

    def _score(
        self, scorer: Scorer, shard: ShardTokens, ids: NDArray[np.str_], progress: Callable[[int], Any]
    ) -> tuple[Scores, dict[str, int]]:
        """The scores of one shard, and what they took. `progress` is told of distinct conversations."""
        longest, on_long = self._longest(scorer), self.settings.on_long
        start = time.perf_counter()
        check_token_ids(
            shard.tokens.ids, shard.tokens.lengths, scorer.num_embeddings, scorer.tokenizer,
            lambda index: side_name(int(np.argmax(shard.places == index)), ids.tolist(), self.sides),
        )  # fmt: skip
        lengths = shard.tokens.lengths[shard.places].reshape(-1, len(self.sides))
        too_long = (lengths > longest).any(axis=1) if longest is not None else np.zeros(len(ids), dtype=bool)
        if too_long.any() and on_long == "error":
            row = int(np.flatnonzero(too_long)[0])
            raise InputError(
                f"{int(too_long.sum())} {self.unit} are longer than {longest} tokens, the first {self._named(ids[row])} ({int(lengths[row].max())} tokens). Shorten them, or use on_long='truncate' or 'drop'."
            )
        rewards, counts = score_sequences(
            scorer, shard.tokens.shortened(longest, scorer.keeps_first), shard.groups, tokens_per_batch=self.settings.tokens_per_batch,
            share_prefix=self.settings.share_prefix, progress=progress,
        )  # fmt: skip
        pairs = self.sides == PAIR
        gaps = rewards[shard.places[0::2]] - rewards[shard.places[1::2]] if pairs else rewards[shard.places]
        bad = np.flatnonzero(~np.isfinite(gaps).all(axis=1))
        if bad.size:
            aspects = [name for k, name in enumerate(scorer.aspects) if not np.isfinite(gaps[:, k]).all()]
            raise InputError(
                f"The reward model of {', '.join(aspects)} gives rewards that are not finite, the first for "
                f"{self._named(ids[bad[0]])} ({bad.size} such {self.unit} in this shard). Train it again."
            )
        delta = lengths[:, 0] - lengths[:, 1] if pairs else lengths[:, 0]
        kept: NDArray[np.bool_] = np.logical_not(too_long) if on_long == "drop" else np.ones(len(ids), dtype=bool)
        took = int(1e6 * (time.perf_counter() - start))
        truncated = int(too_long.sum()) if on_long == "truncate" else 0
        found = Scores(gaps.astype(np.float32), delta.astype(np.int32), kept)
        return found, {"truncated": truncated, **vars(counts), "microseconds": took}


def _folder_name(aspects: Sequence[str]) -> str:
    """The names of aspects, as far as a file system takes them: it takes 255 bytes."""
    whole = "+".join(aspects)
    if len(whole.encode()) <= _LONGEST_NAME:
        return whole
    start = whole.encode()[:60].decode(errors="ignore")
    return f"{start}+{len(aspects)}-{digest_of(list(aspects))[:16]}"


def describe(aspects: Sequence[str], counts: dict[str, int], unit: str = "pairs") -> str:
    """One line on what scoring took, from the sums of the markers of its shards."""
    seconds = max(counts["microseconds"] / 1e6, 1e-9)
    shared = counts["tokens"] - counts["computed"]
    return (
        f"Scored {counts['rows']} {unit} for {', '.join(aspects)}: {counts['sequences']} distinct conversations, "
        f"{counts['tokens']} tokens ({100 * shared / max(1, counts['tokens']):.1f} % of them read with another's prompt, "
        f"{100 * (1 - counts['computed'] / max(1, counts['cells'])):.1f} % padding) in {seconds:.1f} s of the model, "
        f"{counts['tokens'] / seconds:.0f} tokens/s."
    )


def truncation(counts: Mapping[str, int], unit: str, longest: int | None, aspects: Sequence[str]) -> str:
    """One line on how many rows lost the start of their prompt."""
    return (
        f"{counts['truncated']} of {counts['rows']} {unit} are longer than {longest} tokens for {', '.join(aspects)} and were scored "
        "without the start of their prompt."
    )


def _pairs_of(num_pairs: int, num_sequences: int, update: Callable[[int], Any]) -> Callable[[int], None]:
    """Turns counts of distinct conversations into counts of pairs, for the bar."""
    done = 0.0

    def advance(count: int) -> None:
        nonlocal done
        before = int(done + 1e-6)
        done += count * num_pairs / num_sequences
        update(int(done + 1e-6) - before)

    return advance
