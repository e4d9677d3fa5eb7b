import numpy as np
import pytest

from pd_trl.method.divergence import preference_divergence
from pd_trl.method.votes import vote_weights


def test_the_accuracy_of_the_gap_that_enters_the_pd_decides_who_votes():
    metrics = {
        "long": {"pair_accuracy": 0.6, "raw_pair_accuracy": 0.9},
        "fair": {"pair_accuracy": 0.9, "raw_pair_accuracy": 0.6},
    }
    assert vote_weights(["long", "fair"], {}, metrics, 0.75).tolist() == [0.0, 1.0]


def test_a_missing_vote_counts_as_the_mean_of_the_others_by_their_weights():
    gaps = np.array([[np.nan, 0.5, np.nan], [np.nan, 0.5, 0.5], [0.25, np.nan, np.nan]])
    found = preference_divergence(
        gaps, np.array([0, 0, -1]), weights=[1.0, 2.0, 3.0], quantiles=[1.0, 1.0, 1.0], allow_missing=True
    )
    assert found.values.tolist() == pytest.approx([-(5 / 2) * 2 * 0.5, -(2 * 0.5 + 3 * 0.5), -(6 / 1) * 0.25])
