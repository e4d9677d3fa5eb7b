import pytest

from pd_trl.errors import InputError
from pd_trl.rating import load_rubric
from pd_trl.rating.rubric import DEFAULT

LEVELS = {1: "bad", 2: "good"}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_default_rubric_has_four_aspects_of_five_levels():
    rubric = load_rubric()
    assert rubric.names == ["helpfulness", "truthfulness", "honesty", "instruction_following"]
    assert all(list(aspect.levels) == [1, 2, 3, 4, 5] for aspect in rubric.aspects)
    assert load_rubric(DEFAULT) == rubric
    assert load_rubric(rubric.to_dict()).digest == rubric.digest


def test_digest_is_that_of_what_is_asked():
    first = load_rubric({"aspects": {"depth": {"question": "How deep?", "levels": LEVELS}}})
    renamed = load_rubric({"name": "other", "aspects": {"depth": {"question": "How deep?", "levels": LEVELS}}})
    changed = load_rubric({"aspects": {"depth": {"question": "How deep?", "levels": {1: "bad", 2: "better"}}}})
    assert first.digest == renamed.digest != changed.digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be an object"),
        ("- a\n- b", "must be an object"),
        ("aspects: {}", "not empty"),
        ("name: x", "aspects"),
        ("aspects: {overall: {question: q, levels: {1: a, 2: b}}}", "another name than overall"),
        ("aspects: {a/b: {question: q, levels: {1: a, 2: b}}}", "letters, digits"),
        ("aspects: {1: {question: q, levels: {1: a, 2: b}}}", "letters, digits"),
        ("aspects: {depth: {levels: {1: a, 2: b}}}", "question"),
        ("aspects: {depth: {question: ' ', levels: {1: a, 2: b}}}", "question must be a text that is not empty"),
        ("aspects: {depth: {question: q, levels: {1: a}}}", "at least two levels"),
        ("aspects: {depth: {question: q, levels: {low: a, high: b}}}", "whole number"),
        ("aspects: {depth: {question: q, levels: {1: a, 2.5: b}}}", "whole number"),
        ("aspects: {depth: {question: q, levels: {1: a, 2: ''}}}", "not empty"),
        ("aspects: {depth: {question: q, levels: {1: a, 2: b}, weight: 2}}", "weight"),
        ("aspects: {depth: {question: q, levels: {1: a, 2: b}}, Depth: {question: q, levels: {1: a, 2: b}}}", "case"),
        ("aspects: [", "YAML"),
    ],
)
def test_bad_rubric_is_one_error_that_names_the_place(tmp_path, text, says):
    path = write(tmp_path / "rubric.yaml", text)
    with pytest.raises(InputError, match="rubric.yaml") as caught:
        load_rubric(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_rubric_is_named(tmp_path):
    with pytest.raises(InputError, match="no.yaml"):
        load_rubric(tmp_path / "no.yaml")
