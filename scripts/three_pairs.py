"""
The picture of the README: three pairs of the bundled sample, what each aspect votes, and what the selection does with them.

    python scripts/three_pairs.py                    # writes docs/three-pairs.svg

Votes, PD and decision are those of `PDFilter(budget=0.3, source="ratings")`; texts are cut, with dots where something is left out.
"""

import argparse
import html
import textwrap
from pathlib import Path
from typing import Any

from pd_trl import PDFilter, load_pairs, to_preferences

ROOT = Path(__file__).resolve().parents[1]
# How each pair begins: one that all aspects support, one that few of them decide, one that they contradict.
PROMPTS = ("Why is my hamster awake", "In one sentence: what can replace an egg", "My daughter wants a goldfish")
WIDTH, HEAD, ROW, LINE = 720, 52, 156, 19
TEXT_X, VOTE_X, VOTE_HALF, NAME_X = 20, 532, 56, 466
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .soft { fill: #59636e } .small { font-size: 12.5px } .strong { font-weight: 600 }
  .page { fill: #ffffff } .line { stroke: #d1d9e0 } .axis { stroke: #818b98 }
  .for { fill: #0b7285 } .against { fill: #c2410c } .none { fill: #818b98 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .soft { fill: #a3adb8 } .page { fill: #0d1117 } .line { stroke: #3d444d } .axis { stroke: #818b98 }
    .for { fill: #3bc9db } .against { fill: #ff922b } .none { fill: #9198a1 }
  }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "three-pairs.svg", help="File to write.")
    parser.parse_args().output.write_text(picture(), encoding="utf-8")


def picture() -> str:
    """The picture, as SVG."""
    pd_filter = PDFilter(budget=0.3, source="ratings")
    pairs = [*pd_filter(to_preferences(load_pairs("sample"))), *pd_filter.dropped_]
    shown = [next(pair for pair in pairs if pair["prompt"].startswith(start)) for start in PROMPTS]
    height = HEAD + ROW * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Three pairs of the bundled sample: label, votes of the aspects, PD, kept or dropped</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>',
        _text(TEXT_X, 32, "label of the pair", "soft small"),
        _text(VOTE_X - 8, 32, "◂ against", "against small", "end"),
        _text(VOTE_X + 8, 32, "for the label ▸", "for small"),
        _text(WIDTH - 20, 32, "−sum", "soft small", "end"),
    ]
    for i, pair in enumerate(shown):
        parts += _row(pair, pd_filter, HEAD + ROW * i)
    return "\n".join([*parts, "</svg>", ""])


def _row(pair: dict[str, Any], pd_filter: PDFilter, top: int) -> list[str]:
    votes = {}
    for name in pd_filter.aspects_ or []:
        gap = pair[f"rating_{name}_chosen"] - pair[f"rating_{name}_rejected"]
        votes[name] = max(-1.0, min(1.0, gap / pd_filter.quantiles_[name]))
    if abs(sum(votes.values()) + pair["pd"]) > 1e-5:
        raise RuntimeError(f"The votes {votes} do not add up to the PD {pair['pd']}: the picture would be wrong.")
    parts = [f'<line class="line" x1="20" x2="{WIDTH - 20}" y1="{top}" y2="{top}"/>']
    y = top + 26
    for line in _lines(pair["prompt"], 2, 41):
        parts.append(_text(TEXT_X, y, line, "strong"))
        y += LINE
    for mark, side in (("✓ chosen:", "chosen"), ("✗ rejected:", "rejected")):
        y += 3
        for line in _lines(f"{mark} {pair[side]}", 2):
            parts.append(_text(TEXT_X, y, line, "" if side == "chosen" else "soft"))
            y += LINE
    y = top + 32
    parts.append(f'<line class="axis" x1="{VOTE_X}" x2="{VOTE_X}" y1="{top + 16}" y2="{top + 18 + 28 * len(votes)}"/>')
    for name, vote in votes.items():
        parts.append(_text(NAME_X, y + 4, name.replace("instruction_following", "instructions"), "small", "end"))
        kind = "for" if vote > 0 else "against"
        x = VOTE_X if vote > 0 else VOTE_X + vote * VOTE_HALF
        if vote:
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y - 7}" width="{abs(vote) * VOTE_HALF:.1f}" height="14" rx="2"/>'
            )
        else:
            parts.append(f'<circle class="none" cx="{VOTE_X}" cy="{y}" r="3.5"/>')
        y += 28
    kept = pair["pd_kept"]
    middle = top + 16 + 14 * len(votes)
    parts.append(_text(WIDTH - 20, middle - 4, f"PD {pair['pd']:+.2f}".replace("-", "−"), "strong", "end"))
    parts.append(
        _text(WIDTH - 20, middle + 18, "kept" if kept else "dropped", f"strong {'for' if kept else 'against'}", "end")
    )
    return parts


def _lines(text: str, most: int, width: int = 45) -> list[str]:
    return textwrap.wrap(text, width, max_lines=most, placeholder=" …")


def _text(x: int, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'


if __name__ == "__main__":
    main()
