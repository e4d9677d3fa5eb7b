import math
import time

import pytest

from pd_trl.evaluation.alpaca.parsers import SafeParser
from pd_trl.evaluation.alpaca.session import alpaca_eval_session

with alpaca_eval_session():
    from alpaca_eval import completion_parsers

PARSERS = {
    "regex": lambda text: completion_parsers.regex_parser(text, {1: r"\(a\)", 2: r"\(b\)"}),
    "json": lambda text: completion_parsers.json_parser(text, "preference"),
    "eval": completion_parsers.eval_parser,
    "ranking": completion_parsers.ranking_parser,
    "lmsys": completion_parsers.lmsys_parser,
}
TEXTS = [
    "(a)" * 1_000_000,
    "(a)" * 15_000,
    "[" * 40_000,
    "-" * 40_000 + "1",
    '{"preference":' * 9_000,
    "```json" * 7_000,
    "1e999",
    "",
    "\ud800",
]


@pytest.mark.parametrize("parser", PARSERS)
def test_hostile_answers_are_unreadable_and_soon(parser):
    """Answers that crash a parser, or keep it busy, have no preference."""
    safe = SafeParser(PARSERS[parser], 1)
    start = time.monotonic()
    with alpaca_eval_session():
        for text in TEXTS:
            assert not safe.can_read(text)
            (value,) = safe(text)
            assert math.isnan(value)
    assert time.monotonic() - start < 10 and safe.num_unparsable == len(TEXTS)


@pytest.mark.parametrize(
    "parser, text, value", [("regex", "(b)", 2.0), ("json", '{"preference": 1.25}', 1.25), ("eval", "0", 1.5)]
)
def test_answers_that_are_read(parser, text, value):
    assert SafeParser(PARSERS[parser], 1)(text) == [value]
