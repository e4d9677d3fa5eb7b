"""Media columns of data: carried along as bytes, and never fetched from the place they name."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, Dataset, Features, Image, List, Value
from PIL import Image as Picture

from pd_trl import PDFilter, load_pairs
from pd_trl.data import load_source
from pd_trl.errors import InputError
from pd_trl.pipeline.stages.inputs import rows_of
from pd_trl.publishing.facts import typical_example
from pd_trl.report import write_report
from pd_trl.runs.artifacts import read_rows, write_rows
from pd_trl.runs.identity import data_key
from pd_trl.safety.media import check_media, media_columns, without_media
from pd_trl.selection.out_of_core.run import select_out_of_core
from tests.processes import run

ROWS = 20


class Site:
    """A server that counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(png())

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


def png() -> bytes:
    buffer = io.BytesIO()
    Picture.new("RGB", (2, 2)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(media: list, feature: object) -> Dataset:
    """Scored pairs with a column `media`."""
    number = list(range(len(media)))
    columns = {
        "pair_id": [f"p{i:03d}" for i in number],
        "prompt": [f"question {i}" for i in number],
        "chosen": [f"good {i}" for i in number],
        "rejected": [f"bad {i}" for i in number],
        "aspect": ["ab"[i % 2] for i in number],
        "reward_gap_a": [float(i) - 9.5 for i in number],
        "reward_gap_b": [9.25 - i for i in number],
        "media": media,
    }
    kinds = {name: Value("float32" if name.startswith("reward") else "string") for name in columns}
    schema = Features({**kinds, "media": feature}).arrow_schema
    return Dataset(pa.table(columns, schema=schema))


def write(data: Dataset, path: Path) -> None:
    """As `to_parquet`, which would ask the places how large they are."""
    pq.write_table(data.with_format("arrow")[:], path)


FORMS = {
    "image": (lambda url: {"bytes": None, "path": url}, Image()),
    "undecoded": (lambda url: {"bytes": None, "path": url}, Image(decode=False)),
    "list": (lambda url: [{"bytes": png(), "path": None}, {"bytes": None, "path": url}], List(Image())),
    "inside": (lambda url: {"x": [{"bytes": None, "path": url}]}, {"x": List(Image())}),
    "audio": (lambda url: {"bytes": None, "path": url}, Audio()),
}


@pytest.fixture(params=FORMS)
def named(request, site) -> Dataset:
    """Rows whose media are places of a server; the first row has none."""
    make, feature = FORMS[request.param]
    return rows([None, *(make(f"{site.url}/{i}.png") for i in range(1, ROWS))], feature)


def test_files_that_name_places_are_refused(named, site, tmp_path, monkeypatch):
    (tmp_path / "scored").mkdir()
    write(named, tmp_path / "scored" / "train-00000-of-00001.parquet")
    with monkeypatch.context() as patched:
        patched.setattr("datasets.arrow_dataset.xgetsize", lambda *_: 0)  # it would ask, too
        named.save_to_disk(tmp_path / "disk")
    file = str(tmp_path / "scored" / "train-00000-of-00001.parquet")
    for read in (
        lambda: read_rows(tmp_path / "scored"),
        lambda: rows_of(str(tmp_path), "scored"),
        lambda: load_source(file),
        lambda: load_source([file]),
        lambda: load_source(tmp_path / "disk"),
        lambda: load_pairs(file),
        lambda: select_out_of_core(tmp_path / "scored", tmp_path / "out", budget=0.3),
    ):
        with pytest.raises(InputError, match=r"Column 'media' of .* must hold its media as bytes, but row 1 only"):
            read()
    assert site.asked == []


def test_the_card_of_a_folder_makes_no_column_one_of_places(site, tmp_path):
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"a": "x", "media": f"{site.url}/{i}"}) + "\n" for i in range(5))
    )
    info = "dataset_info:\n  features:\n  - name: a\n    dtype: string\n  - name: media\n    dtype: image\n"
    (tmp_path / "README.md").write_text(f"---\n{info}---\n")
    with pytest.raises(InputError, match="'media'"):
        load_source(tmp_path)
    assert site.asked == []


def test_a_file_of_this_machine_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("secret")
    data = rows([{"bytes": None, "path": str(tmp_path / "secret")}], Image())
    write(data, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="row 0 only names a place"):
        load_source(str(tmp_path / "a.parquet"))


def test_the_command_asks_for_nothing(site, tmp_path):
    data = rows([{"bytes": None, "path": f"{site.url}/{i}"} for i in range(100)], Image())
    write(data, tmp_path / "a.parquet")
    command = [sys.executable, "-m", "pd_trl", "select"]
    done = run([*command, "--dataset_name", str(tmp_path / "a.parquet"), "--output_dir", str(tmp_path / "out")])
    assert done.returncode == 2 and "'media'" in done.stderr and "Traceback" not in done.stderr
    assert site.asked == [] and not (tmp_path / "out").exists()


def test_a_data_set_in_memory_is_not_decoded(named, site, tmp_path):
    pd_filter = PDFilter()
    kept = pd_filter(named)
    assert len(kept) == 6 and kept.features["media"] == named.features["media"]
    write_report(named, tmp_path / "report.html", pd_filter=PDFilter())
    assert typical_example(kept) is not None and data_key(named) == data_key(named)
    with pytest.raises(InputError, match="'media'"):
        write_rows(kept, tmp_path / "rows")
    assert site.asked == []


def test_a_stream_is_not_decoded(named, site):
    pd_filter = PDFilter().fit(named.to_iterable_dataset())
    with pytest.raises(InputError, match="'media'"):
        list(pd_filter.transform(named.to_iterable_dataset()))
    with pytest.raises(InputError, match="'media'"):
        list(pd_filter(named.to_iterable_dataset()))
    assert site.asked == []


def test_media_that_are_there_are_carried_along(tmp_path):
    data = rows([{"bytes": png(), "path": "a.png"} if i % 2 else None for i in range(ROWS)], Image())
    assert check_media(data, "rows") is data
    kept = PDFilter()(data)
    write_rows(kept, tmp_path / "rows")
    back = read_rows(tmp_path / "rows")
    assert back.features["media"] == Image() and isinstance(
        back.select_columns("media")[1]["media"], Picture.Image | None
    )
    assert data_key(back) == data_key(kept)
    stream = PDFilter().fit(data).transform(data.to_iterable_dataset())
    decided = list(stream)
    assert [row["pair_id"] for row in decided if row["pd_kept"]] == kept["pair_id"][:]
    assert isinstance(decided[1]["media"], Picture.Image)
    plain = PDFilter().fit(data)(data.cast_column("media", Image(decode=False)).to_iterable_dataset())
    assert {type(row["media"]) for row in plain} <= {dict, type(None)}


def test_what_counts_as_media():
    features = Features(
        {"a": Value("string"), "b": List({"c": Image()}), "d": datasets.Video(), "e": {"f": Value("int8")}}
    )
    assert media_columns(features) == ["b", "d"] and media_columns(None) == []
    data = Dataset.from_dict({"a": ["x"], "b": [[{"c": {"bytes": b"", "path": None}}]]})
    assert without_media(data) is data
