"""The cells of the benchmark: one policy each, trained and read once, kept on disk."""

import logging
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from real_data.cells import CellStore

from pd_trl.method.rivals import implicit_margins
from pd_trl.runs.artifacts import digest_of, library_versions, read_json, write_json

from .measures import measures
from .pairs import ARMS, Arm, PolicyPairs, conversations
from .settings import PolicySettings
from .training import Reference, read, trained

logger = logging.getLogger(__name__)


@dataclass
class PolicyBench:
    """
    Trains the policies that are not on disk yet.

    Args:
        store ([`~real_data.cells.CellStore`]): Where sets and the language model of the proxies are.
        reference ([`Reference`]): What policies start from.
        output (`Path`): Folder of the cells.
        keep_adapters (`bool`): Whether to keep what was trained, for generations.
    """

    store: CellStore
    reference: Reference
    output: Path
    keep_adapters: bool = True
    _pairs: dict[tuple, PolicyPairs] = field(default_factory=dict)

    def pairs(self, name: str, seed: int, settings: PolicySettings) -> PolicyPairs:
        """The pairs of a set under one assignment."""
        key = (name, seed, tuple(settings.of_pairs().items()))
        if key not in self._pairs:
            folder = self.output / "gaps"
            self._pairs[key] = PolicyPairs(self.store, name, seed, settings, self.reference.lengths, folder)
        return self._pairs[key]

    def path(self, name: str, seed: int, arm: Arm, settings: PolicySettings) -> Path:
        """File of a cell: its name has a digest of all that decides the policy and its measures."""
        pairs = self.pairs(name, seed, settings)
        decides = [
            pairs.labelled.digest,
            pairs.held_out.digest,
            settings.as_dict(),
            repr(arm),
            seed,
            self.reference.key,
        ]
        decides += [self.store.lm.key, self.store.folds] if arm.selector not in (None, "random") else []
        slug = re.sub(r"[^a-z]+", "-", arm.name.lower()).strip("-")
        return self.output / "cells" / name / f"seed-{seed}" / f"{slug}-{digest_of(decides)[:12]}.json"

    def cell(self, name: str, seed: int, arm: Arm, settings: PolicySettings) -> dict[str, Any]:
        """The record of a policy, from disk where it is there."""
        path = self.path(name, seed, arm, settings)
        if path.is_file():
            return dict(read_json(path))
        start, cpu = time.perf_counter(), time.process_time()
        pairs = self.pairs(name, seed, settings)
        real, held_out = pairs.labelled, pairs.held_out
        rows, turned = pairs.rows_of(arm)
        model, notes = trained(self.reference, real, rows, turned, pairs.steps_of(arm), settings, seed)
        if settings.lora_rank and self.keep_adapters:
            model.save_pretrained(path.with_suffix(""))
        model = model.merge_and_unload() if settings.lora_rank else model
        everything = np.arange(len(held_out))
        ours = read(model, self.reference.tokenizer, conversations(held_out, everything))
        margins = implicit_margins(*ours, *self.reference.log_probs(held_out, everything), settings.beta)
        texts = np.array(self.reference.lengths([text[1] for text in held_out.texts]))
        delta = texts[held_out.chosen] - texts[held_out.rejected]
        votes = np.where(turned, -1, 1)[:, None] * real.votes[rows]
        hidden = np.where(real.own[rows, None] == np.arange(len(real.aspects)), 0, votes)
        record = {
            "set": name, "seed": seed, "arm": arm.name, "settings": settings.as_dict(), "fold": pairs.fold,
            "pool": len(pairs.pool), "labelled": len(real), "held_out": len(held_out), "too_long": pairs.too_long,
            "training": notes, "pair_ids": real.pair_ids[rows].tolist(),
            "training_hidden_agreement": float((hidden > 0).sum() / (hidden != 0).sum()) if (hidden != 0).any() else None,
            "training_aspects": {a: float((real.own[rows] == k).mean()) for k, a in enumerate(real.aspects)},
            "measures": measures(held_out, margins, delta), "margins": margins.tolist(),
            "held_out_ids": held_out.pair_ids.tolist(), "versions": library_versions(),
            "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu,
        }  # fmt: skip
        write_json(path, record)
        logger.info("%s, seed %d, %s: %d steps, %.0f s (CPU %.0f s)", name, seed, arm.name, notes["steps"],
                    record["seconds"], record["cpu_seconds"])  # fmt: skip
        return record

    def grid(
        self, names: list[str], seeds: list[int], arms: list[str], settings: PolicySettings
    ) -> tuple[list[tuple[str, int, Arm]], list[str]]:
        """Cells in the order in which they are run, all arms of a seed together, and the arms that sets do not have."""
        cells = []
        missing: dict[tuple[str, str, str], list[int]] = {}
        for name in names:
            for seed in seeds:
                for arm in (ARMS[a] for a in arms):
                    reason = self.pairs(name, seed, settings).why_not(arm)
                    if reason is None:
                        cells.append((name, seed, arm))
                    else:
                        missing.setdefault((name, arm.name, reason), []).append(seed)
        left_out = [
            f"{name}: no {arm}{'' if without == seeds else f' (seeds {without})'}, since {reason.rstrip('.')}."
            for (name, arm, reason), without in missing.items()
        ]
        return cells, left_out
