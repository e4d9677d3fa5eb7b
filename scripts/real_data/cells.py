"""Held-out gaps of one set, assignment, kind of proxy and handling of length: computed once, kept on disk."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from pd_trl.runs.artifacts import Manifest, digest_of, read_rows, replaced_folder, write_rows
from pd_trl.selection.aspect_columns import numeric_column

from .features import NGRAM_SETTINGS, READ_TOKENS, WINDOW, FrozenEncoder, minilm_folder, ngram_gram, word_lengths
from .handling import AUTO_STRENGTHS, HANDLINGS, UNIFIED, Handling
from .language_model import PROMPT_TOKENS, RESPONSE_TOKENS, FrozenLanguageModel
from .linear import INNER_FOLDS, LinearData, linear_gaps, pair_gram
from .sets import RealSet, load_set
from .settings import EMBEDDING_C, HEAD, LM, LM_LAYERS, NGRAM_C

logger = logging.getLogger(__name__)

PROXIES = ("lm", "ngrams", "embedding", "head")
# Of these, each training takes seconds to minutes.
TRAINED = ("lm", "head")


@dataclass
class Cell:
    """
    Args:
        set_name, proxy, handling (`str`): What the gaps are of.
        seed (`int`): Seed of the assignment.
        gaps (array of shape `(num_pairs, num_aspects)`): Held-out gaps by the proxies, adjusted for length.
        margin (array of shape `(num_pairs,)`, *optional*): Held-out gap of one unified proxy, handled alike.
        delta_length (array of shape `(num_pairs,)`): In the proxy's tokens.
        notes (`list`): For each fold and aspect: training pairs, penalty.
        seconds (`float`): Time it took.
    """

    set_name: str
    seed: int
    proxy: str
    handling: str
    gaps: NDArray[np.float32]
    margin: NDArray[np.float32] | None
    delta_length: NDArray[np.integer]
    notes: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


class CellStore:
    """
    Computes cells that are not on disk yet.

    Args:
        data (`Path`): Folder of the parquet files.
        folder (`Path`): Folder of the cells.
        folds (`int`): Folds of prompts.
        max_prompts (`int`, *optional*): Prompts to use of each set.
        lm (`Path`): Folder of the language model.
        lm_layers (sequence of `int`): Its layers whose states are kept.
        lm_dtype (`str`): What it computes in, see [`FrozenLanguageModel`].
        lm_tokens (`int`): What it reads of a response, in tokens.
    """

    def __init__(
        self,
        data: Path,
        folder: Path,
        folds: int,
        max_prompts: int | None = None,
        lm: Path = Path("runs/smollm2"),
        lm_layers: Sequence[int] = LM_LAYERS,
        lm_dtype: str = "float32",
        lm_tokens: int = RESPONSE_TOKENS,
    ):
        self.data, self.folder, self.folds, self.max_prompts = Path(data), Path(folder), folds, max_prompts
        self.lm_folder, self.lm_layers, self.lm_dtype, self.lm_tokens = Path(lm), tuple(lm_layers), lm_dtype, lm_tokens
        self._lm: FrozenLanguageModel | None = None
        self._states: dict[str, tuple[list[list[int]], NDArray, NDArray]] = {}
        self._sets: dict[tuple[str, int], RealSet] = {}
        # Of one set at a time: they are large.
        self._texts: dict[tuple[str, str], tuple[NDArray, NDArray]] = {}
        self._tokens: dict[str, tuple[list[list[int]], NDArray]] = {}
        self._encoder: FrozenEncoder | None = None

    def real(self, name: str, seed: int) -> RealSet:
        """A set under one assignment."""
        if (name, seed) not in self._sets:
            self._sets[name, seed] = load_set(self.data / f"{name}.parquet", seed, self.folds, self.max_prompts)
        return self._sets[name, seed]

    def cell(self, name: str, seed: int, proxy: str, handling: str, train_share: float = 1.0) -> Cell:
        """The cell, from disk where it is there; `train_share` is that of [`RealSet`]."""
        real = replace(self.real(name, seed), train_share=train_share)
        chosen = HANDLINGS[handling]
        manifest = Manifest(
            "bench_real_cell",
            inputs={"rows": real.digest, "folds": digest_of(real.folds.tolist())},
            arguments={
                "proxy": proxy,
                "handling": repr(chosen),
                "seed": seed,
                "settings": _settings(proxy, chosen.auto) | (self._lm_settings() if proxy == "lm" else {}),
                **({} if train_share == 1 else {"train_share": train_share}),
            },
        )
        folder = self.folder / name / f"seed-{seed}" / proxy / handling.replace(" ", "_")
        folder = folder if train_share == 1 else folder.with_name(f"{folder.name}-share-{train_share:g}")
        if manifest.is_done_in(folder):
            done = Manifest.load(folder)
            return _read(folder, real, proxy, handling, done.results["notes"], done.seconds)  # type: ignore[union-attr]
        start = time.perf_counter()
        unified = handling in UNIFIED and (proxy not in TRAINED or handling == "none") and train_share == 1
        gaps, margin, notes, delta = self.gaps(real, proxy, chosen, unified)
        manifest.results, manifest.seconds = {"notes": notes}, time.perf_counter() - start
        manifest.counts = {"pairs": len(real)}
        with replaced_folder(folder) as new:
            columns: dict[str, Any] = {"pair_id": real.pair_ids.tolist(), "fold": real.folds, "delta_length": delta}
            columns |= {f"reward_gap_{aspect}": gaps[:, k] for k, aspect in enumerate(real.aspects)}
            if margin is not None:
                columns["reward_gap_overall"] = margin
            write_rows(Dataset.from_dict(columns), new)
            manifest.save(new)
        logger.info("%s, seed %d, %s, %s: %.1f s", name, seed, proxy, handling, manifest.seconds)
        return _read(folder, real, proxy, handling, notes, manifest.seconds)

    def gaps(
        self, real: RealSet, proxy: str, handling: Handling, unified: bool, **settings: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, list[dict], NDArray[np.integer]]:
        """Held-out gaps, those of a unified proxy where wanted, notes and `delta_length`; `settings` replace the chosen ones."""
        if proxy == "lm":
            from .lm_heads import LanguageModelProxies, language_model_gaps

            heads = LanguageModelProxies(real, self.lm, *self.lm_states(real), {**LM, **settings})
            return *language_model_gaps(heads, handling, unified), heads.delta_length
        if proxy == "head":
            from .encoder import EncoderProxies, encoder_gaps

            proxies = EncoderProxies(real, self.encoder, *self._encoded(real), {**HEAD, **settings})
            return *encoder_gaps(proxies, handling, unified), proxies.delta_length
        data = self._linear(real, proxy, settings.get("C", NGRAM_C if proxy == "ngrams" else EMBEDDING_C))
        return *linear_gaps(real, data, handling, unified), data.delta_length

    @property
    def lm(self) -> FrozenLanguageModel:
        """The language model, loaded when first needed."""
        if self._lm is None:
            states = self.folder / "states"
            self._lm = FrozenLanguageModel(self.lm_folder, states, self.lm_layers, self.lm_dtype, self.lm_tokens)
        return self._lm

    def _lm_settings(self) -> dict[str, Any]:
        return {"model": self.lm.key, "read_tokens": [PROMPT_TOKENS, self.lm_tokens]}

    def lm_states(self, real: RealSet) -> tuple[list[list[int]], NDArray, NDArray]:
        """Tokens, response tokens and states of a set's texts, see [`FrozenLanguageModel`]."""
        key = digest_of(real.texts)
        if key not in self._states:
            self._states.clear()
            ids, counts = self.lm.encoded(real.texts)
            self._states[key] = ids, counts, self.lm.states(real.texts, ids, counts)
        return self._states[key]

    @property
    def encoder(self) -> FrozenEncoder:
        """The pretrained encoder, loaded when first needed."""
        if self._encoder is None:
            self._encoder = FrozenEncoder(minilm_folder(), self.folder / "embeddings")
        return self._encoder

    def _encoded(self, real: RealSet) -> tuple[list[list[int]], NDArray[np.float32]]:
        key = digest_of(real.texts)
        if key not in self._tokens:
            self._tokens.clear()
            ids = self.encoder.ids(real.texts)
            self._tokens[key] = ids, self.encoder.features(ids)
        return self._tokens[key]

    def _linear(self, real: RealSet, proxy: str, inverse_regularization: float) -> LinearData:
        key = (digest_of(real.texts), proxy)
        if key not in self._texts:
            self._texts.clear()
            if proxy == "ngrams":
                self._texts[key] = ngram_gram(real.texts), word_lengths(real.texts)
            else:
                ids, features = self._encoded(real)
                self._texts[key] = features @ features.T, np.array([len(row) for row in ids])
        gram, lengths = self._texts[key]
        delta = lengths[real.chosen] - lengths[real.rejected]
        return LinearData(pair_gram(gram, real.chosen, real.rejected), delta, inverse_regularization)


def _settings(proxy: str, auto: bool) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "ngrams": {"C": NGRAM_C, **NGRAM_SETTINGS},
        "embedding": {"C": EMBEDDING_C},
        "head": dict(HEAD),
        "lm": dict(LM),
    }[proxy]
    if proxy in ("embedding", "head"):
        chosen |= {"window": WINDOW, "read_tokens": READ_TOKENS}
    return chosen | ({"strengths": AUTO_STRENGTHS, "inner_folds": INNER_FOLDS} if auto else {})


def _read(folder: Path, real: RealSet, proxy: str, handling: str, notes: list[dict], seconds: float) -> Cell:
    rows = read_rows(folder)
    gaps = np.stack([numeric_column(rows, f"reward_gap_{aspect}") for aspect in real.aspects], axis=1)
    margin = None
    if "reward_gap_overall" in rows.column_names:
        margin = numeric_column(rows, "reward_gap_overall").astype(np.float32)
    delta = numeric_column(rows, "delta_length").astype(int)
    return Cell(real.name, real.seed, proxy, handling, gaps.astype(np.float32), margin, delta, notes, seconds)
