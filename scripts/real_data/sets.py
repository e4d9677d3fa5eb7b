"""Real pairs with one label each, the hidden labels beside them, and folds of prompts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from pd_trl import load_pairs, to_preferences
from pd_trl.errors import InputError
from pd_trl.method.ranking import random_keys
from pd_trl.runs.identity import data_key
from pd_trl.selection.aspect_columns import numeric_column
from pd_trl.selection.gaps import gap_matrix

# One split of the prompts for every assignment of aspects, so that seeds differ by their labels alone.
FOLD_SEED = 0
# Counts of faults, of which fewer are better: a rating is better where it is higher.
NO_RATINGS = {"haluquestqa": ("n_factual_errors", "n_irrelevant_spans", "n_missing")}


@dataclass
class RealSet:
    """
    Preferences of one set and one assignment of aspects to pairs.

    Args:
        name (`str`): Name of the set.
        seed (`int`): Seed of the assignment.
        rows (`Dataset`): Preferences of [`~pd_trl.to_preferences`].
        aspects (`list[str]`): Aspects, sorted.
        own (array of shape `(num_pairs,)`): Index of the aspect whose label a pair carries.
        votes (array of shape `(num_pairs, num_aspects)`): 1 where an aspect prefers the chosen response, -1 the rejected, 0 none.
        overall (array of shape `(num_pairs,)`, *optional*): The same of the overall label.
        prompts (array of shape `(num_pairs,)`): Number of each pair's prompt.
        folds (array of shape `(num_pairs,)`): Fold of each pair; all pairs of a prompt are in one.
        texts (`list[tuple[str, str]]`): Distinct prompts with responses.
        chosen, rejected (arrays of shape `(num_pairs,)`): Positions in `texts`.
        digest (`str`): Hash of the rows.
        train_share (`float`): Share of the rows outside a fold that its proxies train on.
    """

    name: str
    seed: int
    rows: Dataset
    aspects: list[str]
    own: NDArray[np.integer]
    votes: NDArray[np.int8]
    overall: NDArray[np.int8] | None
    prompts: NDArray[np.integer]
    folds: NDArray[np.integer]
    texts: list[tuple[str, str]]
    chosen: NDArray[np.integer]
    rejected: NDArray[np.integer]
    digest: str
    train_share: float = 1.0

    def __len__(self) -> int:
        return len(self.own)

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """Decided votes of the aspects whose label a pair does not carry, shape `(num_pairs, num_aspects)`."""
        return (self.own[:, None] != np.arange(len(self.aspects))) & (self.votes != 0)

    @property
    def pair_ids(self) -> NDArray[np.str_]:
        """Ids of the pairs, shape `(num_pairs,)`."""
        return np.asarray(self.rows["pair_id"][:], dtype=str)

    def training_rows(self, fold: int) -> tuple[NDArray[np.integer], int]:
        """
        Rows outside `fold` that share no response with it, `train_share` of them, and how many were left out because they do.
        """
        held_out = self.folds == fold
        seen = {self.texts[i][1] for side in (self.chosen, self.rejected) for i in side[held_out]}
        shared = np.array([self.texts[a][1] in seen or self.texts[b][1] in seen for a, b in self._sides()])
        drawn = random_keys(self.pair_ids, self.seed) < self.train_share
        return np.flatnonzero(~held_out & ~shared & drawn), int((~held_out & shared).sum())

    def _sides(self) -> list[tuple[int, int]]:
        return list(zip(self.chosen.tolist(), self.rejected.tolist(), strict=True))


def load_set(path: Path, seed: int, folds: int, max_prompts: int | None = None, relabel: str | None = None) -> RealSet:
    """
    Reads a set, gives each pair the label of one aspect, and splits its prompts into folds.

    Args:
        path (`Path`): Parquet file.
        seed (`int`): Seed of the assignment.
        folds (`int`): Number of folds, at least 2.
        max_prompts (`int`, *optional*): Keep the pairs of this many prompts only (for quick runs and tests).
        relabel (`str`, *optional*): `"overall"` labels by the overall label, for sets without aspects.
    """
    pairs = load_pairs(str(path), on_invalid="drop")
    if max_prompts is not None:
        # By a draw: a file may hold one aspect's pairs after another's.
        every = np.array(list(dict.fromkeys(map(str, pairs["prompt_id"][:]))))
        first = set(every[np.argsort(random_keys(every, FOLD_SEED + 1), kind="stable")][:max_prompts].tolist())
        pairs = pairs.select([i for i, prompt in enumerate(pairs["prompt_id"][:]) if str(prompt) in first])
    counts = NO_RATINGS.get(path.stem, ())
    pairs = pairs.remove_columns(
        [c for c in pairs.column_names for n in counts if c.startswith((f"rating_{n}_", f"pref_{n}"))]
    )
    rows = to_preferences(pairs, seed=seed, relabel=relabel)
    if relabel is None:
        matrix = gap_matrix(rows, "ratings")
        aspects, own = matrix.names, matrix.own
        votes = np.stack([np.nan_to_num(numeric_column(rows, f"vote_{a}")) for a in aspects], axis=1).astype(np.int8)
    else:
        aspects, own, votes = ["overall"], np.zeros(len(rows), dtype=int), np.ones((len(rows), 1), dtype=np.int8)
    overall = None
    if "vote_overall" in rows.column_names:
        overall = np.nan_to_num(numeric_column(rows, "vote_overall")).astype(np.int8)
    names, prompts = np.unique(np.asarray(rows["prompt_id"][:], dtype=str), return_inverse=True)
    sides = [
        list(zip(map(str, rows["prompt"][:]), map(str, rows[side][:]), strict=True)) for side in ("chosen", "rejected")
    ]
    # Sorted, so that all assignments of a set share their texts' features.
    texts = sorted({*sides[0], *sides[1]})
    position = {text: i for i, text in enumerate(texts)}
    chosen, rejected = (np.array([position[text] for text in side]) for side in sides)
    return RealSet(
        path.stem, seed, rows, aspects, own, votes, overall, prompts, prompt_folds(names, folds)[prompts],
        texts, chosen, rejected, data_key(rows),
    )  # fmt: skip


def prompt_folds(names: NDArray[np.str_], folds: int) -> NDArray[np.integer]:
    """Fold of each prompt, their sizes within one prompt of each other."""
    if not 2 <= folds <= len(names):
        raise InputError(f"The number of folds must be from 2 to the number of prompts ({len(names)}), got {folds}.")
    result = np.empty(len(names), dtype=int)
    result[np.argsort(random_keys(names, FOLD_SEED))] = np.arange(len(names)) % folds
    return result
