"""What selectors of other papers keep of the pairs that arms choose from: what they read of a policy, computed once and kept on disk."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_rivals import agreements, cells_of
from datasets import Dataset
from numpy.typing import NDArray
from real_data.tables import markdown

from pd_trl import policy_margins, rival_scores
from pd_trl.method.rivals import implicit_margins, validation_loss
from pd_trl.runs.artifacts import digest_of, read_json, write_json
from pd_trl.trainers.dpo.margins import prompt_parts

from .cells import PolicyBench
from .pairs import ARMS, PolicyPairs, conversations
from .settings import PolicySettings
from .training import read, trained

# The policy whose margins are read: a DPO on pairs that were drawn at random.
POLICY = ARMS["RAND"]
# SelectiveDPO: policies on one part of the prompts read the other.
_PARTS = 2


class Rivals:
    """
    Adds the columns of the selectors to the pool of a set under one assignment.

    Args:
        bench ([`PolicyBench`]): The benchmark.
        name (`str`), seed (`int`): The set and its assignment.
        settings ([`PolicySettings`]): Of the policies, which are trained as the arms are.
    """

    def __init__(self, bench: PolicyBench, name: str, seed: int, settings: PolicySettings) -> None:
        self.bench, self.name, self.seed, self.settings = bench, name, seed, settings
        self.pairs: PolicyPairs = bench.pairs(name, seed, settings)
        key = bench.path(name, seed, POLICY, settings).stem
        self.folder = bench.output / "rivals" / name / f"seed-{seed}" / key
        self.cpu_seconds: dict[str, float] = {}

    def rows(self) -> Dataset:
        """The scored pool with all columns that selectors rank by."""
        real, pool, settings = self.pairs.labelled, self.pairs.pool, self.settings
        theirs = self.bench.reference.log_probs(real, pool)
        policy = self._kept("policy", self._policy)
        chosen, rejected = (np.array(policy[f"policy_logp_{side}"]) for side in ("chosen", "rejected"))
        halves = np.full(len(pool), np.nan)
        for part in range(_PARTS):
            found = self._kept(f"part-{part}", lambda part=part: self._part(part))
            rows = np.array(found["rows"])
            held_out = implicit_margins(
                *map(np.array, (found["chosen"], found["rejected"])), *(side[rows] for side in theirs), settings.beta
            )
            halves[rows] = validation_loss(held_out)
        tokens = np.array(self.bench.reference.lengths([text[1] for text in real.texts]))
        scored = self.pairs.scored().add_column("delta_length", (tokens[real.chosen] - tokens[real.rejected])[pool])
        # As its authors compute it, without a reference; the others' is that of DPO.
        scored = scored.add_column("implicit_margin", np.array(policy["implicit_margin"]))
        scored = rival_scores(scored, ["pareto", "alignment_potential"])
        columns = {
            "implicit_margin": implicit_margins(chosen, rejected, *theirs, settings.beta),
            # DCRM's is that of the reference.
            "logp_distance": np.abs(theirs[0] - theirs[1]), "edit_distance": np.array(policy["edit_distance"]),
            "validation_loss": halves,
        }  # fmt: skip
        for column, values in columns.items():
            scored = scored.remove_columns([c for c in [column] if c in scored.column_names])
            scored = scored.add_column(column, values)
        return rival_scores(scored, ["bees"])

    def _kept(self, what: str, compute: Any) -> dict[str, Any]:
        path: Path = self.folder / f"{what}-{digest_of(self.pairs.labelled.digest)[:12]}.json"
        if not path.is_file():
            start = time.process_time()
            found = compute()
            write_json(path, {**found, "cpu_seconds": time.process_time() - start})
        found = dict(read_json(path))
        self.cpu_seconds[what] = found.pop("cpu_seconds")
        return found

    def _policy(self) -> dict[str, Any]:
        """What the policy says of the pool."""
        from peft import PeftModel

        real, pool, reference = self.pairs.labelled, self.pairs.pool, self.bench.reference
        self.bench.cell(self.name, self.seed, POLICY, self.settings)
        adapter = self.bench.path(self.name, self.seed, POLICY, self.settings).with_suffix("")
        model = PeftModel.from_pretrained(reference.model(), str(adapter)).merge_and_unload().eval()
        found = policy_margins(
            conversations(real, pool), model, beta=self.settings.beta, tokenizer=reference.tokenizer, batch_size=1, share_prefix=True
        )  # fmt: skip
        names = ("policy_logp_chosen", "policy_logp_rejected", "implicit_margin", "edit_distance")
        return {name: found[name][:] for name in names}

    def _part(self, part: int) -> dict[str, Any]:
        """What a policy that was trained on the other prompts of the pool says of those of one part."""
        real, pool, settings = self.pairs.labelled, self.pairs.pool, self.settings
        parts: NDArray[np.integer] = prompt_parts(real.rows.select(pool), _PARTS, self.seed)
        rows, held_out = pool[parts != part], np.flatnonzero(parts == part)
        straight = np.zeros(len(rows), dtype=bool)
        steps = max(1, len(rows) // settings.batch_size)
        model, _ = trained(self.bench.reference, real, rows, straight, steps, settings, self.seed)
        model = model.merge_and_unload() if settings.lora_rank else model
        chosen, rejected = read(model, self.bench.reference.tokenizer, conversations(real, pool[held_out]))
        return {"rows": held_out.tolist(), "chosen": chosen.tolist(), "rejected": rejected.tolist()}


def rivals_table(
    bench: PolicyBench, names: list[str], seeds: list[int], settings: PolicySettings
) -> tuple[list[str], list[dict[str, Any]]]:
    """Lines of a table for each set, and its entries: how often kept labels agree with those that no selection saw."""
    lines, entries = [], []
    for name in names:
        found, seconds = {}, []
        for seed in seeds:
            rivals = Rivals(bench, name, seed, settings)
            found[seed] = agreements(rivals.rows(), settings.budget)
            seconds.append(rivals.cpu_seconds)
            entries.append({"set": name, "seed": seed, "pool": len(rivals.pairs.pool), "cpu_seconds": rivals.cpu_seconds,
                            "selectors": found[seed]})  # fmt: skip
        sums = ", ".join(f"{what} {np.mean([s[what] for s in seconds]) / 60:.1f}" for what in seconds[0])
        lines += [
            "",
            f"## Selectors on {name}",
            "",
            *markdown(cells_of(found, {})),
            "",
            f"CPU minutes a seed: {sums}.",
        ]
    return lines, entries
