import json
import logging
import subprocess
import sys
import threading

import pytest

from pd_trl.errors import InputError
from pd_trl.runs.row_log import MemoryLog, RowLog
from tests.processes import ROOT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rows" / "log.jsonl"


def written(path, count=5):
    with RowLog(path, {"a": 1}) as log:
        for i in range(count):
            log.add(f"k{i}", {"text": f"ü{i}\u2028"})
    return path.read_bytes().split(b"\n")[:-1]


DAMAGE = {
    "a cut": b'{"key": "k1", "row": {"te',
    "no json": b"\x00\x00\x00",
    "broken bytes": b'{"key": "k1", "row": "\xff\xfe"}',
    "empty": b"",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "no key": b'{"row": 1}',
    "no row": b'{"key": "k1"}',
    "a key of another kind": b'{"key": [1], "row": 1}',
    "a key that is a number": b'{"key": 1, "row": 1}',
    "deep": b'{"key": "k1", "row": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a large number": b'{"key": "k1", "row": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_line_costs_its_row_alone(path, name, caplog):
    lines = written(path)
    lines[2] = DAMAGE[name]
    path.write_bytes(b"\n".join(lines) + b"\n")
    with caplog.at_level(logging.WARNING), RowLog(path, {"a": 1}) as log:
        assert sorted(log.rows) == ["k0", "k2", "k3", "k4"]
        log.add("k1", 1)
    assert f"{path}: 1 of 6 lines are damaged and left out (line 3)" in caplog.text
    with RowLog(path, {"a": 1}) as log:
        assert len(log.rows) == 5 and log["k1"] == 1


@pytest.mark.parametrize(
    "first", [b"{}", b"[]", b"null", b"\xff", b'{"identity": 3}', b'{"identity": null}', b"[" * 100_000]
)
def test_a_damaged_first_line_is_an_error(path, first):
    lines = written(path)
    path.write_bytes(b"\n".join([first, *lines[1:]]) + b"\n")
    with (
        pytest.raises(InputError, match="log.jsonl is damaged in its first line.*Remove it to begin again"),
        RowLog(path, {"a": 1}),
    ):
        pass


def test_rows_of_another_run(path):
    written(path)
    with pytest.raises(InputError, match=r"rows of another run \(a, b differ\)"), RowLog(path, {"b": 1}):
        pass


def deep():
    row = []
    for _ in range(100_000):
        row = [row]
    return row


@pytest.mark.parametrize(
    "row", ["a\ud800", {"\udfff": 1}, {1j}, 10**5000, deep()], ids=["surrogate", "key", "kind", "number", "deep"]
)
def test_what_no_file_holds_is_not_half_written(path, row):
    with RowLog(path, {}) as log:
        log.add("a", 1)
        before = path.read_bytes()
        with pytest.raises((ValueError, TypeError, RecursionError)):
            log.add("b", row)
        assert path.read_bytes() == before and "b" not in log and log.count("b") == 0
        log.add("c", 2)
    with RowLog(path, {}) as log:
        assert log.rows == {"a": 1, "c": 2}


def test_a_full_disk_leaves_no_half_line(path):
    """The file may not grow any more, as on a full disk, and later it may again."""
    code = f"""
import resource, signal
from pd_trl.runs.row_log import RowLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with RowLog({str(path)!r}, {{}}) as log:
    log.add("a", "x" * 500)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        log.add("b", "y" * 5000)
    except OSError as error:
        print(type(error).__name__, "b" in log)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.add("c", 3)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "OSError False\n", result.stderr
    with RowLog(path, {}) as log:
        assert set(log.rows) == {"a", "c"}
    assert path.read_bytes().count(b"\n") == 3


def test_a_line_that_a_kill_cut_off_is_dropped(path):
    written(path)
    with path.open("ab") as file:
        file.write(b'{"key": "k9", "ro')
    with RowLog(path, {"a": 1}) as log:
        assert "k9" not in log
    assert path.read_bytes().endswith(b"}\n")


def test_counts_and_last_rows(path):
    for log in (RowLog(path, {}), MemoryLog()):
        if isinstance(log, MemoryLog):
            log.add("a", 1), log.add("a", 2)
            assert (log["a"], log.count("a"), log.count("b")) == (2, 2, 0)
            continue
        with log:
            log.add("a", 1), log.add("a", 2)
        with log:
            log.add("a", 3)
            assert (log["a"], log.count("a")) == (3, 3)
    assert [json.loads(line).get("row") for line in path.read_text().splitlines()] == [None, 1, 2, 3]


def test_one_writer_at_a_time(path):
    """The lock's file stays, so that no two processes hold locks on two files of one name."""
    holders, overlaps, held = set(), [], []

    def hold(name):
        for _ in range(150):
            try:
                with RowLog(path, {}):
                    holders.add(name)
                    overlaps.append(len(holders) > 1)
                    held.append(name)
                    holders.discard(name)
            except InputError as error:
                assert "Another process is writing" in str(error)

    threads = [threading.Thread(target=hold, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) > 100 and not any(overlaps)
    assert path.with_name(".log.jsonl.lock").is_file()
