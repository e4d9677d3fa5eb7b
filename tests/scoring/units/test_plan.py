"""Units are planned by footers, cover each row once, and errors say which file is meant."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pd_trl.errors import InputError
from pd_trl.scoring.units import parquet_files, plan_units


def write(path, rows: int, groups: int, **columns) -> None:
    content = {"pair_id": [f"{path.stem} {i}" for i in range(rows)], **{n: [v] * rows for n, v in columns.items()}}
    pq.write_table(pa.table(content), path, row_group_size=groups)


def test_units_are_whole_row_groups_and_cover_each_row_once(tmp_path):
    for index, (rows, groups) in enumerate([(23, 4), (1, 1), (40, 25)]):
        write(tmp_path / f"train-{index:05d}-of-00003.parquet", rows, groups)
    plan = plan_units(parquet_files(str(tmp_path)), 10)
    assert [(unit.row_groups, unit.num_rows) for unit in plan.units] == [
        ((0, 1, 2), 12), ((3, 4, 5), 11), ((0,), 1), ((0,), 25), ((1,), 15),
    ]  # fmt: skip
    found = pa.concat_tables([unit.read() for unit in plan.units])
    assert found.equals(pa.concat_tables([pq.read_table(file) for file in parquet_files(str(tmp_path))]))
    assert plan.num_rows == 64 and plan.sample(["pair_id"])[1]


def test_the_digest_is_that_of_the_content(tmp_path):
    files = []
    for place, value in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / place).mkdir()
        files.append(tmp_path / place / "pairs.parquet")
        write(files[-1], 7, 3, prompt=value)
    digests = [plan_units([str(file)], 10).digest for file in files]
    assert digests[0] == digests[1] != digests[2]


def test_other_columns_no_rows_and_no_parquet_are_refused(tmp_path):
    write(tmp_path / "a.parquet", 3, 3, prompt="x")
    write(tmp_path / "b.parquet", 3, 3, prompt=1)
    with pytest.raises(InputError, match="'prompt' is string in .*a.parquet and int64 in .*b.parquet"):
        plan_units(parquet_files(str(tmp_path / "*.parquet")), 10)
    write(tmp_path / "empty.parquet", 0, 3)
    with pytest.raises(InputError, match="no rows in"):
        plan_units([str(tmp_path / "empty.parquet")], 10)
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="c.parquet cannot be read as parquet"):
        plan_units([str(tmp_path / "c.parquet")], 10)
    with pytest.raises(InputError, match="no parquet files at file://"):
        parquet_files(f"file://{tmp_path}/none/*.parquet")
    assert parquet_files("me/data") is None and parquet_files(None) is None
    found = parquet_files(f"file://{tmp_path}/a.parquet")
    assert plan_units(found, 10).units[0].read().num_rows == 3


def test_a_folder_that_lacks_a_shard_is_refused(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", 3, 3)
    with pytest.raises(InputError, match="1 of 2 parquet shards"):
        parquet_files(str(tmp_path))
