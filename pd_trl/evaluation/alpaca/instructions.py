"""
AlpacaEval's 805 instructions and their order in its files, on which length control depends. `instructions.csv` holds
in this order a digest of each instruction and of the answer of `gpt4_1106_preview`.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from .outputs import normal_instruction

REFERENCE_NAME = "gpt4_1106_preview"
NUM_INSTRUCTIONS = 805


def text_digest(text: str) -> str:
    """Digest of a text that ignores differences of white space."""
    return blake2b(normal_instruction(text).encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _known() -> dict[str, tuple[int, str]]:
    with Path(__file__).with_name("instructions.csv").open(encoding="utf-8", newline="") as file:
        return {row["instruction"]: (i, row["reference_output"]) for i, row in enumerate(csv.DictReader(file))}


def canonical_positions(instructions: Sequence[str]) -> list[int | None]:
    """Position of each instruction among AlpacaEval's 805, from 0; `None` for others."""
    known = _known()
    return [known.get(text_digest(instruction), (None, ""))[0] for instruction in instructions]


def num_other_references(rows: Sequence[Mapping[str, str]]) -> int:
    """Number of rows whose reference output is not that of `gpt4_1106_preview`."""
    known = _known()
    return sum(
        known.get(text_digest(row["instruction"]), (None, ""))[1] != text_digest(row["output_1"]) for row in rows
    )
