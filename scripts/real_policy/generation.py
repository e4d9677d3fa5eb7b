"""What policies answer to prompts of other sets, and how heads that were trained on the held-out prompts alone rate the answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from numpy.typing import NDArray
from real_data.handling import NONE
from real_data.lm_heads import LanguageModelProxies
from real_data.sets import RealSet
from real_data.settings import LM
from real_data.tables import markdown

from pd_trl.errors import InputError
from pd_trl.generation.decoding import decode
from pd_trl.generation.settings import DecodingConfig
from pd_trl.method.ranking import random_keys
from pd_trl.runs.artifacts import digest_of, read_json, write_json

from .cells import PolicyBench
from .pairs import ORDER_SEED, SYSTEM, Arm, restricted, taken
from .settings import PolicySettings
from .tables import points

# Greedy, and short: a policy of this size repeats itself after a few sentences.
MAX_NEW_TOKENS = 64
MAX_PROMPT_TOKENS = 64
_BATCH = 8


def prompts_of(path: Path, count: int, bench: PolicyBench) -> list[str]:
    """`count` prompts of at most [`MAX_PROMPT_TOKENS`] tokens, in an order by text."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: it holds the prompts to generate for (columns `prompt` and `source`)."
        )
    every = np.array(sorted(set(load_dataset("parquet", data_files=str(path), split="train")["prompt"])))
    short = every[np.array(bench.reference.lengths(every.tolist())) <= MAX_PROMPT_TOKENS]
    return short[np.argsort(random_keys(short, ORDER_SEED), kind="stable")][:count].tolist()


def answers(bench: PolicyBench, model: Any, prompts: Sequence[str]) -> list[str]:
    """Greedy answers of a model."""
    tokenizer = bench.reference.tokenizer
    ids = [
        tokenizer.apply_chat_template(
            [SYSTEM, {"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        for prompt in prompts
    ]
    config = DecodingConfig(max_new_tokens=MAX_NEW_TOKENS, temperature=0.0)
    found = [""] * len(prompts)
    for decoded in decode(model, tokenizer, ids, prompts, config, batch_size=_BATCH):
        found[decoded.position] = tokenizer.decode(decoded.token_ids, skip_special_tokens=True).strip()
    return found


def answers_of(
    bench: PolicyBench, name: str, seed: int, arm: Arm | None, settings: PolicySettings, prompts: Sequence[str]
) -> list[str]:
    """Answers of an arm's policy, or of the model before training (`arm=None`), from disk where they are there."""
    key = digest_of([list(prompts), MAX_NEW_TOKENS])[:8]
    if arm is None:
        path, adapter = bench.output / "answers" / f"base-{bench.reference.key[:12]}-{key}.json", None
    else:
        adapter = bench.path(name, seed, arm, settings).with_suffix("")
        path = adapter.with_name(f"{adapter.name}-answers-{key}.json")
    if not path.is_file():
        model = bench.reference.model().eval()
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()
        write_json(path, {"prompts": list(prompts), "answers": answers(bench, model, prompts)})
    return list(read_json(path)["answers"])


class HeldOutJudge:
    """
    A head for each aspect, trained on all decided labels of the held-out fold, of which policies and their selections saw nothing.

    Args:
        bench ([`PolicyBench`]): The benchmark.
        name (`str`), seed (`int`): The set and its assignment, which says which fold is held out.
        settings ([`PolicySettings`]): `proxy_pairs` and `per_prompt` bound the pairs of the training.
    """

    def __init__(self, bench: PolicyBench, name: str, seed: int, settings: PolicySettings) -> None:
        self.lm, real = bench.store.lm, bench.store.real(name, seed)
        fold = np.flatnonzero(real.folds == bench.pairs(name, seed, settings).fold)
        real = restricted(real, taken(real, fold, settings.proxy_pairs, settings.per_prompt), bench.store.folds)
        self.aspects = real.aspects
        pair, aspect = np.nonzero(real.votes)
        labels = _turned(real, pair, real.votes[pair, aspect] < 0)
        proxies = LanguageModelProxies(labels, self.lm, *bench.store.lm_states(real), LM)
        self.model, _ = proxies.train(np.arange(len(pair)), [real.aspects[k] for k in aspect], NONE, 0.0)

    @torch.no_grad()
    def rewards(self, prompts: Sequence[str], found: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Rewards of answers by each aspect's head."""
        from real_data.language_model import features_of

        texts = list(zip(prompts, found, strict=True))
        ids, counts = self.lm.encoded(texts)
        states = self.lm.states(texts, ids, counts)
        logits = self.model(
            features=torch.from_numpy(features_of(states, self.lm.layers, LM["pooling"], LM["layers"]))
        ).logits
        return {aspect: logits[:, k].numpy() for k, aspect in enumerate(self.model.aspects)}


def _turned(real: RealSet, rows: NDArray[np.integer], turned: NDArray[np.bool_]) -> RealSet:
    """The pairs `rows`, repeated where they are named twice, some of them with their sides exchanged."""
    sides = [
        np.where(turned, b[rows], a[rows]) for a, b in ((real.chosen, real.rejected), (real.rejected, real.chosen))
    ]
    return replace(real, chosen=sides[0], rejected=sides[1], prompts=real.prompts[rows])


def generation_table(
    bench: PolicyBench, cells: Sequence[tuple[str, int, Arm]], settings: PolicySettings, prompts: Sequence[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Lines of a table, and its entries: how often a policy's answer has a higher reward than that of the model before training."""
    base = answers_of(bench, "", 0, None, settings, prompts)
    judges: dict[tuple[str, int], HeldOutJudge] = {}
    entries = []
    for name, seed, arm in cells:
        if (name, seed) not in judges:
            judges[name, seed] = HeldOutJudge(bench, name, seed, settings)
        judge, found = judges[name, seed], answers_of(bench, name, seed, arm, settings, prompts)
        before, after = judge.rewards(prompts, base), judge.rewards(prompts, found)
        wins = {a: float(np.where(after[a] == before[a], 0.5, after[a] > before[a]).mean()) for a in before}
        lengths = bench.reference.lengths(found)
        entries.append({"set": name, "seed": seed, "arm": arm.name, "wins": wins, "tokens": float(np.mean(lengths))})
    lines = []
    for name in dict.fromkeys(entry["set"] for entry in entries):
        aspects = sorted(next(e for e in entries if e["set"] == name)["wins"])
        rows = [["arm", "seeds", *(f"`{a}`, above the base's" for a in aspects), "tokens"]]
        for label in dict.fromkeys(e["arm"] for e in entries if e["set"] == name):
            of_arm = [e for e in entries if (e["set"], e["arm"]) == (name, label)]
            rows.append([label, str(len(of_arm)), *(points([e["wins"][a] for e in of_arm]) for a in aspects)]
                        + [f"{np.mean([e['tokens'] for e in of_arm]):.1f}"])  # fmt: skip
        lines += [f"Answers to {len(prompts)} prompts, heads of {name} (base: {np.mean(bench.reference.lengths(base)):.1f} tokens):", "",
                  *markdown(rows), ""]  # fmt: skip
    return lines, entries
