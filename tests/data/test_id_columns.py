import numpy as np
import pytest
from datasets import Dataset

from pd_trl.data.id_columns import row_ids
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
