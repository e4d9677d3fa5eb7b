"""The sample that comes with the package: readable pairs, for demonstration."""

from os import PathLike, fspath
from pathlib import Path

SAMPLE = "sample"
# What a selection made from it says of its source.
SAMPLE_FACTS = {
    "name": "the sample bundled with pd_trl, written and rated by its authors for demonstration",
    "license": "apache-2.0",
    "languages": ["en"],
}
SAMPLE_FILE = Path(__file__).resolve().parent / "sample" / "sample.jsonl"


def is_bundled(name: str | PathLike[str]) -> bool:
    """Whether a name means the bundled sample: a file or folder of that name in the working directory goes before it."""
    return fspath(name) == SAMPLE and not Path(SAMPLE).exists()
