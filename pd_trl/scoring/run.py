"""[`ScoringRun`]: scores the shards of a data set, one reward model after the other."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from .shards import ShardFolder, compute_shards, job_indices

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


class ScoringRun:
    """
    Args:
        rows ([`~datasets.Dataset`]): The pairs, or single responses (column `response`).
        settings ([`ScoringSettings`]): How they are scored.
        folder (`Path`): Where the shards go.
    """

    def __init__(self, rows: Dataset, settings: ScoringSettings, folder: Path):
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
        self.rows = shard_rows(groups, settings.pairs_per_shard)
        self._reader = ShardReader(self.texts, groups, self.rows, self.sides)
        self._identity = {
            "max_length": settings.max_length,
            "on_long": settings.on_long,
            "pairs_per_shard": settings.pairs_per_shard,
        }
        self._data = data_key(self.texts)

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
        return ShardFolder(self.folder / "shards" / _folder_name(scorer.aspects), len(self.rows), identity)

    def compute(
        self, scorer: Scorer, job: str | None = None, finished: Callable[[], None] = lambda: None
    ) -> ShardFolder:
        """
        Scores what is left of a model's shards.

        Args:
            scorer ([`RewardModelScorer`] or [`VllmScorer`]): The model.
            job (`str`, *optional*): `"i/N"` scores every N-th shard only.
            finished (callable, *optional*): Called after each shard.
        """
        self._warn_of_template(scorer)
        shards = self.shards_of(scorer)
        indices = range(len(self.rows)) if job is None else job_indices(job, len(self.rows))
        total = sum(self.rows[index].size for index in indices)
        with Bar(
            total=total, desc=printable(f"Scoring {', '.join(scorer.aspects)}"), unit=self.unit[:-1], disable=None
        ) as bar:
            bar.update(sum(self.rows[index].size for index in indices if shards.is_done(index)))

            def compute(index: int) -> tuple[Dataset, dict[str, int]]:
                tokens = self._reader.read(scorer.tokenizer, index, scorer.counts_responses)
                following = next((i for i in indices if i > index and not shards.is_done(i)), None)
                if following is not None:
                    self._reader.read_ahead(scorer.tokenizer, following, scorer.counts_responses)
                return self._score(scorer, tokens, self.ids[self.rows[index]], bar)

            compute_shards(shards, compute, indices, finished)
        return shards

    def _warn_of_template(self, scorer: Scorer) -> None:
        """Says where texts are strings, and a model that was not trained here has a chat template, which it then does not see."""
        trained_here = any(sidecar != RewardSidecar() for sidecar in scorer.sidecars.values())
        if self.strings and scorer.tokenizer.chat_template and not trained_here:
            logger.warning(
                "The texts are strings, and the model of %s has a chat template: prompt and response are joined without it. If the model was "
                "trained on chats, use chat=True (--chat true).", ", ".join(scorer.aspects),
            )  # fmt: skip

    def job(
        self, reward_models: Mapping[str, RewardModel], shard: str, finished: Callable[[], None]
    ) -> dict[str, int]:
        """Scores the shards of one job of several: how many it has, and how many of others are `missing`, over all models."""
        found = {"shards": 0, "missing": 0}
        for scorer in self.scorers(reward_models):
            shards = self.compute(scorer, shard, finished)
            found["shards"] += len(job_indices(shard, shards.num_shards))
            found["missing"] += shards.num_shards - len(shards.done)
            del scorer
        return found

    def merged(
        self, scorer: Scorer, shards: ShardFolder
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]:
        """
        Raw gaps (of single responses, rewards) of shape `(num_rows, num_aspects)`, `delta_length` (tokens) and whether each row is
        kept, in the order of the rows.
        """
        merged, counts = shards.merged()
        if counts["truncated"]:
            logger.warning(
                "%d of %d %s are longer than %s tokens for %s and were scored without the start of their prompt.",
                counts["truncated"], counts["rows"], self.unit, self._longest(scorer), ", ".join(scorer.aspects),
            )  # fmt: skip
        logger.info("%s", describe(scorer.aspects, counts, self.unit))
        arrays = merged.with_format("numpy")[:]
        order = np.concatenate(self.rows)
        if arrays["pair_id"].astype(str).tolist() != self.ids[order].tolist():
            raise InputError(f"The shards in {shards.folder} do not match the data. Remove the folder and run again.")
        gaps = np.stack([arrays[f"gap_{k}"] for k in range(len(scorer.aspects))], axis=1).astype(np.float32)
        back = np.argsort(order)
        return gaps[back], arrays[self._length].astype(np.int32)[back], arrays["kept"].astype(bool)[back]

    @property
    def _length(self) -> str:
        """Column of the shards with the number of tokens."""
        return "delta_length" if self.sides == PAIR else "num_tokens"

    def _longest(self, scorer: Scorer) -> int | None:
        return self.settings.max_length if self.settings.max_length is not None else scorer.longest

    def _named(self, row_id: Any) -> str:
        return f"pair_id {str(row_id)!r}" if self.sides == PAIR else f"row {row_id}"

    def _score(
        self, scorer: Scorer, shard: ShardTokens, ids: NDArray[np.str_], bar: Bar
    ) -> tuple[Dataset, dict[str, int]]:
        """The gaps of one shard, and what they took."""
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
            share_prefix=self.settings.share_prefix, progress=_pairs_of(len(ids), len(shard.tokens), bar),
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
        content: dict[str, Any] = {
            "pair_id": ids.tolist(),
            self._length: (lengths[:, 0] - lengths[:, 1] if pairs else lengths[:, 0]).astype(np.int32),
            "kept": ~too_long if on_long == "drop" else np.ones(len(ids), dtype=bool),
        }
        content |= {f"gap_{k}": gaps[:, k] for k in range(gaps.shape[1])}
        took = int(1e6 * (time.perf_counter() - start))
        truncated = int(too_long.sum()) if on_long == "truncate" else 0
        return Dataset.from_dict(content), {"truncated": truncated, **vars(counts), "microseconds": took}


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


def _pairs_of(num_pairs: int, num_sequences: int, bar: Bar) -> Any:
    """Turns counts of distinct conversations into counts of pairs, for the bar."""
    done = 0.0

    def advance(count: int) -> None:
        nonlocal done
        before = int(done + 1e-6)
        done += count * num_pairs / num_sequences
        bar.update(int(done + 1e-6) - before)

    return advance
