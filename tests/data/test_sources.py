import gzip
import json

import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from pd_trl.data import load_pairs
from pd_trl.data.sources import load_source, open_source, require_dataset
from pd_trl.errors import InputError, InputTypeError

from . import schemas

ROWS = [{"a": index, "b": str(index)} for index in range(10)]


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.from_list(ROWS)


def test_files_of_every_format(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "x.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "x.jsonl").write_text(lines)
    (tmp_path / "x.json").write_text(json.dumps(ROWS))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    for name in ("x.parquet", "x.jsonl", "x.json", "x.jsonl.gz"):
        assert load_source(tmp_path / name).to_list() == ROWS, name
        assert load_source(str(tmp_path / name), split="test[:3]").to_list() == ROWS[:3], name


def test_list_of_files(dataset, tmp_path):
    paths = [tmp_path / f"{part}.parquet" for part in range(2)]
    for part, path in enumerate(paths):
        dataset.select(range(part * 5, part * 5 + 5)).to_parquet(path)
    assert load_source(paths).to_list() == ROWS
    with pytest.raises(InputError, match="one format"):
        (tmp_path / "x.jsonl").write_text("{}\n")
        load_source([*paths, tmp_path / "x.jsonl"])
    with pytest.raises(InputError, match="list of files is empty"):
        load_source([])


def test_folders(dataset, tmp_path):
    dataset.save_to_disk(tmp_path / "saved")
    assert load_source(tmp_path / "saved").to_list() == ROWS
    DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(tmp_path / "dict")
    assert len(load_source(tmp_path / "dict", split="test")) == 1
    with pytest.raises(InputError, match=r"no split 'validation'; its splits are \['train', 'test'\]"):
        load_source(tmp_path / "dict", split="validation")
    (tmp_path / "files").mkdir()
    dataset.to_parquet(tmp_path / "files" / "test.parquet")
    assert load_source(tmp_path / "files", split="test").to_list() == ROWS
    with pytest.raises(InputError, match=r"split 'train'\) could not be loaded.*\['test'\]"):
        load_source(tmp_path / "files")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no data files"):
        load_source(tmp_path / "none")


def test_missing_file_lists_what_is_there(dataset, tmp_path):
    dataset.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"tran.parquet does not exist.*\['train.parquet'\]"):
        load_source(tmp_path / "tran.parquet")
    with pytest.raises(InputError, match="does not exist"):
        load_source("/no/such/folder/x.parquet")


def test_damaged_and_empty_files(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(InputError, match="x.jsonl could not be read.*damaged"):
        load_source(tmp_path / "x.jsonl")
    (tmp_path / "x.parquet").write_text("not parquet")
    with pytest.raises(InputError, match="x.parquet.*(magic bytes|Parquet)"):
        load_source(tmp_path / "x.parquet")
    (tmp_path / "y.jsonl").write_text("")
    with pytest.raises(InputError, match="y.jsonl is empty"):
        load_source(tmp_path / "y.jsonl")
    (tmp_path / "x.xlsx").write_text("a,b\n")
    with pytest.raises(InputError, match="must end with one of .parquet"):
        load_source([tmp_path / "x.xlsx"])


def test_no_rows(dataset, tmp_path):
    dataset.select([]).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no rows"):
        load_source(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="name_or_path has no rows"):
        load_pairs(dataset.select([]))


def test_not_a_dataset(dataset):
    for value in (3, {"a": [1]}, [{"a": 1}], None):
        with pytest.raises(InputTypeError, match=f"it is a {type(value).__name__}"):
            load_pairs(value)
    with pytest.raises(InputTypeError, match=r"DatasetDict with the splits \['train', 'test'\].*dataset\['train'\]"):
        load_pairs(DatasetDict(train=dataset, test=dataset))
    with pytest.raises(InputTypeError, match="IterableDataset"):
        load_pairs(IterableDataset.from_generator(lambda: iter(ROWS)))
    assert require_dataset(DatasetDict(train=dataset), split="train") is not None


def test_hub_cannot_be_reached():
    with pytest.raises(InputError, match="some/dataset could not be loaded from the Hub.*no local file or folder"):
        load_source("some/dataset")


def test_a_dataset_in_memory_keeps_its_selection(dataset):
    source = open_source(dataset.shuffle(seed=0).select([3, 1]))
    assert source.hub_id is None and len(source.dataset) == 2
    uf = schemas.own_columns()
    assert list(load_pairs(uf.select([2, 0]))["topic"]) == ["t", "t"]
    assert list(load_pairs(uf.select([2, 0]))["prompt"]) == ["p2", "p0"]


def test_strings_and_messages_mixed_in_one_file(tmp_path):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": [schemas.user("p")], "chosen": [schemas.assistant("a")], "rejected": [schemas.assistant("b")]},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="mixes standard and chat data: row 0 is a string, row 1"):
        load_pairs(tmp_path / "x.jsonl")


def test_messages_with_further_fields_in_a_file(tmp_path, caplog):
    good, bad = schemas.assistant("a"), schemas.assistant("b")
    rows = [
        {"chosen": [schemas.user("p") | {"name": "x"}, good], "rejected": [schemas.user("p"), bad]},
        {"chosen": [schemas.user("q"), good], "rejected": [schemas.user("q") | {"id": 3}, bad]},
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = load_pairs(tmp_path / "x.jsonl")
    assert list(pairs["prompt"]) == [[schemas.user("p")], [schemas.user("q")]]
    assert "['name'] are left out" in caplog.text
