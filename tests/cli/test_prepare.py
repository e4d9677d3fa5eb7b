"""`pd-trl prepare`: whose label it is, and what it says of sources that it cannot read."""

import json
import subprocess
import sys

import pytest

from pd_trl.pipeline.stages import prepare
from pd_trl.runs.artifacts import Manifest, read_rows
from tests.data.test_own_labels import rated


def write(path, rows, encoding="utf-8"):
    path.write_bytes("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding))
    return path


def test_prepare_says_whose_label_it_is(tmp_path, command):
    path = write(tmp_path / "rated.jsonl", rated().to_list())
    own = command("prepare", "--dataset_name", path, "--output_dir", tmp_path / "own")
    assert own.code == 0 and "reverse the source's own chosen and rejected: 0" in own.out
    one = command("prepare", "--dataset_name", path, "--output_dir", tmp_path / "one", "--labels", "one")
    assert one.code == 0 and "agreement with the overall label" in one.out and "OVA" not in one.out
    assert "reverse the source's own chosen and rejected: 0" not in one.out
    assert (
        "already done"
        in command("prepare", "--dataset_name", path, "--output_dir", tmp_path / "own", "--labels", "own").out
    )
    refused = command(
        "reward", "--dataset_name", tmp_path / "own", "--model_name_or_path", "m", "--output_dir", tmp_path / "r"
    )
    refused.refused("all labels are overall ones", "--labels one")


@pytest.mark.parametrize(
    ("encoding", "words"), [("latin-1", ("row 1", "'chosen'", "UTF-8")), ("utf-16", ("UTF-16", "iconv"))]
)
def test_a_file_in_another_encoding(tmp_path, command, encoding, words):
    rows = rated(3).to_list()
    rows[1]["chosen"] = "smörgåsbord"
    path = write(tmp_path / "x.jsonl", rows, encoding)
    command("prepare", "--dataset_name", path, "--output_dir", tmp_path / "out").refused("x.jsonl", *words)


def test_rows_that_cannot_be_read_are_dropped_with_a_count(tmp_path, command):
    rows = rated(5).to_list()
    rows[2]["rating_depth_chosen"] = "very"
    path = write(tmp_path / "x.jsonl", rows)
    command("prepare", "--dataset_name", path, "--output_dir", tmp_path / "out").refused("rating_depth_a", "['very']")
    done = command("prepare", "--dataset_name", path, "--output_dir", tmp_path / "out", "--on_invalid", "drop")
    assert done.code == 0 and "4 kept; 1 rating_depth_a is not a number" in done.out


def test_the_bundled_sample_is_prepared_and_selected(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = command("prepare", "--dataset_name", "sample", "--output_dir", "prepared")
    assert prepared.code == 0 and "sample: 110 rows, 150 pairs formed, 150 kept" in prepared.out
    selected = command("select", "--dataset_name", "prepared", "--source", "ratings", "--output_dir", "selected")
    assert selected.code == 0 and "45 of 150 pairs kept" in selected.out
    manifest = json.loads((tmp_path / "selected" / "manifest.json").read_text())
    source = manifest["results"]["provenance"]["source"]
    assert source["license"] == "apache-2.0" and "for demonstration" in source["name"]
    own = command("prepare", "--dataset_name", "sample", "--output_dir", "sample")
    assert own.code == 0 and "150 kept" in own.out
    command("prepare", "--dataset_name", "sample", "--output_dir", "sample").refused("holds the input sample")


def test_the_path_of_ratings_needs_no_torch(tmp_path):
    program = (
        "import sys; from pd_trl.cli.main import main; "
        "codes = [main(['prepare', '--dataset_name', 'sample', '--output_dir', 'p']), "
        "main(['select', '--dataset_name', 'p', '--source', 'ratings', '--output_dir', 's']), "
        "main(['report', '--dataset_name', 's', '--output_dir', 'r']), "
        "main(['export', '--dataset_name', 's', '--to', 'axolotl', '--output_dir', 'x'])]; "
        "print(codes, {'torch', 'trl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] set()", done.stderr
    assert (tmp_path / "r" / "report.html").is_file()


def test_what_is_prepared_in_a_stream_is_skipped_refused_and_replaced_as_a_whole(tmp_path, command, monkeypatch):
    rows = [{"prompt": f"q{i}", "response_a": "a", "response_b": "b"} for i in range(9)]
    rows = [
        row | {"rating_x_a": i % 3, "rating_x_b": 1, "rating_y_a": 1, "rating_y_b": 0} for i, row in enumerate(rows)
    ]
    source, folder = tmp_path / "rows.jsonl", tmp_path / "out"
    write(source, rows)
    options = ["prepare", "--dataset_name", source, "--output_dir", folder]
    with monkeypatch.context() as patch:  # nothing is left to memory
        patch.setattr(prepare, "_in_memory", None)
        dry = command(*options, "--dry_run", "true")
        assert dry.code == 0 and "would write" in dry.out and not folder.exists(), dry.err
        assert command(*options).code == 0
        assert len(read_rows(folder / "pairs")) == len(read_rows(folder / "preferences")) == 9
        assert "already done" in command(*options).out
        other = command(*options, "--seed", "1")
        assert other.code == 2 and "another run (different: `seed`)" in other.err
        assert command(*options, "--seed", "1", "--overwrite", "true").code == 0
    before = Manifest.load(folder).key
    write(source, [*rows, rows[0] | {"response_a": " "}])
    refused = command(*options, "--overwrite", "true")
    assert refused.code == 2 and "response_a is empty: 1 of 10 pairs, the first pairs [9]" in refused.err
    assert Manifest.load(folder).key == before and sorted(
        path.name for path in tmp_path.iterdir() if path.is_dir()
    ) == ["out"]
