"""The command line in this process, and small files to run it on."""

import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import ASPECTS, sentence

Rows = list[dict[str, Any]]


@dataclass
class Outcome:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """Asserts one clear message with `words`, and nothing that a user should not see."""
        assert self.code == 2, self
        errors = [line for line in self.err.splitlines() if ": error: " in line]
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err
        assert "PD_TRL_TRACEBACK" not in self.err, "an error of Python or of a library, not one that says what to do"
        assert printable(self.out + self.err)
        for word in words:
            assert word in self.err, self.err


def printable(text: str) -> bool:
    return all(c.isprintable() or c in "\n\r\t" for c in text)


@pytest.fixture
def command(capfd) -> Iterator[Callable[..., Outcome]]:
    """`command("select", "--budget", 0.3)` runs the command line in this process."""
    from pd_trl.cli.main import main

    logger = logging.getLogger("pd_trl")
    before = list(logger.handlers), logger.level, logger.propagate

    def run(*arguments: Any) -> Outcome:
        logger.handlers.clear()
        capfd.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    yield run
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def make_pairs(count: int = 30, *, chat: bool = False) -> Rows:
    """Pairs with ratings of three aspects and overall."""
    generator = random.Random(0)
    rows = []
    for i in range(count):
        row: dict[str, Any] = {"pair_id": f"pair{i:03d}", "prompt_id": f"prompt{i:03d}", "prompt": sentence(generator)}
        for side in "ab":
            row[f"response_{side}"] = sentence(generator)
            for aspect in (*ASPECTS, "overall"):
                row[f"rating_{aspect}_{side}"] = float(generator.randint(1, 5))
        if chat:
            row["prompt"] = [{"role": "user", "content": row["prompt"]}]
            for side in "ab":
                row[f"response_{side}"] = [{"role": "assistant", "content": row[f"response_{side}"]}]
        rows.append(row)
    return rows


def make_scored(count: int = 30, *, chat: bool = False) -> Rows:
    """Preferences of three aspects with gaps."""
    generator = random.Random(1)
    rows = []
    for i, pair in enumerate(make_pairs(count, chat=chat)):
        row = {name: pair[name] for name in ("pair_id", "prompt_id", "prompt")}
        row |= {"chosen": pair["response_a"], "rejected": pair["response_b"], "aspect": ASPECTS[i % len(ASPECTS)]}
        for aspect in ASPECTS:
            row[f"reward_gap_{aspect}"] = generator.gauss(0.5, 1)
            row[f"rating_{aspect}_chosen"], row[f"rating_{aspect}_rejected"] = 4.0, float(generator.randint(1, 5))
        rows.append({**row, "delta_length": generator.randint(-5, 5), "pd": generator.gauss(0, 1)})
    return rows


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """`write(rows)` writes them as jsonl and returns the file."""

    def file(rows: Rows, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return file


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> dict[str, Path]:
    """Files that are good as they are."""
    folder = tmp_path_factory.mktemp("sources")
    files = {}
    for name, rows in {"pairs": make_pairs(), "scored": make_scored(), "chat": make_scored(chat=True)}.items():
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return files
