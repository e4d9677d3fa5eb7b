"""Whatever happens on the way, a published selection is complete or untouched, and the message says which."""

import hashlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pd_trl.runs.artifacts import read_rows, write_rows
from tests.hub.local import ME_EXPIRED, ME_READ_ONLY, NEWCOMER, OTHER, TOKENS
from tests.publishing import clients
from tests.publishing.selections import scored_rows, select_into


@pytest.fixture(scope="session")
def selections(tmp_path_factory):
    """18 of 60 pairs and 30 of 60 in several shards: as unlike one another as two versions can be."""
    folder = tmp_path_factory.mktemp("selections")
    small, many = select_into(folder / "small"), select_into(folder / "many", budget=0.5)
    for part in ("selected", "dropped"):
        rows = read_rows(many / part)
        shutil.rmtree(many / part)
        write_rows(rows, many / part, rows_per_shard=10)
    return small, many


@pytest.fixture
def start(selections):
    """`start(hub, name)` makes a repository that has the smaller selection."""

    def published(hub, name: str) -> dict[str, str]:
        base = f"{name.split('/')[0]}/start"
        if hub.repo("datasets", base) is None:
            hub.run(clients.publish, selections[0], base)
        hub.copy("datasets", base, name)
        hub.reset()
        return state(hub, name)

    return published


def state(hub, name: str) -> dict[str, str]:
    """Content of each file."""
    return {path: file["sha256"] for path, file in hub.tree("datasets", name).items()}


FAULTS = {
    "429": {"status": 429, "headers": {"Retry-After": "0"}},
    "500": {"status": 500, "headers": {"Retry-After": "0"}},
    "503": {"status": 503, "headers": {"Retry-After": "0"}},
    "500-after-commit": {"status": 500, "after": True, "headers": {"Retry-After": "0"}},
    "dropped": {"drop": True},
    "dropped-after-commit": {"drop": True, "after": True},
    "412": {"status": 412},
    "409": {"status": 409},
}


# Both ways of uploading are tried where it may matter; commits are the same in both.
LFS_FIRST = pytest.mark.parametrize(
    "hub_of_session", ["lfs", pytest.param("xet", marks=pytest.mark.slow)], indirect=True
)


@LFS_FIRST
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_at_the_commit_end_complete(hub, selections, start, fault):
    name = f"me/fault-{fault}-{hub.mode}"
    start(hub, name)
    hub.fault("/commit/", method="POST", **FAULTS[fault])
    done = hub.run(clients.publish, selections[1], name)
    assert done["rows"] == {"selected": 30, "scored": 60, "dropped": 30}
    assert hub.num_commits("datasets", name) == 3
    assert sum(path.endswith(".parquet") for path in state(hub, name)) == 6


# Where the client itself tries again for long before it gives up.
LONG = [
    pytest.param(place, marks=pytest.mark.slow) for place in ("validate-yaml", "/tree/", "/preupload/", "/commit/")
]


@pytest.mark.parametrize("place", ["whoami", *LONG])
def test_a_hub_that_stays_broken_changes_nothing(plain_hub, selections, start, place):
    name = f"me/broken-{place.strip('/').replace('/', '-')}"
    before = start(plain_hub, name)
    plain_hub.fault(place, status=503, times=1000, headers={"Retry-After": "0"})
    refused = plain_hub.call(clients.publish, selections[1], name)
    assert "was published" not in refused.refused("503", "Try again later")
    assert state(plain_hub, name) == before


@pytest.mark.slow
def test_a_repository_that_cannot_be_made(plain_hub, selections):
    plain_hub.fault("/api/repos/create", status=503, times=1000, headers={"Retry-After": "0"})
    plain_hub.call(clients.publish, selections[1], "me/not-made").refused("503", "Try again later")
    assert plain_hub.repo("datasets", "me/not-made") is None


@pytest.mark.parametrize(
    "token, user, words",
    [
        (ME_EXPIRED, "expired", "expired"),
        (ME_READ_ONLY, "me", "can only read"),
        (OTHER, "other", "can only read in 'acme'"),
        (NEWCOMER, "newcomer", "cannot be written to"),
        (None, "nobody", "hf auth login"),
    ],
)
def test_who_may_not_write_is_told_before_anything_is_uploaded(plain_hub, selections, start, token, user, words):
    name = f"acme/rights-{user}-{words.split()[-1]}".replace("'", "")
    before = start(plain_hub, name)
    plain_hub.call(clients.publish, selections[1], name, token=token).refused(words)
    assert state(plain_hub, name) == before
    assert not [entry for entry in plain_hub.log() if entry["method"] not in ("GET", "HEAD")]


@pytest.mark.slow
@LFS_FIRST
@pytest.mark.multiprocess
def test_six_parallel_publishers_are_all_there(hub, tmp_path):
    """Each publishes a selection of its own into one repository at the same time: all configurations are there in the end."""
    folders = {f"b{n}": str(select_into(tmp_path / f"b{n}", budget=n * 5)) for n in range(1, 7)}
    name = f"me/parallel-{hub.mode}"
    assert hub.run(clients.parallel, folders, name, user="forks") == dict.fromkeys(folders, 0)
    found = hub.run(clients.configs, name)
    expected = [f"{part}-{variant}" for variant in folders for part in ("selected", "scored", "dropped")]
    assert sorted(found) == sorted(expected)
    for n, variant in enumerate(folders, start=1):
        ids = hub.run(clients.loaded, name, f"selected-{variant}")["pair_id"]
        assert sorted(ids) == sorted(read_rows(tmp_path / variant / "selected")["pair_id"]) and len(ids) == 5 * n
    assert hub.num_commits("datasets", name) == 2 + 5
    assert any(entry["status"] == 412 for entry in hub.requests("POST", "/commit/")), "none came in another's way"


def shards(files: dict[str, str]) -> dict[str, str]:
    return {path: sha for path, sha in files.items() if path.endswith(".parquet")}


def local_shards(folder: Path) -> dict[str, str]:
    """Content of each shard of a selection's folder, as [`state`] has it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*/*.parquet")
    }


@pytest.mark.slow
@LFS_FIRST
@pytest.mark.multiprocess
def test_killed_at_ten_random_points(hub, tmp_path):
    """A publisher killed by SIGKILL at any moment leaves the old version or the new one, and never a part of either."""
    name = f"me/killed-{hub.mode}"
    versions = [select_into(tmp_path / f"v{n}", budget=0.1 + n / 20, data_seed=100 + n) for n in range(12)]
    code, seconds = hub.run(clients.killed, versions[0], name, None, user="forks")
    assert code == 0
    generator = random.Random(7)
    outcomes = []
    for version in versions[1:11]:
        before = state(hub, name)
        code, _ = hub.run(clients.killed, version, name, generator.random() * seconds, user="forks")
        after = state(hub, name)
        outcomes.append((code == -9, after != before))
        if after != before:
            assert shards(after) == local_shards(version)
            rows = {info["config_name"]: info["splits"][0]["num_examples"] for info in info_of(hub, name)}
            assert rows["selected"] == len(read_rows(version / "selected")) and rows["scored"] == 60
    assert sum(killed for killed, _ in outcomes) >= 5, "the publisher was too quick for the kills to mean anything"
    assert any(killed and not changed for killed, changed in outcomes)
    code, _ = hub.run(clients.killed, versions[11], name, None, user="forks")
    assert code == 0 and shards(state(hub, name)) == local_shards(versions[11])
    assert len(hub.run(clients.loaded, name)["pair_id"]) == len(read_rows(versions[11] / "selected"))


def info_of(hub, name: str) -> list[dict]:
    return yaml.safe_load(hub.text("datasets", name, "README.md").split("---\n")[1])["dataset_info"]


def test_finished_shards_are_not_sent_again(hub, tmp_path):
    """What was uploaded before the commit failed is known to the Hub when the same command runs again."""
    name, folder = f"me/resumed-{hub.mode}", select_into(tmp_path / "select", data_seed=500)
    sent = "/_lfs/" if hub.mode == "lfs" else "/_cas/v1/xorbs"
    verb = "PUT" if hub.mode == "lfs" else "POST"
    hub.fault("/commit/", method="POST", status=400)
    hub.call(clients.publish, folder, name).refused("the repository was made, and is empty")
    first = len(hub.requests(verb, sent))
    hub.reset()
    hub.run(clients.publish, folder, name)
    assert first > 0 and hub.requests(verb, sent) == []


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder on a disk of its own of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk(plain_hub, start, tiny_disk, tmp_path):
    """The rows do not fit beside what is on the disk already: nothing is uploaded, and the message says why."""
    name = "me/full"
    before = start(plain_hub, name)
    scored_rows(3000).to_parquet(tmp_path / "rows.parquet")
    (tiny_disk / "filler").write_bytes(b"x" * 40_000)
    outcome = plain_hub.call(
        clients.with_temporary_files_in, str(tiny_disk), clients.publish_rows, tmp_path / "rows.parquet", name, 0.3
    )
    outcome.refused("No space left")
    assert state(plain_hub, name) == before
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"], "temporary files were left on the disk"


@pytest.mark.slow
def test_full_disk_for_the_caches(plain_hub, selections, start, tiny_disk):
    """There is no room for what is read: untouched."""
    many = selections[1]
    name = "me/full-cache"
    before = start(plain_hub, name)
    (tiny_disk / "filler").write_bytes(b"x" * 60_000)
    done = plain_hub.command(
        "publish", "dataset", "--dataset_name", many, "--repo_id", name,
        env={"HF_HUB_CACHE": str(tiny_disk / "hub"), "HF_DATASETS_CACHE": str(tiny_disk / "datasets")},
    )  # fmt: skip
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr
    assert state(plain_hub, name) == before


@LFS_FIRST
def test_no_token_is_kept_anywhere(hub, selections, tmp_path):
    """Neither in the caches of the clients, nor on the server, nor in what a command prints, all faults included."""
    small, _ = selections
    name = f"me/tokens-{hub.mode}"
    hub.fault("/commit/", method="POST", status=503, headers={"Retry-After": "0"})
    done = hub.command("publish", "dataset", "--dataset_name", small, "--repo_id", name, "--tag", "v1")
    assert done.returncode == 0, done.stderr
    assert "published" in done.stdout and "tag v1" in done.stdout
    assert clients.holding(str(hub.home), TOKENS) == [] == clients.holding(str(hub.root), TOKENS)
    assert clients.holding(str(small), TOKENS) == []
