import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pd_trl.data.assignment import assign_balanced, balanced_counts, conflict_candidates
from pd_trl.errors import InputError


def keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**63, count).astype(np.uint64)


def test_by_hand():
    candidates = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [1, 1], [0, 0]], dtype=bool)
    assigned = assign_balanced(candidates, keys(6))
    assert assigned.tolist() == [0, 0, 0, 1, 1, -1]


def test_exchange_over_several_steps():
    # Aspect 0 can only shed rows to 1, and 1 only to 2: one-step greedy exchanges would leave 4, 2, 0.
    patterns = np.array([[True, True, False], [False, True, True], [True, False, False]])
    counts = balanced_counts(patterns, np.array([2, 2, 2]))
    assert counts.sum(axis=0).tolist() == [2, 2, 2]
    assert counts.sum(axis=1).tolist() == [2, 2, 2]
    assert (counts[~patterns] == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=7))
def test_as_even_as_the_best_of_all_assignments(rows):
    candidates = np.array(rows, dtype=bool)
    assigned = assign_balanced(candidates, keys(len(rows)))
    decided = candidates.any(axis=1)
    assert (assigned[~decided] == -1).all()
    assert candidates[decided, assigned[decided]].all()

    def unevenness(choice):
        return int((np.bincount(choice, minlength=3) ** 2).sum())

    options = [np.flatnonzero(row) for row in candidates[decided]]
    best = min(unevenness(np.array(choice, dtype=int)) for choice in itertools.product(*options))
    assert unevenness(assigned[decided]) == best


def test_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    candidates = rng.random((500, 5)) < rng.random(5)
    order = rng.permutation(500)
    row_keys = keys(500)
    assert (assign_balanced(candidates, row_keys)[order] == assign_balanced(candidates[order], row_keys[order])).all()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.8, 1.0]),
)
def test_conflict_is_exact_and_keeps_as_many_rows_as_possible(rows, conflict):
    # Two aspects: (decided, contradicts) each; one decided aspect at least.
    values = np.array([row for row in rows if row[0] or row[2]] or [(True, False, False, False)])
    decided, contradicts = values[:, [0, 2]], values[:, [1, 3]]
    can_conflict = (decided & contradicts).any(axis=1)
    can_agree = (decided & ~contradicts).any(axis=1)
    low, high, total = (~can_agree).sum(), can_conflict.sum(), len(values)

    def reachable(count):
        target = round(conflict * count)
        return target <= high and count - target <= can_agree.sum()

    if (conflict > 0 and high == 0) or (conflict < 1 and not can_agree.any()):
        with pytest.raises(InputError, match=f"from {low / total:.3f} to {high / total:.3f}"):
            conflict_candidates(decided, contradicts, conflict, keys(total))
        return
    candidates, left_out = conflict_candidates(decided, contradicts, conflict, keys(total))
    kept = candidates.any(axis=1)
    assert (kept == ~left_out).all()
    assert (candidates <= decided).all()
    size = int(kept.sum())
    assert size == max(count for count in range(total + 1) if reachable(count))
    contradicting = (candidates & contradicts).any(axis=1)
    agreeing = (candidates & ~contradicts).any(axis=1)
    assert not (contradicting & agreeing).any()
    assert contradicting.sum() == round(conflict * size)
