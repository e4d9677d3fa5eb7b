"""
The pair that a selection keeps first and the one that it drops first, with the reason: `python scripts/first_pairs.py runs/sample/select`.
"""

import sys
import textwrap
from pathlib import Path

from pd_trl.runs.artifacts import read_rows
from pd_trl.text.names import display_name


def main() -> int:
    folder = Path(sys.argv[1])
    best = min(read_rows(folder / "selected"), key=lambda pair: pair["pd"])
    worst = max(read_rows(folder / "dropped"), key=lambda pair: pair["pd"])
    for pair in (best, worst):
        names = [
            name for name in pair if name.startswith("vote_") and name != "vote_overall" and pair[name] is not None
        ]
        votes = ", ".join(f"{display_name(name.removeprefix('vote_'))} {pair[name]:+.0f}" for name in names)
        print(f"\n{pair['pd_reason']} (PD {pair['pd']:.2f}; {votes})")
        for name in ("prompt", "chosen", "rejected"):
            text = textwrap.shorten(display_name(pair[name], 400), 100, placeholder=" …")
            print(f"  {name:<9} {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
