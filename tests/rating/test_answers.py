import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pd_trl.rating.answers import expected_value, kept_scale, scale_of, unreadable, value_of, written_value
from pd_trl.rating.questions import PREFERENCES
from tests.rating.scripted import choice

FIVE = {str(level): float(level) for level in range(1, 6)}
TEN = {str(level): float(level) for level in range(11)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        (" 4.\n", 4),
        ("**4**", 4),
        ("Rating: 4", 4),
        ("4/5", 4),
        ("4 out of 5", 4),
        ("I would say 4 out of 5.", 4),
        ("3.5", 3.5),
        ("Level 2: it touches the request", 2),
        ("4, and again 4", 4),
        ("<think>maybe 2 or 3</think>4", 4),
        ("<think>maybe 2 or 3", None),
        ("The levels are 1 to 5. Level 2?</think>\n\n4", 4),
        ("2 fits best</think>", None),
        ("3-4", None),
        ("3 – 4", None),
        ("2/2", None),
        ("8/10", None),
        ("2 or 3", None),
        ("6", None),
        ("0", None),
        ("-4", None),
        ("1e9", None),
        ("nan", None),
        ("", None),
        (None, None),
        ("four", None),
        ("v4", None),
        ("2024", None),
        ("4" * 500, None),
        ("٤", None),
    ],
)
def test_written_levels(text, value):
    assert written_value(text, FIVE) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("A", 1), ("b.", 0), (" T ", 0.5), ("**B**", 0), ("A or B", None), ("Response A", None), ("", None)],
)
def test_written_preferences(text, value):
    assert written_value(text, PREFERENCES) == value


def test_ten_is_a_level_of_a_scale_to_ten():
    assert written_value("10", TEN) == 10
    assert written_value("8/10", TEN) == 8
    assert written_value("10/10", TEN) == 10


@given(st.text(max_size=60))
def test_any_text_is_a_value_of_the_scale_or_none(text):
    value = written_value(text, FIVE)
    assert value is None or 1 <= value <= 5


def tokens(*entries):
    return [
        {"token": token, "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in shares.items()]}
        for token, shares in entries
    ]


def test_expected_value_is_over_the_levels_alone():
    value, mass = expected_value(tokens(("4", {"4": 0.6, " 5": 0.2, "the": 0.2})), FIVE, 4.0)
    assert value == pytest.approx((4 * 0.6 + 5 * 0.2) / 0.8)
    assert mass == pytest.approx(0.8)


def test_expected_value_is_read_where_the_answer_stands():
    found = expected_value(
        tokens(("Rating", {"Rating": 1.0}), (":", {":": 1.0}), (" 4", {" 4": 0.5, " 3": 0.5})), FIVE, 4.0
    )
    assert found[0] == pytest.approx(3.5)


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        tokens(("4", {})),
        tokens(("4", {"4": 1.0})),
        tokens(("4", {"4": 0.2, "3": 0.1, "x": 0.7})),
        tokens(("3", {"3": 0.6, "4": 0.4})),
    ],
)
def test_without_probabilities_of_the_answer_there_is_no_expected_value(found):
    assert expected_value(found, FIVE, 4.0) is None


def test_answers_of_several_tokens_have_no_expected_value():
    assert expected_value(tokens(("1", {"1": 0.5, "2": 0.5})), TEN, 1.0) is None


def test_kept_answer_says_what_it_is_worth():
    answer = {"choices": [choice("4", {"4": 0.5, "3": 0.5})], "scale": kept_scale(FIVE)}
    assert scale_of(answer) == FIVE
    assert value_of(answer) == (pytest.approx(3.5), True)
    assert unreadable(answer) is None
    assert value_of({"choices": [choice("4")], "scale": kept_scale(FIVE)}) == (4.0, False)


def test_reason_of_an_unreadable_answer_is_short_and_safe():
    reason = unreadable({"choices": [choice("\x1b[2J" + "no " * 500)], "scale": kept_scale(FIVE)})
    assert reason is not None and len(reason) < 120 and "\x1b" not in reason
    assert unreadable({"choices": [choice(None)], "scale": kept_scale(FIVE)}) == "an answer without text"


def test_tokens_that_a_server_leaves_out_are_passed_over():
    top = {
        "token": "4",
        "top_logprobs": [None, {"token": "4", "logprob": math.log(0.6)}, {"token": "2", "logprob": math.log(0.4)}],
    }
    assert expected_value([top, None], FIVE, 4.0)[0] == pytest.approx(3.2)
    found = choice("4")
    found["logprobs"] = {"content": [None]}
    assert value_of({"choices": [found], "scale": kept_scale(FIVE)}) == (4.0, False)
