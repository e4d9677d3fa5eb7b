"""Files and tables whose bytes are no text: file, row and column are named."""

import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from pd_trl.data import load_pairs, load_source, read_pairs
from pd_trl.errors import InputError

# `datasets` before 5 parses json by pandas, which refuses the whole file; the error names the row all the same.
by_row = pytest.mark.skipif(int(datasets.__version__.split(".")[0]) < 5, reason="datasets before 5 refuses the file")

ROWS = [{"prompt": f"p{i}", "response_a": "y", "response_b": "n", "pref_x": 1.0, "note": "a"} for i in range(5)]


def lines(rows, encoding="utf-8", **options):
    return "".join(json.dumps(row, ensure_ascii=False, **options) + "\n" for row in rows).encode(encoding)


@by_row
@pytest.mark.parametrize("column", ["prompt", "response_b", "note"])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_one_row_in_another_encoding(column, encoding, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(lines(ROWS[:3]) + lines([ROWS[3] | {column: "Grüße"}], encoding) + lines(ROWS[4:]))
    for read in (load_pairs, load_source):
        with pytest.raises(
            InputError, match=rf"data.jsonl: row 3, column '{column}' has bytes that are not UTF-8.*iconv"
        ):
            read(path)
    pairs, report = read_pairs(path, on_invalid="drop")
    assert pairs["prompt"][:] == ["p0", "p1", "p2", "p4"] and report.rows == 5
    assert report.skipped == {f"rows with bytes that are not UTF-8 in {column!r}": 1}


def test_broken_bytes_in_parquet_and_in_messages(tmp_path):
    texts = pa.array([b"good", b"\xff\xfe broken", b"fine"]).view(pa.string())
    roles = pa.array(["user"] * 3)
    messages = pa.ListArray.from_arrays(
        pa.array([0, 1, 2, 3], pa.int32()), pa.StructArray.from_arrays([roles, texts], ["role", "content"])
    )
    answer = [[{"role": "assistant", "content": "x"}]] * 3
    other = [[{"role": "assistant", "content": "y"}]] * 3
    table = pa.table({"prompt": messages, "chosen": answer, "rejected": other})
    for name in ("a", "b"):
        pq.write_table(table if name == "b" else table.slice(0, 1), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"b.parquet: row 1, column 'prompt' has bytes"):
        load_pairs([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert len(load_pairs(tmp_path / "b.parquet", on_invalid="drop")) == 2


@by_row
def test_pairs_of_rows_stay_together(tmp_path):
    attributes = dict.fromkeys(("helpfulness", "correctness", "coherence", "complexity", "verbosity"), 1)
    rows = [{"prompt": f"p{i // 2}", "response": f"r{i}"} | attributes | {"helpfulness": i % 3} for i in range(6)]
    path = tmp_path / "hs.jsonl"
    path.write_bytes(lines(rows[:2]) + lines([rows[2] | {"response": "é"}], "latin-1") + lines(rows[3:]))
    pairs, report = read_pairs(path, on_invalid="drop")
    assert pairs["prompt"][:] == ["p0", "p2"] and sum(report.skipped.values()) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_encodings(encoding, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(lines(ROWS, encoding))
    with pytest.raises(InputError, match="x.jsonl could not be read: it is UTF-16 or UTF-32.*iconv"):
        load_pairs(tmp_path / "x.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json"])
def test_half_of_a_surrogate_pair(suffix, tmp_path):
    rows = [*ROWS[:2], ROWS[2] | {"response_a": "x\udc00"}]
    content = json.dumps(rows) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)
    data = content.encode()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with pytest.raises(InputError, match=r"x\.json.*row 2, column 'response_a' has half of a surrogate pair"):
        load_pairs(path)


def test_what_is_no_json(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(ROWS[:2]) + b'{"prompt": "p", \n')
    with pytest.raises(InputError, match=r"x.jsonl could not be read: row 2 is not JSON.*damaged"):
        load_pairs(path)
    (tmp_path / "y.jsonl.gz").write_bytes(gzip.compress(lines(ROWS))[:-20])
    with pytest.raises(InputError, match=r"y.jsonl.gz.*damaged"):
        load_pairs(tmp_path / "y.jsonl.gz")


def test_a_byte_order_mark_is_no_trouble(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(lines(ROWS, "utf-8-sig"))
    assert load_source(tmp_path / "x.jsonl").to_list() == Dataset.from_list(ROWS).to_list()


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(content)
    return sink.getvalue().to_pybytes()


def test_files_packed_with_zstd(tmp_path):
    path = tmp_path / "data.jsonl.zst"
    path.write_bytes(zstd(lines(ROWS)))
    assert load_pairs(path)["prompt"][:] == [row["prompt"] for row in ROWS]
    path.write_bytes(zstd(lines(ROWS[:3]) + lines([ROWS[3] | {"prompt": "Grüße"}], "latin-1")))
    with pytest.raises(InputError, match=r"data.jsonl.zst.*row 3, column 'prompt' has bytes that are not UTF-8"):
        load_pairs(path)
    path.write_bytes(zstd(lines([row | {"rating": [1, "2"][i % 2]} for i, row in enumerate(ROWS)])))
    assert len(load_pairs(path)) == 5
    path.write_bytes(zstd(lines(ROWS * 1000))[:-20])
    with pytest.raises(InputError, match="cannot be decompressed"):
        load_pairs(path)
