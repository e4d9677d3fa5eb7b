"""
Runs the notebooks of docs/notebooks, cell by cell, and compares what they print with what they hold.

    python scripts/notebooks.py            # check all
    python scripts/notebooks.py --write    # run all, and keep what they print

It needs neither Jupyter nor a kernel: cells hold plain Python, and their output is what they print.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def run(notebook: dict[str, Any], folder: Path) -> list[str]:
    """What each cell of code prints, when the notebook runs in `folder`."""
    printed: list[str] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    before = os.getcwd()
    os.chdir(folder)
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] != "code":
                continue
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile("".join(cell["source"]), f"cell {len(printed) + 1}", "exec"), names)
            # What a trainer prints holds times.
            lines = output.getvalue().splitlines(keepends=True)
            printed.append("".join(line for line in lines if not line.startswith("{'train_runtime'")))
    finally:
        os.chdir(before)
    return printed


def held(notebook: dict[str, Any]) -> list[str]:
    """What the cells of code hold as their output."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join(text for output in cell["outputs"] for text in output["text"]) for cell in cells]


def write(path: Path, notebook: dict[str, Any], printed: list[str]) -> None:
    outputs = iter(enumerate(printed, 1))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"], text = next(outputs)
            cell["outputs"] = (
                [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}] if text else []
            )
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep what the cells print")
    options = parser.parse_args()
    differing = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder:
            printed = run(notebook, Path(folder))
        if options.write:
            write(path, notebook, printed)
        same = printed == held(notebook)
        differing += not same
        print(f"{path.name}: {'as it stands' if same else 'prints something else'}")
        if not same:
            print("".join(printed), file=sys.stderr)
    return min(differing, 1)


if __name__ == "__main__":
    sys.exit(main())
