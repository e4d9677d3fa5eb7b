import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
from datasets import Dataset

from pd_trl.errors import InputError
from pd_trl.runs.artifacts import Manifest, read_rows, write_rows
from pd_trl.runs.folders import beside, folder_lock, put_back, replaced_folder, swap
from pd_trl.runs.row_log import RowLog
from pd_trl.runs.stage_folders import StageResult, check_folder, held_folder, owned_folder, skip_if_done

FORK = multiprocessing.get_context("fork")


def in_another(work, *arguments):
    """The exit code of `work` in another process: 2 for a refusal."""

    def run():
        try:
            work(*arguments)
        except InputError:
            os._exit(2)

    process = FORK.Process(target=run)
    process.start()
    process.join(30)
    return process.exitcode


def take(folder):
    with folder_lock(folder):
        pass


def test_a_folder_is_held_by_one_command_and_free_within(tmp_path):
    folder = tmp_path / "out"
    with folder_lock(folder), folder_lock(folder):
        assert in_another(take, folder) == 2
        assert in_another(take, tmp_path / "x" / ".." / "out") == 2, "by whatever path"
        (tmp_path / "link").symlink_to(folder)
        assert in_another(take, tmp_path / "link") == 2
        assert in_another(take, tmp_path / "other") == 0
    assert in_another(take, folder) == 0
    assert (tmp_path / ".out.lock").is_file(), "an unlinked lock keeps nobody out"


def test_the_lock_of_a_row_log_stays(tmp_path):
    for _ in range(2):
        with RowLog(tmp_path / "rows.jsonl", {}) as log:
            log.add("a", 1)
        assert (tmp_path / ".rows.jsonl.lock").is_file()


def fill(folder, value, hold=0.0):
    with replaced_folder(folder) as new:
        for name in "ab":
            (new / name).write_text(str(value))
            time.sleep(hold)


def test_replacing_at_once_leaves_one_whole_result(tmp_path):
    processes = [FORK.Process(target=fill, args=(tmp_path / "out", i, 0.01)) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    texts = {(tmp_path / "out" / name).read_text() for name in "ab"}
    assert len(texts) == 1 and sorted(p.name for p in tmp_path.iterdir()) == [".out.lock", "out"]


def test_an_error_leaves_the_old_content(tmp_path):
    fill(tmp_path / "out", 1)
    with pytest.raises(ZeroDivisionError), replaced_folder(tmp_path / "out") as new:
        (new / "a").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "out" / "a").read_text() == "1" and not list(tmp_path.glob(".out.tmp*"))


def killed_at(step, work, *arguments):
    """The exit code of `work` in a process that is killed before its rename or removal of that number; 0 where it ends before."""

    def run():
        taken = []

        def counted(call):
            def counting(*arguments, **options):
                taken.append(1)
                if len(taken) > step:
                    os._exit(9)
                return call(*arguments, **options)

            return counting

        os.replace, shutil.rmtree = counted(os.replace), counted(shutil.rmtree)
        work(*arguments)

    return in_another(run)


@pytest.mark.parametrize("stays", [False, True], ids=["renamed", "mount point"])
def test_a_kill_at_any_point_of_the_swap_leaves_the_old_or_the_new(tmp_path, monkeypatch, stays):
    """And kills at all points of the recovery."""
    monkeypatch.setattr("pd_trl.runs.folders._stays", lambda place: stays and place.name == "out")
    found, step, code = [], 0, 9
    while code:
        out = tmp_path / str(step) / "out"
        fill(out, "old")
        for name in ("c", "manifest.json"):
            (out / name).write_text("old")
        code = killed_at(step, fill, out, "new")
        other = 0
        while killed_at(other, take, out):
            other += 1
        put_back(out)
        found.append({path.read_text() for path in out.glob("[a-z]*")})
        assert len(found[-1]) == 1 and (out / "c").exists() == (found[-1] == {"old"})
        take(out)
        assert {path.name for path in [*out.parent.iterdir(), *out.iterdir()]} - {"out", "a", "b", "c"} <= {
            ".out.lock",
            ".pd_trl_lock",
            "manifest.json",
        }
        step += 1
    assert found[0] == {"old"} and found[-1] == {"new"} and found == sorted(found, key=lambda texts: texts == {"new"})


def test_an_error_in_the_middle_of_a_swap_in_place_brings_the_old_content_back(tmp_path, monkeypatch):
    fill(tmp_path / "out", "old")
    monkeypatch.setattr("pd_trl.runs.folders._stays", lambda place: place.name == "out")
    replace = os.replace

    def refused(source, target):
        if Path(target).name == "new":
            raise PermissionError
        replace(source, target)

    with pytest.raises(PermissionError), monkeypatch.context() as patched:
        patched.setattr("os.replace", refused)
        fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".pd_trl_lock", "a", "b"]


@pytest.mark.parametrize("stays", [False, True], ids=["renamed", "mount point"])
def test_other_runs_keep_their_unfinished_work_when_a_result_is_put_in_place(tmp_path, monkeypatch, stays):
    monkeypatch.setattr("pd_trl.runs.folders._stays", lambda place: stays and place.name == "out")
    fill(tmp_path / "out", "old")
    (beside(tmp_path / "out", "new.0123456789ab") / "work").write_text("hours")
    fill(tmp_path / "out", "new")
    assert (beside(tmp_path / "out", "new.0123456789ab") / "work").read_text() == "hours"


@pytest.mark.parametrize("wanted", ["old", "new"])
def test_a_kill_between_the_renames_of_a_shared_folder_loses_neither_result(tmp_path, wanted):
    folder = tmp_path / "out"
    manifests = {name: Manifest("s", arguments={"a": name}) for name in ("old", "new")}
    with shared_folder(manifests["old"], folder) as root:
        finish(manifests["old"], root, "old")
    with pytest.raises(ZeroDivisionError), shared_folder(manifests["new"], folder) as root:
        finish(manifests["new"], root, "new")
        raise ZeroDivisionError
    os.replace(folder, tmp_path / ".out.old.deadbeef")
    if wanted == "old":
        assert skip_if_done(manifests["old"], folder, overwrite=False).skipped
    else:
        with shared_folder(manifests["new"], folder) as root:
            assert manifests["new"].is_done_in(root), "what was finished is not done again"
    assert manifests[wanted].is_done_in(folder) and (folder / "result").read_text() == wanted


def test_a_kill_between_the_renames_is_seen_before_the_folder_is_made(tmp_path):
    folder = tmp_path / "out"
    with shared_folder(Manifest("s"), folder) as root:
        finish(Manifest("s"), root, "old")
    os.replace(folder, tmp_path / ".out.old.deadbeef")
    with shared_folder(Manifest("s", arguments={"a": 1}), folder, overwrite=True) as root:
        assert root != folder and (folder / "result").read_text() == "old"


def test_a_folder_that_cannot_be_renamed_is_filled_in_place(tmp_path, monkeypatch):
    fill(tmp_path / "out", "old")
    (tmp_path / "out" / "c").write_text("only in the old one")
    monkeypatch.setattr("pd_trl.runs.folders._stays", lambda place: place.name == "out")
    inode = (tmp_path / "out").stat().st_ino
    fill(tmp_path / "out", "new")
    assert (tmp_path / "out").stat().st_ino == inode
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".pd_trl_lock", "a", "b"]


def grow(manifest, folder, value, error=None):
    with owned_folder(manifest, folder, overwrite=True) as root:
        assert root.name == folder.name
        (root / "checkpoint").write_text(value)
        if error:
            raise error
        (root / "result").write_text(value)
        manifest.save(root)


def test_what_grows_is_built_beside_the_old_result_and_goes_on_there(tmp_path):
    folder, old, new = tmp_path / "out", Manifest("s", arguments={"a": 1}), Manifest("s", arguments={"a": 2})
    grow(old, folder, "old")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            grow(new, folder, "new", ZeroDivisionError())
        assert old.is_done_in(folder) and (folder / "result").read_text() == "old"
    with owned_folder(new, folder, overwrite=True) as root:
        assert (root / "checkpoint").read_text() == "new"
    with pytest.raises(ZeroDivisionError):
        grow(Manifest("s", arguments={"a": 3}), folder, "third", ZeroDivisionError())
    grow(new, folder, "new")
    assert new.is_done_in(folder) and (folder / "result").read_text() == "new"
    with owned_folder(old, folder, overwrite=True) as root:
        assert not (root / "checkpoint").exists()
    assert len(list(tmp_path.glob(".out.new.*"))) == 1, "those of given up runs are removed"


def test_a_swap_takes_the_marks_of_the_old_folder_with_it(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "error.log").write_text("old")
    new = beside(folder, "new.1")
    (new / "x").touch()
    swap(new, folder)
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_an_unfinished_run_of_other_settings_is_not_taken_for_ones_own(tmp_path):
    one, other = Manifest("s", arguments={"a": 1}), Manifest("s", arguments={"a": 2})
    for manifest in (one, other):
        with owned_folder(manifest, tmp_path / "out", overwrite=False) as root:
            (root / "checkpoint").touch()
    with owned_folder(other, tmp_path / "out", overwrite=True) as root:
        assert root != tmp_path / "out" and not (root / "checkpoint").exists()


def finish(manifest, root, value):
    (root / "result").write_text(value)
    manifest.save(root)


def shared_folder(manifest, folder, overwrite=True):
    return owned_folder(manifest, folder, overwrite, exclusive=False)


def test_runs_that_share_no_settings_leave_one_whole_result(tmp_path):
    folder = tmp_path / "out"
    first, one, two = (Manifest("s", arguments={"a": a}) for a in range(3))
    with shared_folder(first, folder) as root:
        finish(first, root, "first")
    with shared_folder(one, folder) as here, shared_folder(two, folder) as there:
        assert len({folder, here, there}) == 3
        (here / "shard").write_text("one")
        (there / "shard").write_text("two")
        finish(two, there, "two")
        finish(one, here, "one")
    # The inner block ended first: its result was there, whole, until the outer one's took its place.
    assert one.is_done_in(folder) and {(folder / n).read_text() for n in ("shard", "result")} == {"one"}
    assert [path.name for path in tmp_path.iterdir() if path.name != ".out.lock"] == ["out"]


def test_what_a_killed_overwrite_left_is_removed_by_the_next_one_only(tmp_path, caplog):
    folder = tmp_path / "out"
    first, killed, other = (Manifest("s", arguments={"a": a}) for a in range(3))
    with shared_folder(first, folder) as root:
        finish(first, root, "first")
    with pytest.raises(ZeroDivisionError), shared_folder(killed, folder) as root:
        (root / "shard").touch()
        raise ZeroDivisionError
    (tmp_path / f".out.work.{killed.key[:12]}.0.99.dead").touch()  # as a kill leaves it
    assert skip_if_done(first, folder, overwrite=False).skipped
    assert "holds an unfinished result that was to replace" in caplog.text
    with shared_folder(killed, folder) as root:
        assert (root / "shard").exists(), "the same run goes on"
    with shared_folder(other, folder) as root:
        assert [path.name for path in tmp_path.glob(".out.new.*")] == [root.parent.name]
        finish(other, root, "other")
    assert other.is_done_in(folder) and not list(tmp_path.glob(".out.[nw]*"))


def test_a_run_is_not_replaced_while_it_writes(tmp_path):
    folder = tmp_path / "out"
    one, two = (Manifest("s", arguments={"a": a}) for a in range(2))
    with shared_folder(one, folder) as root, shared_folder(one, folder, overwrite=False) as again:
        assert root == again == folder
        (root / "shard").touch()
        with pytest.raises(InputError, match="Another command is writing"), shared_folder(two, folder):
            pass
    # It ended unfinished, and goes on while the other run is nearly done.
    with pytest.raises(InputError, match="This result stays in"), shared_folder(two, folder) as root:
        with shared_folder(one, folder, overwrite=False) as here:
            finish(two, root, "two")
            shared = shared_folder(one, folder, overwrite=False)
            shared.__enter__()
        assert here == folder
    shared.__exit__(None, None, None)
    with shared_folder(two, folder) as root:
        assert (root / "result").read_text() == "two"
    assert two.is_done_in(folder)


def test_what_a_killed_command_was_writing_is_removed_by_the_next_that_has_nothing_to_do(tmp_path):
    folder, manifest = tmp_path / "out", Manifest("s")
    with owned_folder(manifest, folder, overwrite=False) as root:
        finish(manifest, root, "whole")
    half = beside(folder, "tmp.1.deadbeef")
    (half / "x").touch()
    assert skip_if_done(manifest, folder, overwrite=False, hold=False).skipped
    assert not half.exists() and manifest.is_done_in(folder)


def test_a_stage_holds_its_folder_from_its_first_look_to_its_end(tmp_path):
    class Arguments:
        output_dir = str(tmp_path / "out")

    @held_folder
    def stage(arguments):
        assert in_another(take, arguments.output_dir) == 0
        skip_if_done(Manifest("s"), arguments.output_dir, False)
        assert in_another(take, arguments.output_dir) == 2
        return StageResult("s", arguments.output_dir)

    stage(Arguments())
    assert in_another(take, tmp_path / "out") == 0


def test_the_home_of_the_user_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    class Arguments:
        output_dir = "~/out"

    given = Arguments()
    assert held_folder(lambda arguments: StageResult("s", arguments.output_dir))(given).folder == str(tmp_path / "out")
    assert given.output_dir == "~/out"


@pytest.mark.multiprocess
@pytest.mark.parametrize("late", [0, 1])
def test_processes_of_a_launch_agree_on_the_folder_and_leave_it_together(tmp_path, late):
    """An old launch's marker, with the same port, lets nobody pass."""
    from tests.processes import free_port
    from tests.runs.launched import rank

    folder, manifest = tmp_path / "out", Manifest("s", arguments={"a": 2})
    grow(Manifest("s", arguments={"a": 1}), folder, "old")
    (folder / "stale").touch()
    spawn = multiprocessing.get_context("spawn")
    seen, port = spawn.SimpleQueue(), free_port()
    ranks = [
        spawn.Process(target=rank, args=(n, 2, port, folder, manifest, seen, 2.0 * (n == late))) for n in range(2)
    ]
    for process in ranks:
        process.start()
    places = {seen.get() for _ in ranks}
    for process in ranks:
        process.join(60)
    assert {(where, stale) for _, where, stale in places} == {(next(iter(places))[1], False)} and len(places) == 2
    assert manifest.is_done_in(folder) and not (folder / "stale").exists()


def test_a_process_without_a_first_one_does_not_pass(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    (tmp_path / ".pd_trl_stage").write_text("s\n127.0.0.1 29500 none\n")
    with pytest.raises(InputError, match="first process of this launch"), owned_folder("s", tmp_path, overwrite=True):
        pytest.fail("passed")


@pytest.fixture
def result(tmp_path):
    write_rows(
        Dataset.from_dict({"x": [f"text {i}" for i in range(50)]}), tmp_path / "r" / "scored", rows_per_shard=20
    )
    (tmp_path / "r" / "README.md").write_text("card")
    Manifest("score").save(tmp_path / "r")
    return tmp_path / "r"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "flipped bit": flip,
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "other rows": lambda path: Dataset.from_dict({"x": ["y"]}).to_parquet(path),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_when_a_stage_is_skipped_and_when_its_result_is_read(result, damage):
    DAMAGES[damage](result / "scored" / "train-00001-of-00003.parquet")
    with pytest.raises(InputError, match="train-00001-of-00003.parquet is (damaged|missing).*'score'.*--overwrite"):
        skip_if_done(Manifest("score"), result, overwrite=False)
    with pytest.raises(InputError, match="train-00001-of-00003.parquet is damaged|holds 2 of 3"):
        read_rows(result / "scored")
    assert skip_if_done(Manifest("score"), result, overwrite=True) is None


def test_what_is_written_after_a_result_and_older_manifests_are_no_damage(result):
    (result / "README.md").write_text("another card")
    (result / "error.log").write_text("x")
    assert skip_if_done(Manifest("score"), result, overwrite=False).skipped
    flip(result / "scored" / "train-00001-of-00003.parquet")
    content = (result / "manifest.json").read_text()
    (result / "manifest.json").write_text(content[: content.index(',\n  "files"')] + "\n}\n")
    assert skip_if_done(Manifest("score"), result, overwrite=False).skipped


@pytest.mark.parametrize("other", ["out.old", "out.tmp", "out.new", "out.tmp.1", "out.old.new"])
def test_a_folder_whose_name_begins_alike_keeps_its_lock_and_its_unfinished_work(tmp_path, other):
    with folder_lock(tmp_path / other):
        beside_it = beside(tmp_path / other, "new.0123456789ab")
        (beside_it / "work").write_text("hours")
        with folder_lock(tmp_path / "out"):
            assert not (tmp_path / "out").exists(), "nothing of another folder takes its place"
            beside(tmp_path / "out", "new.ba9876543210", alone=True)
        assert (beside_it / "work").read_text() == "hours"
        assert in_another(take, tmp_path / other) == 2


@pytest.mark.parametrize(
    "name", ["out/rows.parquet", "x/../out/rows.parquet", "link/rows.parquet", "link", "out/to_others"]
)
def test_an_input_in_the_folder_is_seen_by_whatever_path(tmp_path, name):
    for folder in ("out", "x", "others"):
        (tmp_path / folder).mkdir()
    (tmp_path / "out" / "rows.parquet").write_text("rows")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "to_others").symlink_to(tmp_path / "others")
    with pytest.raises(InputError, match="holds the input"):
        check_folder("select", tmp_path / "out", [str(tmp_path / name)])
