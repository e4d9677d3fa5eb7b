"""
How long the report's page takes to rank its pairs again at other weights: `python scripts/speed/report_page.py --pairs 1000000`.

It writes a page of generated gaps, opens it in Chromium and moves a weight and the budget. Needs the extra `report`, playwright and
Chromium (`CHROMIUM_PATH`).
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from datasets import Dataset

from pd_trl import PDFilter
from pd_trl.report import write_report


def generated(pairs: int, aspects: int) -> Dataset:
    generator = np.random.default_rng(0)
    names = [f"aspect_{k}" for k in range(aspects)]
    common = generator.normal(0.4, 1, pairs)
    rows = {
        "pair_id": [f"{i:016x}" for i in generator.permutation(pairs)],
        "aspect": [names[i % aspects] for i in range(pairs)],
        "delta_length": generator.integers(-90, 90, pairs).astype(np.int32),
    }
    for name in names:
        rows[f"reward_gap_{name}"] = (common + generator.normal(0, 1, pairs)).astype(np.float32)
    return Dataset.from_dict(rows)


def measure(path: Path, rounds: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium"), args=["--headless", "--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(path.as_uri(), wait_until="commit", timeout=120_000)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=300_000)
        session = page.context.new_cdp_session(page)
        # Processor time of the page's thread, which does not depend on what else runs.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            found = session.send("Performance.getMetrics")["metrics"]
            return 1000 * next(entry["value"] for entry in found if entry["name"] == "ScriptDuration")

        weights, times, spent = page.locator("#weights input[type=range]"), [], []
        for step in range(rounds):
            before = busy()
            weights.nth(step % 2).fill(str(0.25 + 0.25 * (step % 5)))
            page.wait_for_selector("#main:not([aria-busy])", timeout=120_000)
            times.append(float(page.evaluate("document.documentElement.dataset.decided")))
            spent.append(busy() - before)
        print(
            f"a weight: {statistics.median(spent[1:]):.0f} ms of script, plots included, the first one {spent[0]:.0f} ms; "
            f"ranked and counted in {min(times):.0f} ms at best"
        )
        before = busy()
        for step in range(rounds):
            page.locator("#slider").fill(str(200 + 10 * step))
            page.wait_for_selector("#main:not([aria-busy])", timeout=120_000)
        print(f"the budget: {(busy() - before) / rounds:.0f} ms of script a change, plots included")
        browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--aspects", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_report(
            generated(options.pairs, options.aspects), Path(folder) / "report.html", pd_filter=PDFilter(0.3)
        )
        print(f"{options.pairs:,} pairs of {options.aspects} aspects: {path.stat().st_size / 1e6:.1f} MB")
        measure(path, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
