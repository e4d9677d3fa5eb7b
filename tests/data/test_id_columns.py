import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset

from pd_trl.data.columnar import select_rows
from pd_trl.data.id_columns import IdColumn, row_ids
from pd_trl.errors import InputError


@pytest.mark.parametrize(
    "ids", [["b", "a", "aa", ""], ["é", "z", "日本", "𝒳"], [7, -1, 10, 3], ["x" * 40, "x", "y", "yy"]]
)
def test_ids_compare_as_texts_do(ids):
    found = row_ids(Dataset.from_dict({"pair_id": ids}))
    texts = [str(i) for i in ids]
    assert np.asarray(found).tolist() == texts
    assert found[np.array([2, 0])].tolist() == [texts[2], texts[0]]
    assert found[np.array([True, False, False, True])].tolist() == [texts[0], texts[3]]
    assert np.sort(np.asarray(found)).tolist() == sorted(texts)


def test_rows_of_a_shuffle_keep_their_ids():
    data = Dataset.from_dict({"pair_id": [f"{i:03d}" for i in range(50)]}).shuffle(seed=1).select(range(30))
    assert np.asarray(row_ids(data)).tolist() == data["pair_id"][:]


def test_null_and_repeated_ids_are_refused_by_name():
    with pytest.raises(InputError, match="in 1 rows, the first of them row 2"):
        row_ids(Dataset.from_dict({"pair_id": ["a", "b", None]}))
    repeated = Dataset.from_dict({"pair_id": ["b", "a", "b", "a", "c"]})
    with pytest.raises(InputError, match="2 ids occur more than once, such as 'a'"):
        row_ids(repeated)
    assert len(row_ids(repeated, unique=False)) == 5


def test_draws_depend_on_id_and_seed_alone_and_are_spread_evenly():
    texts = [f"{i:x}" for i in range(40_000)]
    drawn = IdColumn(pa.array(texts, pa.large_string())).draws(3)
    some = np.random.default_rng(0).permutation(len(texts))[:20_001]
    again = IdColumn(pa.array([texts[i] for i in some], pa.large_string()))
    assert np.array_equal(again.draws(3), drawn[some])
    assert abs(np.corrcoef(drawn[some], again.draws(4))[0, 1]) < 0.03
    assert drawn.min() >= 0 and drawn.max() < 1
    assert np.histogram(drawn, 20, (0, 1))[0] == pytest.approx(np.full(20, 2000), rel=0.1)


def test_selected_rows_are_those_of_datasets():
    data = Dataset.from_dict({"pair_id": [f"{i:03d}" for i in range(50)], "n": list(range(50))}).with_format(
        "numpy", ["n"]
    )
    for source in (data, data.shuffle(seed=1)):
        for rows in ([], [4, 5, 6], [7], [30, 2, 9, 9], list(range(50))):
            found, expected = select_rows(source, np.array(rows, dtype=np.int64)), source.select(rows)
            assert found.with_format(None).to_list() == expected.with_format(None).to_list()
            assert found.format == expected.format
    assert select_rows(data, np.array([3, 1]))._fingerprint == select_rows(data, np.array([3, 1]))._fingerprint
    assert select_rows(data, np.array([3, 1]))._fingerprint != select_rows(data, np.array([1, 3]))._fingerprint
