"""Cost of training the proxies and of scoring with them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hub.names import is_repo_id
from ...method.ranking import resolve_budget
from ...models.named import model_output
from ..mappings import is_mapping_text
from .batches import TOKENS_PER_BATCH, evaluation_work, reading_work, scoring_work
from .formulas import forward_flops, inference_memory, training_flops
from .lengths import PairLengths
from .parts import Part, Recipe, StageCost
from .shape import ModelShape
from .sources import Pairs, ParsedStep, PlannedModel
from .training import epochs_work, memory_of, training_of


def reward_cost(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> StageCost:
    """Training of the proxies and their held-out accuracy."""
    arguments = parsed.outputs[0]
    training = training_of(parsed, recipe, reward=True)
    args = training.args
    groups = reward_groups(arguments, pairs)
    outputs = max(count for _, count in groups)
    shape = training.shape(outputs)
    lengths = pairs.lengths(training.model)
    held = pairs.heldout(arguments.heldout, args.seed)
    cost = StageCost(parsed.step.name, "reward", training.model.name)
    largest, dropped = (0, 0), 0
    fits = _fitting(lengths, args.max_length)
    for labelled, count in groups:
        given, test_rows = np.flatnonzero(labelled & ~held), np.flatnonzero(labelled & held & fits)
        if args.train_share < 1:
            drawn = resolve_budget(float(args.train_share), given.size)
            given = np.sort(np.random.default_rng(args.seed).permutation(given)[:drawn])
        rows = given[fits[given]]
        dropped += given.size - rows.size
        train, test = lengths.select(rows), lengths.select(test_rows)
        heads = np.unique(pairs.aspects[rows], return_inverse=True)[1] if count > 1 else None
        work = epochs_work(train.chosen, train.rejected, train.prompt, args, heads=heads)
        held_out = evaluation_work(test.chosen, test.rejected, args.per_device_eval_batch_size)
        flops = training_flops(shape, work, checkpointing=args.gradient_checkpointing)
        if args.freeze_backbone:
            # The heads themselves cost next to nothing: the backbone is read once, whatever the number of epochs.
            seen = min(1.0, work.sequences / max(1, 2 * len(train)))
            work = replace(reading_work(train, args.per_device_train_batch_size).times(seen), steps=work.steps)
            held_out, flops = reading_work(test, args.per_device_eval_batch_size), forward_flops(shape, work)
        setup = {"training": training, "shape": shape}
        cost.add(Part("reward", flops, work, prepared=given.size + len(test), setup=setup))
        cost.add(Part("reward evaluation", forward_flops(shape, held_out), held_out, models=0, setup=setup))
        cost.pairs += len(train)
        largest = max(largest, work.largest, key=lambda pair: pair[0] * pair[1])
    if dropped:
        recipe.note(
            f"{dropped:,} training pairs of the rewards are longer than max_length={args.max_length} and left out."
        )
    cost.token_error = lengths.standard_error * sum(part.work.sequences for part in cost.parts) / 2
    if args.freeze_backbone:
        cost.memory = inference_memory(shape, largest, weight_bytes=training.weight_bytes)
    else:
        cost.memory = memory_of(training, shape, largest, recipe)
    return cost


def reward_groups(arguments: Any, pairs: Pairs) -> list[tuple[NDArray[np.bool_], int]]:
    """The pairs of each model that is trained, and its number of rewards: one model per aspect, or one with all as heads."""
    names = list(arguments.aspects or sorted(set(pairs.aspects.tolist())))
    everything = np.ones(len(pairs), dtype=bool)
    if getattr(arguments, "heads", False):
        groups = [(np.isin(pairs.aspects, names), len(names))]
    else:
        groups = [(pairs.aspects == name, 1) for name in names]
    return [*groups, (everything, 1)] if getattr(arguments, "unified", False) else groups


def _fitting(lengths: PairLengths, longest: int | None) -> NDArray[np.bool_]:
    """Mask of the pairs with no side longer than `longest`."""
    if longest is None:
        return np.ones(len(lengths), dtype=bool)
    return (lengths.chosen <= longest) & (lengths.rejected <= longest)


def score_cost(parsed: ParsedStep, pairs: Pairs, recipe: Recipe) -> StageCost:
    """A forward pass of every proxy over every distinct conversation; one pass for a model with several heads."""
    arguments = parsed.outputs[0]
    cost = StageCost(parsed.step.name, "score", pairs=len(pairs))
    half = recipe.on_gpu
    budget = arguments.tokens_per_batch or TOKENS_PER_BATCH["gpu" if recipe.on_gpu else "cpu"]
    tokenised: set[str] = set()
    for model, shape, passes in _scorers(arguments, pairs, recipe):
        lengths = pairs.lengths(model)
        longest = arguments.max_length or shape.positions
        if arguments.on_long == "drop":
            lengths = lengths.select(np.flatnonzero(_fitting(lengths, longest)))
        shares = getattr(arguments, "share_prefix", True) and shape.attention in ("sdpa", "eager")
        work = scoring_work(
            lengths, longest=longest, tokens_per_batch=budget, pairs_per_shard=arguments.pairs_per_shard,
            share_prefix=shares,
        )  # fmt: skip
        setup = {"model": model, "shape": shape, "lengths": lengths, "arguments": arguments, "shares": shares}
        for i in range(passes):
            # Models with one tokenizer share the tokens.
            prepared = 0 if i or model.name in tokenised else len(lengths)
            cost.add(Part("score", forward_flops(shape, work), work, prepared=prepared, setup=setup))
        tokenised.add(model.name)
        cost.token_error += passes * lengths.standard_error * work.sequences / 2
        cost.model = model.name
        # Keys and values of shared prompts stay in memory until their responses have been read.
        cached = work.largest[1] if shares else 0
        memory = inference_memory(shape, work.largest, weight_bytes=2.0 if half else 4.0, cached=cached)
        cost.memory = memory if cost.memory is None or memory.total > cost.memory.total else cost.memory
    return cost


def _scorers(arguments: Any, pairs: Pairs, recipe: Recipe) -> Iterable[tuple[PlannedModel, ModelShape, int]]:
    """Each model, and the number of passes with it."""
    trained = recipe.section("reward")
    named = arguments.reward_models
    if trained is not None and (not named or isinstance(named, str) and Path(named) == Path(trained.step.output_dir)):
        training = training_of(trained, recipe, reward=True)
        groups = reward_groups(trained.outputs[0], pairs)
        yield training.model, training.shape(max(count for _, count in groups)), len(groups)
        return
    from ..stages.score import reward_models_of

    # A plan fetches no weights: a name of the Hub is one model, whatever its outputs.
    given = model_output(named) if isinstance(named, str) and not is_mapping_text(named) else None
    on_hub = given is not None and is_repo_id(given.model) and not Path(given.model).exists()
    outputs = [given] if given is not None and on_hub else reward_models_of(named).values()
    for name in sorted({output.model for output in outputs}):
        model = PlannedModel(name, trust_remote_code=arguments.trust_remote_code)
        yield model, model.shape(task="reward"), 1
