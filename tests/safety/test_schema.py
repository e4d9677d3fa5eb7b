"""Limits of json and yaml that is read back, and the checks that forms are made of."""

import json
import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pd_trl.cards import split_readme
from pd_trl.errors import InputError
from pd_trl.hub.readme import join_readme, merge_metadata, name_of
from pd_trl.runs.artifacts import read_json
from pd_trl.safety import schema

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3), max_leaves=8
)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 65 + "]" * 65,
        '{"a":' * 500 + "1" + "}" * 500,
        "9" * 5000,
        '{"a": -' + "1" * 400 + "}",
        "{",
        "",
        "\ufeff{}",
        "nul",
        '{"a": 1, "b": {}, "a": 2}',
        '[{"x": {"a": 1, "\\u0061": 1}}]',
    ],
)
def test_json_beyond_the_limits_is_refused_by_name(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json"):
        read_json(tmp_path / "a.json")


def test_json_within_the_limits_is_read(tmp_path):
    (tmp_path / "a.json").write_text("[" * 60 + "18446744073709551616" + "]" * 60)
    value = read_json(tmp_path / "a.json")
    for _ in range(60):
        (value,) = value
    assert value == 2**64


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match="a.json"):
        read_json(tmp_path / "a.json")


def test_a_file_of_the_wrong_size_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text(" " * 100)
    with pytest.raises(InputError, match="more than 99 bytes"):
        schema.read_text(tmp_path / "a.json", 99)


def bomb(width: int = 9, depth: int = 7, start: str = "[x, x, x, x, x, x, x, x, x]") -> str:
    lines = [f"a0: &a0 {start}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(),
        bomb(200, 60, "1"),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a {<<: *a}",
        "a0: &a0 {x: 1}\n" + "\n".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)),
        "a: " + "[" * 3000,
        "- " * 3000 + "a",
        "a: " + "9" * 5000,
        "a: 2001-99-99",
        "a: !!timestamp x",
        "a: !!bool x",
        "a: !!int ''",
        "a: !!float x",
        "a: !!binary '\u00e9'",
        "a: !!python/object/apply:os.system [ls]",
        "a: 1\nb: 2\na: 3",
        "x: [{a: 1, 'a': 2}]",
        "a: [" + "x," * 600_000 + "]",
        "? [1]\n: 2",
        "? {a: 1}\n: 2",
        "1: 2",
        "- 1",
        "a: [",
        "\t",
        "a: \x07",
    ],
)
def test_yaml_of_a_card_is_bounded(text):
    start = time.process_time()
    with pytest.raises(InputError, match="card"):
        split_readme(f"---\n{text}\n---\nbody")
    assert time.process_time() - start < 5


def test_aliases_of_little_are_read_and_written_out():
    text = "---\na: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n---\nbody"
    metadata, body = split_readme(text)
    assert metadata == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}} and body == "body"
    assert "&" not in join_readme(metadata, body)


@given(st.text(alphabet="ab:&*[]{}-?!<>|\n 1.'\"#,\t~", max_size=60))
def test_any_yaml_is_read_or_refused(text):
    try:
        metadata, _ = split_readme(f"---\n{text}\n---\nbody")
    except InputError as error:
        assert "card" in str(error)
    else:
        assert isinstance(metadata, dict)
        join_readme(merge_metadata(metadata, {"tags": ["a"]}), "x")


CARD_KEYS = ("configs", "dataset_info", "model-index", "tags", "datasets", "license", "license_name", "language", "x")
OURS = {
    "configs": [{"config_name": "selected", "default": True}],
    "dataset_info": [{"config_name": "selected"}],
    "model-index": [{"name": "m"}],
    "tags": ["a"],
    "license": "mit",
    "language": ["en"],
}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(CARD_KEYS),
        JSON | st.lists(st.dictionaries(st.sampled_from(["config_name", "name", "default"]), JSON)),
        max_size=4,
    )
)
def test_any_card_is_merged(existing):
    merged = merge_metadata(existing, OURS)
    assert [name_of(entry) for entry in merged["configs"]].count("selected") == 1


@pytest.mark.parametrize(
    "check, fits, misfits",
    [
        (schema.number(0, 1), [0, 1, 0.5], [-1, 1.1, math.nan, math.inf, True, "1", None, 10**400, []]),
        (schema.number(above=0), [1e-300, 5], [0, -1, -math.inf]),
        (schema.integer(1), [1, 2**62], [0, 1.0, True, 2**63, None]),
        (schema.text(), ["", "a\r"], [1, None, "\ud800"]),
        (schema.text(empty=False), ["a"], [""]),
        (schema.text(("a", "b")), ["a"], ["c", ["a"]]),
        (schema.boolean, [True], [0, 1, "true", None]),
        (schema.optional(schema.boolean), [None, False], [0]),
        (schema.sequence(schema.boolean), [[], [True]], [[1], {}, "a"]),
        (schema.mapping(schema.boolean, empty=False), [{"a": True}], [{}, [], {"a": 1}, {"\udc00": True}]),
        (schema.record({"a": schema.boolean}, required=("a",)), [{"a": True}], [{}, {"a": 1}, {"a": True, "b": 1}, None]),
        (schema.record({}, others=schema.anything), [{"x": [None, {"y": 1.5}]}], [{"x": ["\ud800"]}]),
    ],
)  # fmt: skip
def test_checks(check, fits, misfits):
    for value in fits:
        assert schema.check_content(value, check, "f.json", "a thing") is value
    for value in misfits:
        with pytest.raises(InputError, match=r"f\.json is not a thing: ") as caught:
            schema.check_content(value, check, "f.json", "a thing")
        assert str(caught.value).isprintable()


def test_the_message_says_where():
    form = schema.record({"a": schema.sequence(schema.mapping(schema.integer()))})
    with pytest.raises(InputError, match=r"f is not a: a\[1\]\.b must be a whole number, found 'x'\. Do this\."):
        schema.check_content({"a": [{}, {"b": "x"}]}, form, "f", "a", "Do this.")
    with pytest.raises(InputError, match="'\\\\x1b\\[31m") as caught:
        schema.check_content({"\x1b[31m": 1}, schema.record({}), "f", "a")
    assert len(str(caught.value)) < 300


@given(JSON)
def test_json_that_is_written_is_read(value):
    text = json.dumps(value)
    assert json.dumps(schema.parse_json(text, "f")) == text
