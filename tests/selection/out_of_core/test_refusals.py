"""What is refused, how it is said, and what is left behind: nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from pd_trl import PDFilter, select_out_of_core
from pd_trl.data.id_columns import id_hashes
from pd_trl.errors import InputError
from pd_trl.selection.out_of_core import run_out_of_core
from pd_trl.selection.out_of_core.search import Budgets
from tests.selection.out_of_core.data import scored_rows, write_files


def changed(data: Dataset, name: str, row: int, value: object) -> Dataset:
    column = data[name][:]
    column[row] = value
    feature = data.features[name]
    return data.remove_columns(name).add_column(name, column, feature=feature)


def other_aspect(data: Dataset, name: str) -> int:
    return next(row for row, aspect in enumerate(data["aspect"]) if aspect != name)


BAD = [
    ("no pair_id", lambda d: d.remove_columns("pair_id"), {}, "no column 'pair_id'"),
    ("no aspect", lambda d: d.remove_columns("aspect"), {}, "no column 'aspect'"),
    ("no gaps", lambda d: d.select_columns(["pair_id", "aspect", "chosen"]), {}, "no `reward_gap_<aspect>` columns"),
    ("no ratings", lambda d: d.select_columns(["pair_id", "aspect"]), {"source": "ratings"}, "no ratings or votes"),
    ("one aspect", lambda d: d.remove_columns(["reward_gap_clarity", "reward_gap_depth"]).map(lambda r: {"aspect": "ethics"}), {}, "at least two aspects"),
    ("a column", lambda d: d, {"source": "column"}, "needs the column 'pd'"),
    ("text gaps", lambda d: d.remove_columns("reward_gap_depth").add_column("reward_gap_depth", ["x"] * len(d)), {}, "must hold numbers"),
    ("NaN", lambda d: changed(d, "reward_gap_depth", other_aspect(d, "depth"), float("nan")), {}, "finite numbers, got nan in row"),
    ("infinite", lambda d: changed(d, "reward_gap_depth", other_aspect(d, "depth"), float("inf")), {}, "finite numbers, got inf in row"),
    ("null", lambda d: changed(d, "reward_gap_depth", other_aspect(d, "depth"), None), {}, "finite numbers, got nan in row"),
    ("null id", lambda d: changed(d, "pair_id", 3, None), {}, "`pair_id` must not be null"),
    ("same id", lambda d: changed(d, "pair_id", 3, d["pair_id"][7]), {}, "1 ids occur more than once"),
    ("all the same id", lambda d: d.remove_columns("pair_id").add_column("pair_id", ["x"] * len(d)), {}, "must be unique"),
    ("unknown aspect", lambda d: changed(d, "aspect", 3, "zeal"), {}, "'zeal' (the first in row 3 of"),
    ("null aspect", lambda d: changed(d, "aspect", 3, None), {}, "None (the first in row 3 of"),
    ("all zero", lambda d: d.remove_columns("reward_gap_depth").add_column("reward_gap_depth", np.zeros(len(d), np.float32)), {}, "cannot be normalised"),
    ("unknown weight", lambda d: d, {"weights": {"zeal": 1.0}}, "'zeal'"),
    ("too many", lambda d: d, {"budget": 10_000}, "only 60"),
    ("no margin", lambda d: d, {"selector": "margin", "margin_column": "m"}, "needs the column 'm'"),
    ("no accuracy", lambda d: d, {"min_proxy_accuracy": 0.6}, "not known"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "arguments", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_rows_and_arguments(tmp_path, change, arguments, message):
    folder = write_files(change(scored_rows(60)), tmp_path / "in", 1)
    with pytest.raises(InputError) as refused:
        run_out_of_core(
            PDFilter(**{"budget": 0.3, **arguments}), folder, tmp_path / "out", batch_rows=9, budgets=Budgets(9, 5, 3)
        )
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_files_that_do_not_belong_together(tmp_path):
    folder = write_files(scored_rows(40), tmp_path, 2)
    table = pq.read_table(folder / "part-1.parquet")
    pq.write_table(table.drop_columns(["chosen"]), folder / "part-1.parquet")
    with pytest.raises(
        InputError, match=r"same columns, but 'chosen' is string in .*part-0.* and missing in .*part-1"
    ):
        select_out_of_core(folder, tmp_path / "out")
    pq.write_table(table.set_column(0, "pair_id", pa.array(range(len(table)))), folder / "part-1.parquet")
    with pytest.raises(InputError, match="'pair_id' is string in .* and int64 in"):
        select_out_of_core(folder, tmp_path / "out")


@pytest.mark.parametrize("where", ["nowhere", "*.parquet", "hf_data/x", "me/data"])
def test_no_such_files(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="hf://datasets"):
        select_out_of_core(where, tmp_path / "out")


def test_files_that_are_damaged_missing_or_named_twice(tmp_path):
    folder = write_files(scored_rows(40), tmp_path / "in", 2)
    with pytest.raises(InputError, match="named more than once"):
        select_out_of_core([folder, folder / "part-0.parquet"], tmp_path / "out")
    content = (folder / "part-1.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"part-1.parquet cannot be read as parquet"):
        select_out_of_core(folder, tmp_path / "out")
    (folder / "part-1.parquet").write_bytes(content[:200] + bytes(400) + content[600:])
    with pytest.raises(InputError, match=r"part-1.parquet could not be read"):
        select_out_of_core(folder, tmp_path / "out")
    (folder / "part-1.parquet").rename(folder / "train-00000-of-00002.parquet")
    (folder / "part-0.parquet").unlink()
    with pytest.raises(InputError, match="1 of 2 parquet shards"):
        select_out_of_core(folder, tmp_path / "out")


def test_an_output_that_holds_the_input_or_other_things(tmp_path):
    folder = write_files(scored_rows(40), tmp_path / "in")
    with pytest.raises(InputError, match="holds the input"):
        select_out_of_core(folder, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        select_out_of_core(folder, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_ids_of_any_length_and_type_are_told_apart():
    ids = ["", "a", "a\0", "aa", "é", "abcdefgh", "abcdefg", "abcdefghi", "ihgfedcba", "x" * 100]
    assert len(set(id_hashes(pa.array(ids)))) == len(ids)
    assert np.array_equal(id_hashes(pa.array(ids * 2))[: len(ids)], id_hashes(pa.array(ids, pa.large_string())))
    assert np.array_equal(id_hashes(pa.array(ids).slice(3, 4)), id_hashes(pa.array(ids))[3:7])
    assert np.array_equal(id_hashes(pa.array([12, 5])), id_hashes(pa.array(["12", "5"])))
    many = id_hashes(pa.array([f"{i:x}" for i in range(200_000)]))
    assert len(np.unique(many)) == 200_000


def test_equal_hashes_of_different_ids_are_no_duplicates(tmp_path, monkeypatch):
    from pd_trl.selection.out_of_core import ids, writing

    folder = write_files(scored_rows(40), tmp_path / "in")
    for module in (ids, writing):
        monkeypatch.setattr(module, "id_hashes", lambda column: np.zeros(len(column), dtype=np.uint64))
    assert select_out_of_core(folder, tmp_path / "out").counts == {"total": 40, "kept": 12, "dropped": 28}
