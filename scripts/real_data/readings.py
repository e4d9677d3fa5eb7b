"""What heads should read of a frozen language model: pooling and layers, by an exact linear probe under the unreported assignment."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .handling import NONE
from .language_model import features_of
from .linear import LinearData, linear_gaps, pair_gram
from .settings import CHOSEN_ON_SEED, own_accuracy, readings

if TYPE_CHECKING:
    from .cells import CellStore

# Inverse strengths of the L2 penalty, on standardized features over the root of their number. The best is taken for each reading.
STRENGTHS = (0.1, 1.0, 10.0)


def reading_table(store: "CellStore", sets: list[str]) -> list[dict[str, Any]]:
    """
    Held-out accuracy on the labels that the pairs carry, for each reading, by set, with the best of [`STRENGTHS`].

    Args:
        store ([`CellStore`]): Where the states are.
        sets (`list[str]`): Names of the sets.
    """
    found = []
    for reading in readings(store.lm_layers):
        by_set = {}
        for name in sets:
            real = store.real(name, CHOSEN_ON_SEED)
            _, counts, states = store.lm_states(real)
            features = features_of(states, store.lm_layers, reading["pooling"], reading["layers"])
            scaled = (features - features.mean(0)) / (features.std(0) + 1e-9) / np.sqrt(features.shape[1])
            gram = pair_gram(scaled @ scaled.T, real.chosen, real.rejected)
            delta = counts[real.chosen] - counts[real.rejected]
            by_set[name] = max(
                own_accuracy(real, linear_gaps(real, LinearData(gram, delta, strength), NONE, False)[0])
                for strength in STRENGTHS
            )
        found.append({**reading, "by_set": by_set, "accuracy": float(np.mean(list(by_set.values())))})
    return found
