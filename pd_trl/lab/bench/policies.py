"""A row's policy: trained by DPO, asked the evaluation prompts, and measured by the gold rewards."""

import tempfile
from typing import Any

import numpy as np
from datasets import Dataset

from ...runs.artifacts import read_json, write_json
from ..simulation.judge import generate_responses, gold_scores
from .cell import TRAINING, Cell, measured, num_weights
from .rounds import second_round
from .rows import Row, training_rows


def answers_of_model(cell: Cell) -> dict[str, Any]:
    """Record of the policy before alignment."""
    path = cell.root / "models" / f"{cell.settings.model_key}-answers-{cell.settings.num_prompts}.json"
    if not path.is_file():
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(cell.model(), dtype="float32")
        write_json(path, _answered(cell, model))
    return dict(read_json(path))


def run_row(cell: Cell, row: Row) -> dict[str, Any]:
    """
    The record of a row, computed once: `answers`, `gold` (per prompt), `words` (per prompt), `num_pairs`,
    `chosen_longer`, `conflict` (share of labels against the gold overall reward), and CPU seconds and FLOPs of selection
    and training.
    """
    path = cell.folder / "rows" / f"{row.key(cell.bench.budget)}.json"
    if path.is_file():
        return {**read_json(path), "row": row.name}
    rows, selection_cost = training_rows(cell, row)
    record: dict[str, Any] = {"row": row.name, **describe_pairs(cell, rows, truthful=row.labels == "truth")}
    loss = dict(row.loss)
    if loss.get("label_smoothing") == "conflict":
        loss["label_smoothing"] = float(cell.conflicts.mean())
    with measured() as cost:
        model = train_policy(cell, rows, loss)
        if row.second_round is not None:
            model = _train_again(cell, model, second_round(cell, model, rows, row.second_round), loss)
    cost.flops = (
        8.0
        * (1 if row.second_round is None else 2)
        * cell.tokens(rows)
        * cell.bench.dpo["num_train_epochs"]
        * num_weights(cell.model())
    )
    record |= {
        "loss": loss, "selection_seconds": selection_cost.seconds, "selection_flops": selection_cost.flops,
        "training_seconds": cost.seconds, "training_flops": cost.flops, **_answered(cell, model),
    }  # fmt: skip
    write_json(path, record)
    return record


def train_policy(cell: Cell, rows: Dataset, loss: dict[str, Any], model: str | None = None) -> Any:
    """The pretrained model (or `model`) after DPO on `rows`."""
    from ...trainers.dpo.config import PDDPOConfig
    from ...trainers.dpo.trainer import PDDPOTrainer

    if loss.get("pd_loss"):
        loss = {**loss, "pd_num_aspects": cell.settings.num_aspects}
    settings: dict[str, Any] = {**TRAINING, **cell.bench.dpo, **loss}
    with tempfile.TemporaryDirectory() as folder:
        args = PDDPOConfig(folder, seed=cell.settings.seed, **settings)
        trainer = PDDPOTrainer(model=model or str(cell.model()), args=args, train_dataset=rows)
        trainer.train()
    return trainer.model


def _train_again(cell: Cell, model: Any, rows: Dataset, loss: dict[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        cell.tokenizer.save_pretrained(folder)
        return train_policy(cell, rows, loss, folder)


def _answered(cell: Cell, model: Any) -> dict[str, Any]:
    outputs = generate_responses(model, cell.tokenizer, cell.prompts, cell.settings.seed)
    scores = gold_scores(outputs, cell.world)
    return {
        "answers": [row["output"] for row in outputs],
        "gold": scores.sum(1).tolist(),
        "gold_of_aspects": dict(zip(cell.world.aspects, scores.mean(0).tolist(), strict=True)),
        "words": [len(row["output"].split()) for row in outputs],
    }


def describe_pairs(cell: Cell, rows: Dataset, truthful: bool = False) -> dict[str, Any]:
    """What a training set holds: its size, how often the chosen response is the longer one, and the share of conflict."""
    lengths = [np.array([len(text.split()) for text in rows[side]]) for side in ("chosen", "rejected")]
    different = lengths[0] != lengths[1]
    described = {
        "num_pairs": len(rows),
        "chosen_longer": float((lengths[0] > lengths[1])[different].mean()),
        "conflict": 0.0,
    }
    if not truthful:
        chosen, rejected = (np.asarray(rows[f"gold_overall_{side}"]) for side in ("chosen", "rejected"))
        described["conflict"] = float((chosen - rejected < -1e-9).mean())
    return described
