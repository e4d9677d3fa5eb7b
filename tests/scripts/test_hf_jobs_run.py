"""The script of a job on Hugging Face's machines, as far as it runs here."""

import re
import subprocess
import sys

import pytest

from tests.processes import ROOT

SCRIPT = ROOT / "scripts" / "hf_jobs_run.py"


def header() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    (block,) = re.findall(r"(?m)^# /// script$\n((?:^#(?:| .*)$\n)+)^# ///$", SCRIPT.read_text())
    return tomllib.loads("".join(line[2:] + "\n" for line in block.splitlines()))


def start(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_the_header_is_what_uv_and_jobs_read():
    table = header()
    assert table["requires-python"] == ">=3.10" and table["dependencies"] == ["pd_trl[report]"]
    assert {"flavor", "timeout", "secrets"} == set(table["tool"]["hf-jobs"])


def test_the_client_reads_the_table():
    parsing = pytest.importorskip("huggingface_hub.cli._uv_script_header", reason="an older huggingface_hub")
    assert "a100" in str(parsing.parse_uv_script_header(SCRIPT.read_text()))


def test_a_job_whose_results_would_be_lost_is_refused(tmp_path):
    for more in ((), ("--dry_run", "false"), ("--dry-run=false",)):
        lost = start("--config", "quickstart", "--output_dir", str(tmp_path / "run"), *more)
        assert lost.returncode == 2 and "--publish.dataset" in lost.stderr and not (tmp_path / "run").exists()
    wrong = start("--config", "quickstrat")
    assert wrong.returncode == 2 and "Did you mean 'quickstart'" in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_it_is_the_run_command(tmp_path):
    planned = start("--config", "quickstart", "--output_dir", str(tmp_path / "run"), "--dry-run")
    assert planned.returncode == 0 and "simulate (dry run)" in planned.stdout, planned.stderr
    assert not (tmp_path / "run").exists()
