"""What the readers share: a list of jobs in, tokens out. Runs in the environments of the trainers, without pd_trl."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Job:
    """
    An export to read.

    Args:
        export (`str`): Its folder.
        tokenizer (`str`): Folder of the tokenizer.
        model (`str`): Folder of a model with this tokenizer.
        template (`str`): Name that the trainer has for its chat template.
        tokens (`str`): File for the tokens.
    """

    export: str
    tokenizer: str
    model: str
    template: str
    tokens: str

    def text(self, name: str) -> str:
        """A file of the export."""
        return Path(self.export, name).read_text(encoding="utf-8")


Tokens = tuple[list[int], list[int], list[int]]


def split(chosen: list[int], rejected: list[int], start: int) -> Tokens:
    """Prompt, chosen and rejected of two sequences whose responses begin at `start`."""
    return chosen[:start], chosen[start:], rejected[start:]


def run(read: Callable[[Job], Iterable[Tokens]]) -> None:
    """Reads the jobs of the file that the command names."""
    for entry in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        job = Job(**entry)
        lines = [json.dumps(dict(zip(("prompt", "chosen", "rejected"), ids, strict=True))) for ids in read(job)]
        Path(job.tokens).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
