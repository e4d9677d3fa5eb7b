"""The pairs of one set and assignment: what arms choose from, what is held out, and what each arm trains on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from real_data.cells import CellStore
from real_data.handling import NONE
from real_data.lm_heads import LanguageModelProxies, language_model_gaps
from real_data.sets import RealSet, prompt_folds
from real_data.settings import LM

from pd_trl import PDFilter
from pd_trl.errors import InputError
from pd_trl.method.ranking import random_keys
from pd_trl.runs.artifacts import digest_of, read_json, write_json
from pd_trl.runs.identity import data_key

from .settings import PolicySettings

# One order of the pairs for all assignments, so that seeds share what they can.
ORDER_SEED = 0
# Empty: the default one of SmolLM2's template is as long as a short pair.
SYSTEM = {"role": "system", "content": ""}


@dataclass(frozen=True)
class Arm:
    """
    What a policy trains on.

    Args:
        name (`str`): Row of the table.
        selector (`str`, *optional*): Rule of [`~pd_trl.PDFilter`]; `None` is all pairs.
        source (`str`): Where it reads gaps, `"rewards"` or `"ratings"`.
        overall (`bool`): Whether pairs carry the overall label.
        epoch (`bool`): Whether it reads all its pairs once. Otherwise it makes as many steps as a selection has in one epoch.
    """

    name: str
    selector: str | None = None
    source: str = "rewards"
    overall: bool = False
    epoch: bool = False


ARMS = {
    arm.name: arm
    for arm in (
        Arm("ALL"),
        Arm("RAND", "random"),
        Arm("RAF", "margin"),
        Arm("PD (ours)", "pd"),
        Arm("PD (rati.)", "pd", "ratings"),
        Arm("PD (high)", "pd_high"),
        Arm("OVA", overall=True),
        Arm("ALL, one epoch", epoch=True),
        Arm("OVA, one epoch", overall=True, epoch=True),
    )
}


def taken(real: RealSet, rows: NDArray[np.integer], count: int, per_prompt: int) -> NDArray[np.integer]:
    """The first `count` of `rows` in an order by pair id, at most `per_prompt` of a prompt."""
    order = rows[np.argsort(random_keys(real.pair_ids[rows], ORDER_SEED), kind="stable")]
    seen: dict[int, int] = {}
    chosen = []
    for row in order.tolist():
        prompt = int(real.prompts[row])
        if seen.get(prompt, 0) < per_prompt and len(chosen) < count:
            seen[prompt] = seen.get(prompt, 0) + 1
            chosen.append(row)
    return np.array(chosen, dtype=int)


def restricted(real: RealSet, rows: NDArray[np.integer], folds: int) -> RealSet:
    """A set of some of the pairs, with folds of their prompts alone."""
    part = real.rows.select(rows)
    names, prompts = np.unique(np.asarray(part["prompt_id"][:], dtype=str), return_inverse=True)
    used = np.unique([real.chosen[rows], real.rejected[rows]])
    overall = None if real.overall is None else real.overall[rows]
    return replace(
        real, rows=part, own=real.own[rows], votes=real.votes[rows], overall=overall, prompts=prompts,
        folds=prompt_folds(names, min(folds, len(names)))[prompts], texts=[real.texts[i] for i in used],
        chosen=np.searchsorted(used, real.chosen[rows]), rejected=np.searchsorted(used, real.rejected[rows]),
        digest=data_key(part),
    )  # fmt: skip


class PolicyPairs:
    """
    The pairs of one set under one assignment. One fold of prompts is held out, another one for each seed; proxies are trained on
    the other prompts and score, each, those of them that it did not see.

    Args:
        store ([`CellStore`]): Where sets and the language model of the proxies are.
        name (`str`): Name of the set.
        seed (`int`): Seed of the assignment.
        settings ([`PolicySettings`]): Sizes.
        lengths (callable): Tokens of texts, `(list[str]) -> array`.
        folder (`Path`): Folder for the gaps.
    """

    def __init__(
        self, store: CellStore, name: str, seed: int, settings: PolicySettings, lengths: Any, folder: Path
    ) -> None:
        self.store, self.settings, self.folder = store, settings, Path(folder)
        real = store.real(name, seed)
        self.fold = seed % store.folds
        prompts, responses = (np.array(lengths([text[side] for text in real.texts])) for side in (0, 1))
        longest = np.maximum(responses[real.chosen], responses[real.rejected])
        short = prompts[real.chosen] + longest <= settings.max_tokens
        self.too_long = int((~short).sum())
        train = real.training_rows(self.fold)[0]
        pool = taken(real, train[short[train]], settings.pairs, settings.per_prompt)
        more = taken(real, np.setdiff1d(train, pool), settings.proxy_pairs - len(pool), settings.per_prompt)
        test = np.flatnonzero((real.folds == self.fold) & short)
        self.labelled = restricted(real, np.concatenate([pool, more]), store.folds)
        self.held_out = restricted(real, taken(real, test, settings.held_out, settings.per_prompt), store.folds)
        self.pool = np.arange(len(pool))
        if len(pool) < settings.batch_size or not len(self.held_out):
            raise InputError(
                f"{name}: {len(pool)} training pairs and {len(self.held_out)} held-out ones have at most {settings.max_tokens} tokens; "
                f"{self.too_long} pairs are longer. Raise --max_tokens."
            )

    def scored(self) -> Dataset:
        """The pool with the gaps of the proxies and of one unified proxy, from disk where they are there."""
        real = self.labelled
        key = digest_of([real.digest, LM, self.store.lm.key, self.store.folds])
        path = self.folder / real.name / f"gaps-{real.seed}-{key}.json"
        if not path.is_file():
            proxies = LanguageModelProxies(real, self.store.lm, *self.store.lm_states(real), LM)
            gaps, margin, _ = language_model_gaps(proxies, NONE, unified=True)
            columns = {f"reward_gap_{aspect}": gaps[:, k].tolist() for k, aspect in enumerate(real.aspects)}
            write_json(path, {**columns, "reward_gap_overall": [float(v) for v in margin]})  # type: ignore[union-attr]
        rows = real.rows.select(self.pool)
        for name, values in read_json(path).items():
            rows = rows.add_column(name, np.array(values, dtype=np.float32)[self.pool])
        return rows

    def proxy_accuracy(self, scored: Dataset) -> dict[str, float]:
        """Share of the decided votes of each aspect in the pool that its proxy gets right."""
        found = {}
        for k, aspect in enumerate(self.labelled.aspects):
            votes = self.labelled.votes[self.pool, k]
            agree = np.sign(np.array(scored[f"reward_gap_{aspect}"][:])) == votes
            found[aspect] = float(agree[votes != 0].mean()) if (votes != 0).any() else float("nan")
        return found

    def why_not(self, arm: Arm) -> str | None:
        """Why the set has no such arm, or `None`."""
        real = self.labelled
        if arm.overall and real.overall is None:
            return "the set has no overall label"
        others = (real.own[self.pool, None] != np.arange(len(real.aspects))) & (real.votes[self.pool] != 0)
        if arm.source == "ratings" and not others.any():
            return "no pair has ratings of a second aspect"
        if arm.source == "ratings":
            try:
                self.rows_of(arm)
            except InputError as error:
                return f"its selection cannot be made: {error}"
        return None

    def rows_of(self, arm: Arm) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """Rows of the pool that an arm trains on, and which of them are turned round."""
        turned = np.zeros(len(self.pool), dtype=bool)
        if arm.overall:
            overall = self.labelled.overall[self.pool]  # type: ignore[index]
            return self.pool[overall != 0], (overall < 0)[overall != 0]
        if arm.selector is None:
            return self.pool, turned
        budget = min(self.settings.kept, len(self.pool))
        # Proxies are trained only where a rule reads them.
        reads_proxies = arm.source == "rewards" and arm.selector != "random"
        rows = self.scored() if reads_proxies else self.labelled.rows.select(self.pool)
        kept = PDFilter(budget, selector=arm.selector, source=arm.source, seed=self.labelled.seed, on_no_votes="drop")(
            rows
        )
        position = {name: i for i, name in enumerate(self.labelled.pair_ids[self.pool].tolist())}
        chosen = np.sort([position[name] for name in kept["pair_id"]])
        return chosen, turned[chosen]

    def steps_of(self, arm: Arm) -> int:
        """Steps of an arm's training."""
        pairs = len(self.rows_of(arm)[0]) if arm.epoch else min(self.settings.kept, len(self.pool))
        return max(1, pairs // self.settings.batch_size)


def conversations(real: RealSet, rows: NDArray[np.integer], turned: NDArray[np.bool_] | None = None) -> Dataset:
    """Pairs as messages; those that are `turned` have their sides exchanged."""
    sides = [real.chosen[rows], real.rejected[rows]]
    if turned is not None:
        sides = [np.where(turned, sides[1], sides[0]), np.where(turned, sides[0], sides[1])]
    return Dataset.from_list(
        [
            {
                "prompt": [SYSTEM, {"role": "user", "content": real.texts[chosen][0]}],
                "chosen": [{"role": "assistant", "content": real.texts[chosen][1]}],
                "rejected": [{"role": "assistant", "content": real.texts[rejected][1]}],
            }
            for chosen, rejected in zip(*sides, strict=True)
        ]
    )
