"""The cost of a recipe in CPU seconds of this machine."""

import json
import sys

from tests.cli.conftest import sources  # noqa: F401
from tests.pipeline.cost.test_command import recipe  # noqa: F401
from tests.processes import ROOT, run

SCRIPT = [sys.executable, str(ROOT / "scripts" / "plan_this_machine.py")]


def test_measured_on_this_machine(recipe):  # noqa: F811
    outcome = run([*SCRIPT, "--config", str(recipe), "--json"], timeout=600)
    assert outcome.returncode == 0, outcome.stderr
    plan = json.loads(outcome.stdout)
    assert plan["unit"] == "CPU s" and "GFLOP per CPU second" in " ".join(plan["assumptions"])
    assert all(cost["seconds"] > 0 for cost in plan["stages"] if cost["stage"] in ("reward", "score", "dpo"))


def test_numbers_cannot_stand_in_for_the_data(recipe):  # noqa: F811
    outcome = run([*SCRIPT, "--config", str(recipe), "--num_pairs", "9", "--tokens_per_pair", "9"])
    assert outcome.returncode == 2 and "`pd-trl plan`" in outcome.stderr and "Traceback" not in outcome.stderr
