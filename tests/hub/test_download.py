"""Files and models from the Hub, by id and revision."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pd_trl.errors import InputError
from pd_trl.hub import local_file, local_model_folder, split_revision
from tests.hub.actions import publish
from tests.hub.local import LocalHub


def texts(name: str) -> dict[str, str]:
    folder = local_model_folder(name)
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".gitattributes"}


def file_text(name: str) -> str:
    return local_file(name, "filter.json").read_text()


@pytest.mark.parametrize(
    "name, expected", [("me/a", ("me/a", None)), ("me/a@v1.0", ("me/a", "v1.0")), ("a@refs/pr/1", ("a", "refs/pr/1"))]
)
def test_split_revision(name, expected):
    assert split_revision(name) == expected


def test_models_by_revision(plain_hub):
    name = f"me/models-{plain_hub.mode}"
    plain_hub.run(publish, name, {"config.json": b"one"}, repo_type="model", tag="v1")
    plain_hub.run(publish, name, {"config.json": b"two", "weights.bin": b"\0pickle"}, repo_type="model")
    assert plain_hub.run(texts, name) == {
        ".gitattributes": plain_hub.run(texts, name)[".gitattributes"],
        "config.json": "two",
    }
    assert plain_hub.run(texts, f"{name}@v1")["config.json"] == "one"
    plain_hub.call(texts, f"{name}@v2").refused("no local folder", "404")
    plain_hub.call(texts, "me/nothing").refused("no local folder", "RepositoryNotFound")


def test_file_of_a_folder_or_a_repository(plain_hub, tmp_path):
    name = f"me/files-{plain_hub.mode}"
    plain_hub.run(publish, name, {"filter.json": b"{}"}, tag="v1")
    plain_hub.run(publish, name, {"filter.json": b"[]"})
    assert plain_hub.run(file_text, name) == "[]" and plain_hub.run(file_text, f"{name}@v1") == "{}"
    (tmp_path / "filter.json").write_text("here")
    assert plain_hub.run(file_text, str(tmp_path)) == plain_hub.run(file_text, str(tmp_path / "filter.json")) == "here"
    plain_hub.run(publish, f"{name}-empty", {"other.json": b"{}"})
    plain_hub.call(file_text, f"{name}-empty").refused("has no file filter.json")
    plain_hub.call(file_text, "me/nothing").refused("cannot be fetched", "404")


@pytest.mark.parametrize("name", ["nothing.json", "/nothing/here", "./me/x", "me/x/y", "name"])
def test_what_is_no_hub_id_is_not_asked_for(name):
    with pytest.raises(InputError, match="no file"):
        local_file(name, "filter.json")


def damaged_blobs(repo_id: str, byte: int) -> int:
    """Alters a byte of each file of a repository that lies in the cache of this client."""
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = list(Path(HF_HUB_CACHE).glob(f"*--{repo_id.replace('/', '--')}/blobs/*"))
    for blob in blobs:
        alter(blob, byte)
    return len(blobs)


def alter(file: Path, byte: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(bytes(content))


@pytest.fixture(params=[b'{"altered": 1}', b"\0weights" * 500], ids=["regular", "large"])
def altered(request, plain_hub) -> tuple[LocalHub, str]:
    """A model whose only file besides the configuration is altered on the way: the listing is right."""
    name = f"me/altered-{plain_hub.mode}-{len(request.param)}"
    file = "model.safetensors" if len(request.param) > 100 else "extra.json"
    before = {path for path in plain_hub.root.rglob("*") if path.is_file()}
    plain_hub.run(publish, name, {file: request.param}, repo_type="model")
    new = [path for path in plain_hub.root.rglob("*") if path.is_file() and path not in before]
    for path in new:
        if path.read_bytes() == request.param:
            alter(path, 3)
    return plain_hub, name


def test_a_file_that_is_not_the_listed_one_is_refused(altered):
    hub, name = altered
    hub.call(texts, name).refused("is not the file that the Hub lists", "also after another download", f"{name!r}")
    # Nor is the copy that this left in the cache accepted.
    hub.call(texts, name).refused("is not the file that the Hub lists")


def test_a_single_file_that_is_not_the_listed_one_is_refused(plain_hub):
    name, content = f"me/altered-file-{plain_hub.mode}", b'{"some": "content"}'
    plain_hub.run(publish, name, {"filter.json": content})
    for path in plain_hub.root.rglob("*"):
        if path.is_file() and path.read_bytes() == content:
            alter(path, 5)
    plain_hub.call(file_text, name).refused("filter.json of the dataset", "is not the file that the Hub lists")


def test_a_copy_that_is_damaged_in_the_cache_is_fetched_again(plain_hub):
    name = f"me/damaged-{plain_hub.mode}"
    plain_hub.run(publish, name, {"config.json": b'{"a": 1}'}, repo_type="model")
    assert plain_hub.run(texts, name)["config.json"] == '{"a": 1}'
    assert plain_hub.run(damaged_blobs, name, 2) >= 1
    outcome = plain_hub.call(texts, name)
    assert outcome.error is None and outcome.value["config.json"] == '{"a": 1}' and "damaged" in outcome.output


def test_a_damaged_copy_is_refused_without_a_connection(plain_hub):
    name = f"me/offline-{plain_hub.mode}"
    plain_hub.run(publish, name, {"config.json": b'{"a": 1}'}, repo_type="model")
    plain_hub.run(texts, name)
    plain_hub.run(damaged_blobs, name, 2)
    plain_hub.call(offline_texts, name).refused("of the model", "is not the file that the Hub lists", "Remove")


def offline_texts(name: str) -> dict[str, str]:
    script = f"from tests.hub.test_download import texts; texts({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    raise InputError(done.stderr.strip().splitlines()[-1])


def loaded(repo_id: str) -> list[str]:
    from pd_trl.data import load_source

    return load_source(repo_id)["a"][:]


def test_rows_of_a_file_that_is_not_the_listed_one_are_refused(plain_hub):
    name, shard = f"me/altered-rows-{plain_hub.mode}", "data/train-00000-of-00001.jsonl"
    content = json.dumps({"a": "kept whole"}).encode() + b"\n"
    plain_hub.run(publish, name, {shard: content})
    for path in plain_hub.root.rglob("*"):
        if path.is_file() and path.read_bytes() == content:
            alter(path, 9)
    for _ in range(2):
        plain_hub.call(loaded, name).refused(shard, "is not the file that the Hub lists")


def test_rows_that_are_damaged_in_the_cache_are_fetched_again(plain_hub):
    name, shard = f"me/damaged-rows-{plain_hub.mode}", "data/train-00000-of-00001.jsonl"
    plain_hub.run(publish, name, {shard: json.dumps({"a": "whole again"}).encode() + b"\n"})
    plain_hub.run(fetched, name, shard)
    assert plain_hub.run(damaged_blobs, name, 9) == 1
    assert plain_hub.run(loaded, name) == ["whole again"]


def fetched(repo_id: str, path: str) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(repo_id, path, repo_type="dataset")
