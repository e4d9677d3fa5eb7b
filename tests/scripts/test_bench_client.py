"""The benchmark of requests: every kind is answered by its server, and none by anything else."""

import importlib.util
import sys

import pytest

from tests.processes import ROOT

pytest.importorskip("openai", reason="the extra `alpaca` is not installed")


def test_each_kind_is_answered(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("bench_client", ROOT / "scripts" / "bench_client.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(
        sys, "argv", ["bench_client", "--requests", "20", "--rounds", "1", "--at_once", "4", "--seconds", "0"]
    )
    bench.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["judge", "rate", "generate"]
    assert all(float(row[1].replace(",", "")) > 0 and float(row[2]) > 0 for row in rows)
