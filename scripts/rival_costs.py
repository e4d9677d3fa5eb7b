"""
What each selector costs before the first step on the kept pairs, by the formulas of `pd-trl plan`.

    python scripts/rival_costs.py                                   # the paper's setting as in docs/costs.md
    python scripts/rival_costs.py --num_pairs 60000 --tokens 800    # other data

An 8B policy, reward models of 1B, four aspects; sizes are those of Llama 3.1 8B and Llama 3.2 1B. Half of the tokens are prompt. Nothing is loaded.
"""

import argparse

from transformers import LlamaConfig

from pd_trl.pipeline.cost.formulas import Work, forward_flops, training_flops
from pd_trl.pipeline.cost.shape import ModelShape, model_shape
from pd_trl.text.tables import table

ASPECTS, REPEATS, SEED_PAIRS = 4, 3, 2000


def llama(hidden: int, layers: int, intermediate: int, tied: bool, task: str) -> ModelShape:
    """The shape of a Llama with 32 heads, 8 of keys and a vocabulary of 128,256."""
    config = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128_256, tie_word_embeddings=tied, pad_token_id=0,
    )  # fmt: skip
    return model_shape(config, task=task)


def reading(pairs: float, tokens: float) -> Work:
    """Both conversations of so many pairs, `tokens` together, half of them prompt."""
    side = tokens / 2
    return Work(
        sequences=round(2 * pairs), tokens=round(pairs * tokens), padded=round(pairs * tokens),
        squares=2 * pairs * side**2, head_tokens=round(pairs * tokens / 2),
    )  # fmt: skip


def costs(
    policy: ModelShape,
    small: ModelShape,
    proxy: ModelShape,
    num_pairs: int,
    tokens: float,
    distinct: float,
    *,
    aspects: int = ASPECTS,
    repeats: int = REPEATS,
    seed_pairs: int = SEED_PAIRS,
    checkpointing: bool = True,
) -> list[tuple[str, str, float]]:
    """
    Selector, what it computes, FLOPs; first DPO on all pairs.

    Args:
        policy, small, proxy ([`ModelShape`]): The policy, the one that BeeS trains and reads, and a reward model.
        num_pairs (`int`): Pairs.
        tokens (`float`): Tokens of both conversations of a pair.
        distinct (`float`): Conversations to score for each that pairs hold.
        aspects, repeats, seed_pairs (`int`): Proxies; splits of SelectiveDPO in halves; pairs of BeeS's DPO.
        checkpointing (`bool`): Gradient checkpointing.
    """
    work, scored = reading(num_pairs, tokens), reading(num_pairs * distinct, tokens)

    def dpo(shape: ModelShape, pairs: float) -> float:
        part = reading(pairs, tokens)
        return training_flops(shape, part, checkpointing=checkpointing, fused_head=True) + forward_flops(shape, part)

    learn = training_flops(proxy, work, checkpointing=checkpointing)
    score = forward_flops(proxy, scored)
    read = forward_flops(policy, work)
    return [
        ("(DPO on all pairs)", "training, reference", dpo(policy, num_pairs)),
        ("random, length", "nothing", 0.0),
        ("pd, pd_high, pareto", f"{aspects} proxies on a part each, {aspects} scores", learn + aspects * score),
        ("margin (RAF)", "a reward model on all pairs, a score", learn + score),
        ("dcrm", "a reward model, a score, the policy reads", learn + score + read),
        ("alignment_potential", "a reward model, a score, the policy reads", learn + score + read),
        (
            "bees",
            f"a reward model, a score, a small DPO on {seed_pairs} pairs that reads with its reference",
            learn + score + dpo(small, seed_pairs) + 2 * forward_flops(small, work),
        ),
        ("difficulty", "a DPO policy at hand and its reference read", 2 * read),
        ("difficulty", "the same, with that policy's training on all pairs", dpo(policy, num_pairs) + 2 * read),
        (
            "selective_dpo",
            f"{2 * repeats} policies on a half each, which read the other; the reference",
            repeats * dpo(policy, num_pairs) + (repeats + 1) * read,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_pairs", type=int, default=340_000)
    parser.add_argument("--tokens", type=float, default=1100, help="Tokens of both conversations of a pair.")
    parser.add_argument(
        "--distinct", type=float, default=1 / 3, help="Conversations to score for each that pairs hold."
    )
    arguments = parser.parse_args()
    policy, small = llama(4096, 32, 14_336, False, "causal"), llama(2048, 16, 8192, True, "causal")
    proxy = llama(2048, 16, 8192, True, "reward")
    found = costs(policy, small, proxy, arguments.num_pairs, arguments.tokens, arguments.distinct)
    whole = found[0][2]
    rows = [["selector", "what it computes", "EFLOPs", "of DPO on all pairs"]]
    rows += [[name, what, f"{flops / 1e18:.1f}", f"{100 * flops / whole:.1f} %"] for name, what, flops in found]
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
