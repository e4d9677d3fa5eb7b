"""The cost of a recipe in CPU seconds of this machine."""

import json
import sys

import pytest

from tests.cli.conftest import command, sources  # noqa: F401
from tests.pipeline.cost.test_command import recipe  # noqa: F401
from tests.processes import ROOT


@pytest.fixture
def script(monkeypatch, command, capfd):  # noqa: F811
    """Runs the script in this process; `command` puts the logging back."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from plan_this_machine import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["plan_this_machine.py", *map(str, arguments)])
        code = main()
        return (code, *capfd.readouterr())

    return run


def test_measured_on_this_machine(script, recipe):  # noqa: F811
    code, out, err = script("--config", recipe, "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["unit"] == "CPU s" and "GFLOP per CPU second" in " ".join(plan["assumptions"])
    assert all(cost["seconds"] > 0 for cost in plan["stages"] if cost["stage"] in ("reward", "score", "dpo"))


def test_numbers_cannot_stand_in_for_the_data(script, recipe):  # noqa: F811
    code, _, err = script("--config", recipe, "--num_pairs", 9, "--tokens_per_pair", 9)
    assert code == 2 and "`pd-trl plan`" in err
