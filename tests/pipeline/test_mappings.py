"""Mappings that a text holds: YAML and json."""

import pytest

from pd_trl.errors import InputError
from pd_trl.pipeline.mappings import is_mapping_text, mapping_of, path_or_mapping


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        ('{"honesty": 2.0}', {"honesty": 2.0}),
        ("{honesty: 2.0, 'a b': [1, x]}", {"honesty": 2.0, "a b": [1, "x"]}),
        ("honesty: me/rm-honesty", {"honesty": "me/rm-honesty"}),
        ("honesty: 1\nhelpfulness: 2", {"honesty": 1, "helpfulness": 2}),
        ("honesty:\n  base_url: http://h:1/v1", {"honesty": {"base_url": "http://h:1/v1"}}),
        ('{"rate": 1e-5}', {"rate": 1e-5}),
        ("{1: a}", {"1": "a"}),
        ("{}", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
    ],
)
def test_yaml_json_and_mappings_are_read(text, mapping):
    assert mapping_of(text, "weights") == mapping


@pytest.mark.parametrize("text", ["nonsense", "[1]", "{bad", "3", "", "{a: &x [*x]}", "{a: !!python/none x}"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(
        InputError, match=r"`weights` must be a mapping in YAML, such as '\{key: value\}', or a json object"
    ):
        mapping_of(text, "weights")


def test_a_name_that_yaml_takes_for_a_truth_is_refused():
    with pytest.raises(InputError, match=r"`column_mapping` has the key False.*Put quotes around it"):
        mapping_of("{no: question}", "column_mapping")


@pytest.mark.parametrize(
    "path",
    ["runs/rewards", "me/rm", "C:\\runs", "hf://me/rm", "https://h/x.json", "alpaca_eval", "a:b", "~/rm", "me/rm: x"],
)
def test_paths_and_ids_stay_as_they_are(path):
    assert not is_mapping_text(path) and path_or_mapping(path, "reward_models") == path


def test_a_file_may_be_named_like_a_mapping(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "{a: b}").write_text("")
    assert path_or_mapping("{a: b}", "outputs") == "{a: b}"
