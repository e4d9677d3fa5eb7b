"""Cost of training a policy, of generating its outputs, and of judging them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...generation.prompts import encode_prompts
from ...runs.artifacts import read_rows
from ..stages.generate import decoding_of, load_sets
from .batches import decoding_work, training_work
from .formulas import forward_flops, inference_memory, training_flops
from .lengths import PairLengths
from .parts import Part, Recipe, StageCost
from .sources import Pairs, ParsedStep, PlannedModel
from .training import Training, epochs_work, memory_of, training_of

# Instructions of AlpacaEval, and tokens of one, if they cannot be read.
_ALPACA = (805, 40)


def dpo_cost(parsed: ParsedStep, pairs: Pairs, recipe: Recipe, *, all_pairs: bool = False) -> StageCost:
    """Training of a policy, on the kept pairs or on all."""
    cost = StageCost("dpo on all pairs" if all_pairs else parsed.step.name, "dpo")
    cost.rival = parsed.step.name.startswith("compare")
    training = training_of(parsed, recipe, reward=False)
    lengths = pairs.lengths(training.model)
    everything = all_pairs or parsed.step.name == "compare all: dpo"
    rows = np.arange(len(pairs)) if everything else _kept_rows(parsed, pairs, recipe)
    cost.model = training.model.name
    shape, largest = _add_training(cost, lengths.select(rows), training, recipe)
    held = not (training.peft_config is not None or training.args.precompute_ref_log_probs)
    cost.memory = memory_of(training, shape, largest, recipe, reference=held)
    cost.token_error = lengths.standard_error * sum(part.work.sequences for part in cost.parts) / 2
    return cost


def _add_training(cost: StageCost, lengths: PairLengths, training: Training, recipe: Recipe) -> Any:
    args = training.args
    given = len(lengths)
    if args.max_length is not None:
        if args.truncation_mode == "keep_start":
            lengths = lengths.select(np.flatnonzero(lengths.prompt < args.max_length))
        chosen, rejected = (np.minimum(side, args.max_length) for side in (lengths.chosen, lengths.rejected))
    else:
        chosen, rejected = lengths.chosen, lengths.rejected
    if given > len(lengths):
        recipe.note(
            f"{given - len(lengths):,} pairs have a prompt that fills max_length={args.max_length} and are left out of DPO."
        )
    # On an accelerator, TRL's fused head scores only the positions of the completions; elsewhere all.
    answers = np.maximum(chosen - lengths.prompt, 0) + np.maximum(rejected - lengths.prompt, 0)
    head = answers if recipe.on_gpu else None
    shape = training.shape()
    shared = lengths.prompt if args.share_prefix else None
    work = epochs_work(chosen, rejected, lengths.prompt, args, head_tokens=head)
    flops = training_flops(shape, work, checkpointing=args.gradient_checkpointing, fused_head=True)
    if args.precompute_ref_log_probs:
        size = args.precompute_ref_batch_size or args.per_device_train_batch_size
        reference = training_work(
            chosen, rejected, np.arange(chosen.size), batch_size=size, head_tokens=head, prompts=shared
        )
        reference.steps = 0
    else:
        reference = work
    setup = {"training": training, "shape": shape, "outputs": 1}
    cost.pairs = len(lengths)
    cost.add(Part("dpo", flops, work, prepared=given, setup=setup))
    cost.add(Part("dpo reference", forward_flops(shape, reference), reference, models=0, setup=setup))
    return shape, work.largest


def _kept_rows(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> NDArray:
    """Rows that the policy is trained on: those of a finished selection, else a random sample of the same size."""
    folder = Path(str(parsed.outputs[0].dataset_name or "")).expanduser() / "selected"
    count = recipe.kept(len(pairs))
    if pairs.rows is not None and any(folder.glob("train-*.parquet")):
        kept = set(read_rows(folder)["pair_id"][:])
        rows = np.flatnonzero([name in kept for name in pairs.rows["pair_id"][:]])
        if rows.size == len(kept) == count:
            return rows
    if count < len(pairs):
        recipe.note("The kept pairs are not known yet: they are assumed to be as long as the others.")
    return np.sort(np.random.default_rng(pairs.seed).permutation(len(pairs))[:count])


def generate_cost(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> StageCost:
    """Outputs for a set of instructions."""
    arguments = parsed.outputs[0]
    name = recipe.source_of(str(arguments.model_name_or_path))
    model = PlannedModel(name, arguments.model_revision, arguments.trust_remote_code)
    shape = model.shape()
    prompts = _prompt_lengths(parsed, model, recipe)
    new_tokens = recipe.new_tokens or arguments.max_new_tokens
    if recipe.new_tokens is None:
        recipe.note(
            f"Each output is assumed to have max_new_tokens={new_tokens} tokens: set --new_tokens to what you expect."
        )
    prefill, decode = decoding_work(prompts, new_tokens, arguments.batch_size)
    weight_bytes = 2.0 if recipe.on_gpu else 4.0
    cost = StageCost(parsed.step.name, "generate", name, pairs=int(prompts.size))
    setup = {"model": model, "shape": shape, "arguments": arguments, "prompts": prompts, "new_tokens": new_tokens}
    cost.add(Part("generate", forward_flops(shape, prefill), prefill, setup=setup))
    # Every step reads all weights and the cache.
    streamed = decode.batches * shape.parameters * weight_bytes
    cost.add(Part("decode", forward_flops(shape, decode), decode, models=0, streamed=streamed, setup=setup))
    rows, width = prefill.largest
    cost.memory = inference_memory(
        shape, (rows, width), weight_bytes=weight_bytes, cached=width + new_tokens, new_tokens=new_tokens
    )
    return cost


def _prompt_lengths(parsed: ParsedStep, model: PlannedModel, recipe: Recipe) -> NDArray:
    arguments = parsed.outputs[0]
    try:
        items = [item for group in load_sets(arguments).values() for item in group]
        return np.array([len(ids) for ids in encode_prompts(model.tokenizer, items, decoding_of(arguments))])
    except (InputError, OSError, ConnectionError):
        count, tokens = _ALPACA
        recipe.note(
            f"The instructions of '{parsed.step.name}' could not be read: {count} of {tokens} tokens each are assumed."
        )
        return np.full(count, tokens)


def requests_of(parsed: ParsedStep, recipe: Recipe) -> int:
    """Requests to a remote judge: each output against each baseline, in both orders for a win score."""
    arguments = parsed.outputs[0]
    generate = recipe.section("generate")
    count = _ALPACA[0]
    if generate is not None:
        name = recipe.source_of(str(generate.outputs[0].model_name_or_path))
        count = int(_prompt_lengths(generate, PlannedModel(name), recipe).size)
    judge = str(getattr(arguments, "judge", "") or "")
    if parsed.stage == "evaluate alpaca":
        return 0 if judge.startswith("reward:") else count
    if not judge.startswith(("openai:", "alpaca:")):
        return 0
    baselines = arguments.reference_outputs
    rivals = len(baselines) if isinstance(baselines, dict) else 1
    return 2 * count * rivals
