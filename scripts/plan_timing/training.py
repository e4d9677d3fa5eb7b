"""Time of training steps on this machine."""

import copy
import tempfile
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PrinterCallback, TrainerCallback

from pd_trl.pipeline.cost.formulas import Work, forward_flops, training_flops
from pd_trl.pipeline.cost.parts import Part
from pd_trl.pipeline.cost.shape import ModelShape
from pd_trl.pipeline.cost.sources import Pairs
from pd_trl.pipeline.cost.training import Training

from .timing import MEASURED_SECONDS, Rate, TimedRun, guessed_seconds, random_model, rate_of

_FEW_ROWS = 8


def training_rate(part: Part, pairs: Pairs, peak: float) -> Rate:
    """The rate of a training stage, from steps of the real trainer on random rows."""
    training: Training = part.setup["training"]
    args = training.args
    flops_of_call = part.flops / max(1, part.work.batches)
    seconds = args.gradient_accumulation_steps * guessed_seconds(flops_of_call, peak)
    # The first step is left out.
    steps = 1 + int(np.clip(round(MEASURED_SECONDS / max(seconds, 1e-9)), 3, 12))
    count = min(len(pairs), steps * args.per_device_train_batch_size * args.gradient_accumulation_steps)
    rows = np.random.default_rng(0).permutation(len(pairs))[:count]

    def run(shape: ModelShape) -> TimedRun:
        with tempfile.TemporaryDirectory() as folder:
            # The first trainer of a process sets up what later ones find.
            _trainer(training, shape, pairs, rows[:_FEW_ROWS], 1, folder)
            _, few = _trainer(training, shape, pairs, rows[:_FEW_ROWS], 1, folder)
            trainer, many = _trainer(training, shape, pairs, rows, steps, folder)
            timed = _steps(trainer, shape, training)
            start = time.process_time()
            trainer.save_model()
            trainer.create_model_card()
            ending = time.process_time() - start
        timed.per_row = max(0.0, (many - few) / max(1, rows.size - _FEW_ROWS))
        timed.fixed = max(0.0, few - timed.per_row * min(_FEW_ROWS, rows.size)) + ending
        return timed

    return rate_of(run, part.setup["shape"], flops_of_call, peak)


def _trainer(
    training: Training, shape: ModelShape, pairs: Pairs, rows: NDArray, steps: int, folder: str
) -> tuple[Any, float]:
    """A trainer on some rows, and the CPU seconds of setting it up."""
    from pd_trl.trainers.dpo.trainer import PDDPOTrainer
    from pd_trl.trainers.reward.trainer import PDRewardTrainer

    columns = [name for name in ("prompt", "chosen", "rejected") if name in pairs.rows.column_names]
    dataset = pairs.rows.select(rows).select_columns(columns)
    args = copy.copy(training.args)
    changes = {
        "output_dir": folder, "max_steps": steps, "save_strategy": type(args.save_strategy)("no"),
        "eval_strategy": type(args.eval_strategy)("no"), "report_to": [], "push_to_hub": False, "disable_tqdm": True,
        "activation_offloading": False, "train_share": 1.0, "length_penalty": 0.0, "pd_budget": None, "pd_loss": None,
        "precompute_ref_log_probs": False,
    }  # fmt: skip
    for name, value in changes.items():
        if hasattr(args, name):
            setattr(args, name, value)
    start = time.process_time()
    model = random_model(training.model, shape, reward=training.reward)
    options: dict[str, Any] = {
        "args": args, "train_dataset": dataset, "processing_class": copy.deepcopy(training.model.tokenizer),
        "peft_config": copy.deepcopy(training.peft_config),
    }  # fmt: skip
    trainer: Any
    if training.reward:
        trainer = PDRewardTrainer(model=model, **options)
    else:
        reference = random_model(training.model, shape, reward=False) if training.peft_config is None else None
        trainer = PDDPOTrainer(model=model, ref_model=reference, **options)
    return trainer, time.process_time() - start


class _Recorder(TrainerCallback):
    """A collator that keeps the shapes of its batches, and the CPU time at the end of each step."""

    def __init__(self, collator: Any):
        self.collator = collator
        self.shapes: list[tuple[int, int]] = []
        self.ends: list[float] = []

    def __call__(self, examples: Any) -> Any:
        batch = self.collator(examples)
        self.shapes.append(tuple(batch["input_ids"].shape))
        return batch

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


def _steps(trainer: Any, shape: ModelShape, training: Training) -> TimedRun:
    recorder = _Recorder(trainer.data_collator)
    trainer.data_collator = recorder
    trainer.add_callback(recorder)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    accumulation = training.args.gradient_accumulation_steps
    work = Work()
    for rows, width in recorder.shapes[accumulation : accumulation * len(recorder.ends)]:
        work += Work(rows, 0, rows * width, float(rows) * width**2, rows * width, 1, 1, (rows, width))
    checkpointing = training.args.gradient_checkpointing
    flops = training_flops(shape, work, checkpointing=checkpointing, fused_head=not training.reward)
    if not training.reward:
        flops += forward_flops(shape, work)
    return TimedRun(recorder.ends[-1] - recorder.ends[0], flops)
