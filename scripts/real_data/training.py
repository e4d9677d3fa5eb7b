"""What proxies of all kinds are trained with: the arguments of `PDRewardTrainer`, and the prompts that choose a penalty."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pd_trl import PDRewardConfig

from .handling import Handling
from .sets import RealSet, prompt_folds

# One of them chooses the penalty, where a rule does.
HELD_OUT_FOLDS = 5


def held_out_rows(real: RealSet, rows: NDArray[np.integer], handling: Handling) -> NDArray[np.bool_]:
    """Which of `rows` choose the penalty: those of a fifth of the prompts where a rule does it, and none otherwise."""
    if not handling.at_scoring:
        return np.zeros(len(rows), dtype=bool)
    names, numbers = np.unique(real.prompts[rows].astype(str), return_inverse=True)
    return prompt_folds(names, min(HELD_OUT_FOLDS, len(names)))[numbers] == 0


def training_arguments(
    folder: str, settings: dict[str, Any], handling: Handling, rho: float, seed: int, **more: Any
) -> PDRewardConfig:
    """Arguments of a silent training on the CPU with a set's `settings`; `more` are those of one kind of proxies."""
    return PDRewardConfig(
        folder, length_balance_temperature=handling.temperature, length_correction=handling.correction,
        length_penalty=handling.rule if handling.at_scoring else rho,
        learning_rate=settings["learning_rate"], num_train_epochs=settings["num_train_epochs"],
        per_device_train_batch_size=int(settings["batch_size"]), weight_decay=settings["weight_decay"],
        max_length=None, seed=seed, bf16=False, use_cpu=True, gradient_checkpointing=False, save_strategy="no",
        logging_strategy="no", report_to="none", disable_tqdm=True, **more,
    )  # fmt: skip
