"""One policy: a language model of which DPO trains the top layers, and the log-probabilities that it gives to responses."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from real_data.sets import RealSet
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed

from pd_trl import PDDPOConfig, PDDPOTrainer, policy_margins
from pd_trl.runs.artifacts import digest_of, read_json, write_json
from pd_trl.runs.model_identity import model_key

from .pairs import conversations
from .settings import PolicySettings

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Pairs between two writes of the reference's log-probabilities: what a kill can lose.
_PAIRS_PER_WRITE = 40


class Reference:
    """
    The language model that policies start from, and its log-probabilities of responses, computed once and kept on disk.

    Args:
        folder (`Path`): Folder of a decoder with a chat template.
        cache (`Path`): Folder for the log-probabilities.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = Path(folder)
        self.key = model_key(self.folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self._path = Path(cache) / f"reference-{self.key[:16]}.json"
        self._known: dict[str, list[float]] = read_json(self._path) if self._path.is_file() else {}

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens of texts."""
        return [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []

    def model(self) -> Any:
        """The model in float32: a CPU without bfloat16 of its own is slower in it."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)

    def log_probs(self, real: RealSet, rows: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the chosen and of the rejected responses of `rows`, in nats."""
        sides = [[real.texts[i] for i in side[rows]] for side in (real.chosen, real.rejected)]
        # Turned so that a pair's numbers do not depend on which side a label prefers.
        turned = np.array([chosen > rejected for chosen, rejected in zip(*sides, strict=True)])
        names = [digest_of(sorted(map(list, pair))) for pair in zip(*sides, strict=True)]
        missing = [i for i, name in enumerate(names) if name not in self._known]
        model = self.model() if missing else None
        for start in range(0, len(missing), _PAIRS_PER_WRITE):
            part = missing[start : start + _PAIRS_PER_WRITE]
            values = read(model, self.tokenizer, conversations(real, rows[part], turned[part]))
            self._known |= {names[i]: [float(a), float(b)] for i, a, b in zip(part, *values, strict=True)}
            write_json(self._path, self._known)
        found = np.array([self._known[name][:: -1 if turn else 1] for name, turn in zip(names, turned, strict=True)])
        return found[:, 0], found[:, 1]


def read(model: Any, tokenizer: Any, pairs: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-probabilities that a model gives to both responses of each pair, in nats."""
    # One pair a pass: on a CPU larger batches are no faster, and a pair's numbers do not depend on its neighbours.
    scored = policy_margins(pairs, model, tokenizer=tokenizer, batch_size=1, share_prefix=True, edit_distances=False)
    found = [np.asarray(scored[f"policy_logp_{side}"][:], dtype=np.float64) for side in ("chosen", "rejected")]
    return found[0], found[1]


def trained(
    reference: Reference, real: RealSet, rows: NDArray[np.integer], turned: NDArray[np.bool_], steps: int,
    settings: PolicySettings, seed: int,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """
    The policy after DPO on `rows`, as a model with an adapter or, without LoRA, as a whole one, and notes of its training.
    """
    chosen, rejected = reference.log_probs(real, rows)
    ours, theirs = np.where(turned, rejected, chosen), np.where(turned, chosen, rejected)
    pairs = conversations(real, rows, turned)
    pairs = pairs.add_column("ref_chosen_logps", ours).add_column("ref_rejected_logps", theirs)
    set_seed(seed)
    model, adapter = _with_frozen_layers(reference.model(), settings)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        args = PDDPOConfig(
            folder, learning_rate=settings.learning_rate, beta=settings.beta, max_steps=steps, seed=seed,
            per_device_train_batch_size=settings.batch_size, lr_scheduler_type="cosine", warmup_steps=min(4, steps // 4),
            share_prefix=True, max_length=None, bf16=False, use_cpu=True, gradient_checkpointing=False,
            save_strategy="no", logging_steps=1, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = PDDPOTrainer(
            model=model, args=args, train_dataset=pairs, processing_class=reference.tokenizer, peft_config=adapter
        )
        trainer.remove_callback(PrinterCallback)
        # The reference's log-probabilities are columns already: neither its pass nor its weights are needed.
        trainer.precompute_ref_logps, trainer.ref_model = True, None
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    notes = {
        "steps": steps, "pairs": len(rows), "first_loss": losses[0], "last_loss": float(np.mean(losses[-4:])),
        "cpu_seconds": time.process_time() - start,
    }  # fmt: skip
    return trainer.accelerator.unwrap_model(trainer.model).eval(), notes


def _with_frozen_layers(model: Any, settings: PolicySettings) -> tuple[Any, Any]:
    """The model of which only the top layers are trained, and their adapter."""
    depth = model.config.num_hidden_layers
    first = depth - min(settings.layers, depth)
    if settings.lora_rank:
        from peft import LoraConfig

        return model, LoraConfig(
            r=settings.lora_rank, lora_alpha=2 * settings.lora_rank, target_modules=LORA_TARGETS, task_type="CAUSAL_LM",
            layers_to_transform=list(range(first, depth)), layers_pattern="layers",
        )  # fmt: skip
    model.requires_grad_(False)
    model.model.layers[first:].requires_grad_(True)
    return model, None
