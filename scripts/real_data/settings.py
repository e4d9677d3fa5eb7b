"""
Settings of the proxies, and how they were chosen: by the cross-validated accuracy on the labels that the pairs carry under an
assignment of aspects that is not reported. No hidden and no overall label has a part in it.
"""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .handling import NONE
from .sets import RealSet

if TYPE_CHECKING:
    from .cells import CellStore

# Chosen by `python scripts/bench_real.py --choose-settings`.
NGRAM_C = 100.0
EMBEDDING_C = 0.001
HEAD = {"learning_rate": 3e-3, "num_train_epochs": 3, "batch_size": 32, "hidden": 64, "weight_decay": 0.01}

# Heads on a frozen language model: what they read, and how they are trained.
LM: dict[str, Any] = {
    "pooling": "mean", "layers": (20,), "learning_rate": 1e-3, "num_train_epochs": 3, "batch_size": 32, "weight_decay": 0.01,
}  # fmt: skip
# Layers whose states are kept. SmolLM2 has 30.
LM_LAYERS = (12, 16, 20)

CHOSEN_ON_SEED = 0
GRIDS: dict[str, dict[str, tuple]] = {
    "ngrams": {"C": (0.1, 1.0, 10.0, 100.0, 1000.0)},
    "embedding": {"C": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)},
    "head": {"learning_rate": (1e-3, 3e-3), "num_train_epochs": (3, 10)},
    "lm": {"learning_rate": (3e-4, 1e-3), "num_train_epochs": (3, 10)},
}


def readings(layers: Sequence[int]) -> list[dict[str, Any]]:
    """What heads on a language model may read, of the layers that are kept: each by itself, and all together."""
    choices = list(dict.fromkeys([*((layer,) for layer in layers), tuple(layers)]))
    return [{"pooling": pooling, "layers": chosen} for pooling in ("mean", "last") for chosen in choices]


def choose_settings(store: "CellStore", sets: list[str], proxies: list[str]) -> list[dict[str, Any]]:
    """Held-out accuracy on the carried labels, by set, of every setting tried."""
    accuracy: dict[tuple[str, tuple], dict[str, float]] = {}
    for name in sets:
        real = store.real(name, CHOSEN_ON_SEED)
        for proxy in proxies:
            for values in itertools.product(*GRIDS[proxy].values()):
                setting = dict(zip(GRIDS[proxy], values, strict=True))
                gaps = store.gaps(real, proxy, NONE, unified=False, **setting)[0]
                accuracy.setdefault((proxy, tuple(setting.items())), {})[name] = own_accuracy(real, gaps)
    return [
        {"proxy": proxy, **dict(setting), "by_set": by_set, "accuracy": float(np.mean(list(by_set.values())))}
        for (proxy, setting), by_set in accuracy.items()
    ]


def own_accuracy(real: RealSet, gaps: NDArray) -> float:
    """Share of the pairs that the held-out proxy of their own aspect gets right."""
    return float((gaps[np.arange(len(real)), real.own] > 0).mean())
