"""Heads on a language model whose top layers LoRA trains, beside heads on the frozen one, by held-out accuracy."""

import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from peft import LoraConfig
from transformers import PrinterCallback, set_seed

from pd_trl import PDRewardConfig, PDRewardTrainer, score_pairs
from pd_trl.method.ranking import random_keys
from pd_trl.models.heads import MultiAspectRewardModel

from .handling import NONE
from .lm_heads import LanguageModelProxies
from .sets import RealSet
from .settings import CHOSEN_ON_SEED, LM

if TYPE_CHECKING:
    from .cells import CellStore

# Adapters on so many top layers: no backward pass runs through those below.
LAYERS, RANK, BATCH, EPOCHS = 4, 16, 8, 1
LEARNING_RATE = 1e-3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What is trained: name, pooling, whether by LoRA. All read the last layer whose states are kept.
KINDS = (
    ("frozen, mean", "mean", False),
    ("frozen, last token", "last", False),
    ("LoRA, mean", "mean", True),
    ("LoRA, last token", "last", True),
)


def compare(store: "CellStore", name: str, pairs: int, held_out: int) -> list[dict[str, Any]]:
    """
    Held-out accuracy of each of [`KINDS`], trained on the same pairs under the assignment that is not reported.

    Args:
        store ([`CellStore`]): Where set and states are.
        name (`str`): Name of the set.
        pairs (`int`): Pairs to train on, from outside the first fold, in an order by their ids.
        held_out (`int`): Pairs of the first fold to ask for every label that they decide.
    """
    real = store.real(name, CHOSEN_ON_SEED)
    train = _first(real, real.training_rows(0)[0], pairs)
    test = _first(real, np.flatnonzero(real.folds == 0), held_out)
    found = []
    layer = store.lm_layers[-1]
    for kind, pooling, lora in KINDS:
        start = time.process_time()
        settings = {**LM, "pooling": pooling, "layers": (layer,)}
        proxies = LanguageModelProxies(real, store.lm, *store.lm_states(real), settings)
        labels = [real.aspects[k] for k in real.own[train]]
        if lora:
            gaps = _lora_gaps(proxies, train, test, labels)
        else:
            gaps = proxies.gaps(proxies.train(train, labels, NONE, 0.0)[0], test)
        right = {
            aspect: np.sign(gaps[aspect]) == real.votes[test, k]
            for k, aspect in enumerate(real.aspects)
            if aspect in gaps
        }
        decided = {aspect: real.votes[test, real.aspects.index(aspect)] != 0 for aspect in right}
        by_aspect = {aspect: float(right[aspect][decided[aspect]].mean()) for aspect in right}
        found.append(
            {"set": name, "kind": kind, "layer": layer, "pairs": len(train), "held_out": len(test), "by_aspect": by_aspect,
             "labels": {aspect: int(mask.sum()) for aspect, mask in decided.items()},
             "accuracy": float(np.mean(list(by_aspect.values()))), "cpu_seconds": time.process_time() - start}
        )  # fmt: skip
    return found


def _first(real: RealSet, rows: NDArray[np.integer], count: int) -> NDArray[np.integer]:
    return rows[np.argsort(random_keys(real.pair_ids[rows], CHOSEN_ON_SEED), kind="stable")][:count]


def _lora_gaps(
    proxies: LanguageModelProxies, train: NDArray[np.integer], test: NDArray[np.integer], labels: list[str]
) -> dict[str, NDArray[np.float32]]:
    """Gaps of `test` by heads that are trained together with adapters."""
    real, settings = proxies.real, proxies.settings
    set_seed(real.seed)
    layer = settings["layers"][-1]
    model = MultiAspectRewardModel.from_backbone(
        proxies.lm.folder,
        sorted(set(labels)),
        pooling=settings["pooling"],
        layers=settings["layers"],
        standardize=True,
    )
    # Adapters begin at nothing, so that the frozen model's states are those of the first step.
    used = np.unique([real.chosen[train], real.rejected[train]])
    model.score.measure(proxies.features[used])
    adapter = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="SEQ_CLS",
        layers_to_transform=list(range(max(0, layer - LAYERS), layer)), layers_pattern="layers",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        args = PDRewardConfig(
            folder, learning_rate=LEARNING_RATE, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
            lr_scheduler_type="cosine", warmup_steps=5, share_prefix=True, max_length=None, seed=real.seed,
            length_balance_temperature=None, length_correction="none", length_penalty=0.0, bf16=False, use_cpu=True,
            gradient_checkpointing=False, save_strategy="no", logging_steps=10, report_to="none", disable_tqdm=True,
        )  # fmt: skip
        trainer = PDRewardTrainer(
            model=model, args=args, train_dataset=proxies.tokens(train, np.array(labels)),
            processing_class=proxies.lm.tokenizer, peft_config=adapter,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload().eval()
    rows = real.rows.select(test)
    scored = score_pairs(
        rows, {aspect: merged for aspect in merged.aspects}, tokenizer=proxies.lm.tokenizer, chat=True
    )
    return {aspect: np.asarray(scored[f"reward_gap_{aspect}"][:], dtype=np.float32) for aspect in merged.aspects}
