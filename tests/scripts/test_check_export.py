"""What other trainers read of an export, by their own loaders: `scripts/check_export.py --install` makes their environments."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

PLACE = Path(os.environ.get("PD_TRL_EXPORT_ENVIRONMENTS", ""))
ROWS = os.environ.get("PD_TRL_EXPORT_ROWS", "1000")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["llama-factory", "openrlhf", "axolotl", "verl"])
def test_tokens_are_trls(trainer, tmp_path):
    if not os.environ.get("PD_TRL_EXPORT_ENVIRONMENTS") or not (PLACE / trainer / "bin" / "python").is_file():
        pytest.skip("PD_TRL_EXPORT_ENVIRONMENTS names no folder with this trainer's environment")
    command = [sys.executable, "scripts/check_export.py", "--environments", str(PLACE), "--trainers", trainer]
    done = subprocess.run(
        [*command, "--rows", ROWS, "--work", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LOST" not in done.stdout
    whole = re.findall(r"\b([\d,]+)/([\d,]+)\b", done.stdout)
    assert whole and sum(a == b for a, b in whole) >= len(whole) // 2
