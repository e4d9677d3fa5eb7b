"""Files and models from the Hub, by id and revision."""

import pytest

from pd_trl.errors import InputError
from pd_trl.hub import local_file, local_model_folder, split_revision
from tests.hub.actions import publish


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
