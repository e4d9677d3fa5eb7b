"""Notes keep processes apart and exclude nobody."""

import subprocess
import sys

from pd_trl.scoring import shards as shards_module
from pd_trl.scoring.notes import Notes
from pd_trl.scoring.shards import ShardFolder


def test_a_note_of_a_living_process_keeps_others_away_and_one_of_a_dead_does_not(tmp_path):
    mine, theirs = Notes(tmp_path), Notes(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert mine.begin(3) and mine.attempts(3) == 1 and not mine.begin(3)
        note = mine.path(3).read_text()
        mine.path(3).write_text(note.replace(note.split()[-1], str(other.pid)))
        assert theirs.is_begun(3) and not theirs.begin(3) and theirs.attempts(3) == 1
        assert theirs.begin(3, anyway=True) and theirs.attempts(3) == 2
        mine.path(3).write_text(f"elsewhere {other.pid}\n")
        assert theirs.is_begun(3)
        mine.path(3).write_text(note.replace(note.split()[-1], str(other.pid)))
    finally:
        other.communicate(b"\n")
    assert not Notes(tmp_path).is_begun(3) and Notes(tmp_path).begin(3) and not Notes(tmp_path).is_begun(4)


def test_a_shard_begun_on_a_machine_that_is_gone_is_taken_over_at_last(tmp_path, monkeypatch):
    folder = ShardFolder(tmp_path, 3, {"data": "x"})
    folder.notes.path(1).write_text("gone 12345\n")
    found = folder.claimed(0)
    assert [next(found), next(found), next(found)] == [0, 2, None]
    monkeypatch.setattr(shards_module, "_PATIENCE", 0.0)
    assert next(found) == 1


def test_the_marker_is_that_of_the_file_that_stays(tmp_path):
    from datasets import Dataset

    ours, theirs = (ShardFolder(tmp_path, 1, {"data": "x"}) for _ in range(2))
    ours.finish(0, Dataset.from_dict({"a": [1.0]}), {})
    theirs.finish(0, Dataset.from_dict({"a": [1.5]}), {})
    assert ours.is_done(0) and ours.merged()[0]["a"][:] == [1.5] and not list(tmp_path.glob("*.begun"))
