"""One publication, one commit: complete or untouched, whatever happens on the way."""

import os
import re

import pytest

from tests.hub.actions import publish, publish_by_token
from tests.hub.local import ME, ME_READ_ONLY, NEWCOMER, OTHER


def large(size: int = 300_000) -> bytes:
    """Content that goes through git-lfs or Xet."""
    return b"\0" + os.urandom(size - 1)


@pytest.fixture
def name(request, hub) -> str:
    """A repository of this test."""
    return "me/" + re.sub(r"\W+", "-", request.node.name).strip("-").lower()[:80]


def head(hub, name: str) -> "dict[str, int]":
    """Size of each file of a data set, without the Hub's own."""
    return {path: file["size"] for path, file in hub.tree("datasets", name).items() if path != ".gitattributes"}


def test_files_go_up_in_one_commit_and_stale_ones_go(hub, name):
    first = hub.run(publish, name, {"data/a.bin": large(), "data/b.bin": large(), "README.md": b"# one\n"})
    assert sorted(first.added) == ["README.md", "data/a.bin", "data/b.bin"] and first.deleted == []
    assert hub.num_commits("datasets", name) == 2  # the repository's first, and ours
    kept = large()
    second = hub.run(publish, name, {"data/a.bin": kept, "README.md": b"# one\n"})
    assert (sorted(second.added), second.deleted, second.unchanged) == (["data/a.bin"], ["data/b.bin"], ["README.md"])
    assert sorted(head(hub, name)) == ["README.md", "data/a.bin"]
    again = hub.run(publish, name, {"data/a.bin": kept, "README.md": b"# one\n"})
    assert again.is_empty and again.sha == second.sha and hub.num_commits("datasets", name) == 3


def test_dry_run_makes_nothing(hub, name):
    planned = hub.run(publish, name, {"a.bin": large(1000)}, dry_run=True)
    assert planned.added == {"a.bin": 1000} and planned.sha is None
    assert hub.repo("datasets", name) is None
    assert not [entry for entry in hub.log() if entry["method"] not in ("GET", "HEAD")]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_commit_is_tried_again_while_the_hub_is_busy(hub, name, status):
    hub.fault("/commit/", method="POST", status=status, times=2, headers={"Retry-After": "0"})
    done = hub.run(publish, name, {"a.bin": large()})
    assert head(hub, name).keys() == {"a.bin"} and done.sha == hub.repo("datasets", name)["branches"]["main"]
    assert [entry["status"] for entry in hub.requests("POST", "/commit/")] == [status, status, 200]


def test_retry_after_is_honoured(hub, name):
    hub.fault("/commit/", method="POST", status=429, headers={"Retry-After": "2"})
    outcome = hub.call(publish, name, {"a.bin": b"\0small"})
    assert outcome.error is None and re.search(r"trying again in 2\.\d s", outcome.output)


@pytest.mark.parametrize("drop", [False, True])
def test_commit_whose_answer_was_lost_is_not_made_twice(hub, name, drop):
    hub.fault("/commit/", method="POST", after=True, **({"drop": True} if drop else {"status": 500}))
    done = hub.run(publish, name, {"a.bin": large()})
    assert done.sha == hub.repo("datasets", name)["branches"]["main"]
    assert hub.num_commits("datasets", name) == 2 and len(hub.requests("POST", "/commit/")) == 1


def test_lost_answer_of_a_pull_request(hub, name):
    hub.run(publish, name, {"a.bin": large()})
    hub.fault("/commit/", method="POST", after=True, drop=True)
    done = hub.run(publish, name, {"a.bin": large()}, create_pr=True)
    repo = hub.repo("datasets", name)
    assert list(repo["prs"].values()) == [done.sha] and done.pr_revision == "refs/pr/1"
    assert done.pr_url.endswith(f"/datasets/{name}/discussions/1")


def test_pull_request_leaves_the_branch_alone(hub, name):
    first = hub.run(publish, name, {"a.bin": large()})
    done = hub.run(publish, name, {"a.bin": large()}, create_pr=True, token=OTHER, user="other")
    repo = hub.repo("datasets", name)
    assert repo["branches"]["main"] == first.sha and repo["prs"] == {"1": done.sha}


def test_branch_and_tag(hub, name):
    content = {"a.bin": large()}
    first = hub.run(publish, name, content, tag="v1")
    # An interrupted run publishes again what it has published.
    assert hub.run(publish, name, content, tag="v1").sha == first.sha
    second = hub.run(publish, name, {"a.bin": large()}, branch="next")
    repo = hub.repo("datasets", name)
    assert repo["branches"] == {"main": first.sha, "next": second.sha} and repo["tags"] == {"v1": first.sha}
    again = hub.call(publish, name, {"a.bin": large()}, tag="v1")
    again.refused("has the tag 'v1' already, of other content", "Nothing was uploaded")
    hub.call(publish, name, {"a.bin": large()}, branch="bad branch").refused("no name for a branch")
    assert hub.repo("datasets", name) == repo


def test_moved_head_is_built_upon(hub, name):
    """Another push comes between reading the head and the commit: both are there in the end."""
    hub.run(publish, name, {"a/1.bin": large()}, append="first")
    hub.fault("/commit/", method="POST", status=412, body={"error": "stale"})
    hub.run(publish, name, {"b/1.bin": large()}, append="second")
    assert hub.text("datasets", name, "LOG.md") == "first\nsecond\n"
    assert {"a/1.bin", "b/1.bin", "LOG.md"} == head(hub, name).keys()
    assert len(hub.requests("POST", "/preupload/")) >= 2


def test_large_files_are_not_sent_again_for_a_moved_head(hub, name):
    hub.fault("/commit/", method="POST", status=412, times=2)
    hub.run(publish, name, {"a.bin": b"x" * 10 + large(), "b.bin": large()})
    sent = hub.requests("PUT", "/_lfs/") if hub.mode == "lfs" else hub.requests("POST", "/_cas/v1/xorbs")
    assert len(sent) <= 2


@pytest.mark.parametrize("status", [500, 503])
def test_upload_is_tried_again(hub, name, status):
    hub.fault("/_lfs/|/_cas/v1/shards", status=status, times=1)
    hub.run(publish, name, {"a.bin": large()})
    assert head(hub, name).keys() == {"a.bin"}


def test_upload_that_goes_on_failing_changes_nothing(hub, name):
    hub.run(publish, name, {"a.bin": large()})
    before = hub.repo("datasets", name)["branches"]
    hub.fault("/objects/batch|-write-token", status=403, times=50, body={"error": "quota"})
    hub.call(publish, name, {"a.bin": large(), "b.bin": large()}).refused("nothing was changed there")
    assert hub.repo("datasets", name)["branches"] == before


def test_refused_commit_changes_nothing(hub, name):
    hub.run(publish, name, {"a.bin": large()})
    before = hub.repo("datasets", name)["branches"]
    for token, user in ((OTHER, "other"), (ME_READ_ONLY, "me")):
        hub.call(publish, name, {"a.bin": large()}, token=token, user=user).refused("no right", "create_pr")
    assert hub.repo("datasets", name)["branches"] == before


def test_contributor_writes_to_their_own_repositories_only(hub):
    theirs, mine = f"acme/theirs-{hub.mode}", f"acme/mine-{hub.mode}"
    hub.run(publish, mine, {"a.bin": large()})
    hub.run(publish, theirs, {"a.bin": large()}, token=NEWCOMER, user="newcomer")
    hub.call(publish, mine, {"a.bin": large()}, token=NEWCOMER, user="newcomer").refused("create_pr")
    done = hub.run(publish, mine, {"a.bin": large()}, create_pr=True, token=NEWCOMER, user="newcomer")
    assert hub.repo("datasets", mine)["prs"] == {"1": done.sha}


def test_card_that_the_hub_refuses(hub, name):
    refused = hub.call(publish, name, {"README.md": b"---\nlicense: my-own\n---\n"})
    refused.refused("license", "the repository was made, and is empty")
    assert head(hub, name) == {}


def test_token_can_be_passed_rather_than_stored(hub, name):
    """All of it works with an explicit token, reading of a private card included."""
    hub.run(publish, name, {"a.bin": large()}, private=True, append="one")
    hub.run(publish_by_token, name, ME, {"b.bin": large()}, append="two", token=None, user="nobody")
    assert hub.text("datasets", name, "LOG.md") == "one\ntwo\n"
    hub.call(publish, name, {"b.bin": large()}, token=None, user="nobody").refused("Log in")


def test_many_shards_are_one_commit(hub, name, tmp_path):
    """More files than the clients' own pushes put into one commit."""
    files = {}
    for n in range(60):
        path = tmp_path / f"{n}.bin"
        path.write_bytes(large(1000))
        files[f"data/{n:05d}.bin"] = str(path)
    done = hub.run(publish, name, files)
    assert len(done.added) == 60 and hub.num_commits("datasets", name) == 2 and head(hub, name).keys() == files.keys()


def test_card_that_cannot_be_kept_is_not_replaced(hub, name):
    hub.run(publish, name, {"LOG.md": b"caf\xe9\n"})
    hub.call(publish, name, {"a.bin": large()}, append="more").refused("LOG.md", "not UTF-8")
    assert head(hub, name) == {"LOG.md": 5}


def test_dry_run_on_a_new_branch_compares_with_the_main_one(hub, name):
    content = large()
    hub.run(publish, name, {"a.bin": content})
    planned = hub.run(publish, name, {"a.bin": content, "b.bin": b"\0"}, branch="next", dry_run=True)
    assert (planned.unchanged, list(planned.added)) == (["a.bin"], ["b.bin"])
