"""What would be refused at the end is refused at the start, with what to do."""

from types import SimpleNamespace

import pytest

from pd_trl.hub import check_access, check_card, check_training_push
from tests.hub.actions import publish
from tests.hub.local import ME_EXPIRED, ME_FINE_GRAINED, ME_READ_ONLY, NEWCOMER, OTHER


def access(*arguments, **options):
    found = check_access(*arguments, **options)
    return found.repo_id, found.exists, found.private


def training_push(**settings):
    arguments = {"push_to_hub": True, "hub_model_id": None, "hub_private_repo": None, "hub_token": None}
    found = check_training_push(SimpleNamespace(output_dir="runs/policy", **{**arguments, **settings}))
    return found and found.repo_id


@pytest.fixture(autouse=True)
def nothing_is_written(plain_hub):
    """A check changes nothing on the Hub: but for what a test publishes itself, there are only questions."""
    yield
    asked = {"/api/validate-yaml"}
    written = [e for e in plain_hub.log() if e["method"] not in ("GET", "HEAD") and e["path"] not in asked]
    published = plain_hub.requests("POST", "/commit/")
    assert bool(written) == bool(published), written


def test_a_name_without_namespace_is_the_users(plain_hub):
    assert plain_hub.run(access, "new-data", "dataset") == ("me/new-data", False, None)


def test_what_is_there(plain_hub):
    plain_hub.run(publish, "me/there", {"a.bin": b"\0"}, private=True)
    assert plain_hub.run(access, "me/there", "dataset") == ("me/there", True, True)
    assert plain_hub.run(access, "me/there", "dataset", private=True) == ("me/there", True, True)


@pytest.mark.parametrize(
    "token, words",
    [
        (None, ("no token", "hf auth login")),
        (ME_EXPIRED, ("not valid, or has expired", "expired")),
        (ME_READ_ONLY, ("can only read", "write access")),
        (ME_FINE_GRAINED, ("fine-grained", "repo.write")),
    ],
)
def test_tokens_that_cannot_write(plain_hub, token, words):
    plain_hub.call(access, "me/other-data", "dataset", token=token).refused(*words)


def test_fine_grained_token_for_one_repository(plain_hub):
    assert plain_hub.run(access, "me/allowed", "dataset", token=ME_FINE_GRAINED)[0] == "me/allowed"
    plain_hub.call(access, "me/allowed", "model", token=ME_FINE_GRAINED).refused("fine-grained")


@pytest.mark.parametrize(
    "repo_id, token, words",
    [
        ("acme/data", OTHER, ("can only read in 'acme'",)),
        ("closed/data", NEWCOMER, ("not a member of 'closed'",)),
        ("other/data", NEWCOMER, ("not a member of 'other'", "your own name")),
        ("me/da--ta", NEWCOMER, ("no name for a repository",)),
        ("me/a/b", NEWCOMER, ("no name for a repository",)),
        ("-data", NEWCOMER, ("no name for a repository",)),
    ],
)
def test_places_that_cannot_be_written_to(plain_hub, repo_id, token, words):
    plain_hub.call(access, repo_id, "dataset", token=token, user="newcomer").refused(*words)


def test_organizations_of_the_user(plain_hub):
    assert plain_hub.run(access, "acme/new", "dataset") == ("acme/new", False, None)
    assert plain_hub.run(access, "acme/new", "dataset", token=NEWCOMER, user="newcomer")[1] is False


def test_repository_of_others_in_an_organization(plain_hub):
    plain_hub.run(publish, "acme/of-me", {"a.bin": b"\0"})
    refused = plain_hub.call(access, "acme/of-me", "dataset", token=NEWCOMER, user="newcomer")
    refused.refused("cannot be written to", "create_pr")
    assert plain_hub.run(access, "acme/of-me", "dataset", create_pr=True, token=NEWCOMER, user="newcomer")[1]


def test_visibility_must_agree(plain_hub):
    plain_hub.run(publish, "me/public", {"a.bin": b"\0"})
    plain_hub.call(access, "me/public", "dataset", private=True).refused(
        "is public", "asked to be private", "settings"
    )
    plain_hub.run(publish, "enterprise/data", {"a.bin": b"\0"})
    plain_hub.call(access, "enterprise/data", "dataset", private=False).refused("is private", "asked to be public")


def test_pull_request_needs_a_repository(plain_hub):
    plain_hub.call(access, "me/absent", "dataset", create_pr=True).refused("no dataset me/absent", "pull request")


def test_tag_in_use(plain_hub):
    plain_hub.run(publish, "me/tagged", {"a.bin": b"\0"}, tag="v1")
    # What an interrupted run has published may stay; before a run that has published nothing, the tag is in use.
    assert plain_hub.run(access, "me/tagged", "dataset", tag="v1")[1]
    plain_hub.call(access, "me/tagged", "dataset", tag="v1", resumes=False).refused("tag 'v1' already")
    plain_hub.run(publish, "me/tagged", {"a.bin": b"\0\0"})
    plain_hub.call(access, "me/tagged", "dataset", tag="v1").refused("tag 'v1' already")
    for name in ("me/tagged", "me/of-tomorrow"):
        plain_hub.call(access, name, "dataset", tag="v 2").refused("no name for a tag")
        plain_hub.call(access, name, "dataset", branch="a..b").refused("no name for a branch")
    plain_hub.call(access, "me/tagged", "dataset", tag="v2", create_pr=True).refused(
        "cannot be given to a pull request"
    )
    assert plain_hub.run(access, "me/tagged", "dataset", tag="v2")[1]


@pytest.mark.parametrize("repo_type", ["dataset", "model", "space"])
def test_card_is_validated_by_the_hub(plain_hub, repo_type):
    sdk = "sdk: static\n" if repo_type == "space" else ""
    plain_hub.run(check_card, f"---\nlicense: mit\n{sdk}---\n", repo_type, f"{repo_type} me/x")
    outcome = plain_hub.call(check_card, f"---\nlicense: my-own\n{sdk}---\n", repo_type, f"{repo_type} me/x")
    outcome.refused("refuses the metadata of the card", "my-own", "Nothing was uploaded")
    plain_hub.call(check_card, "---\nlicense: [\n---\n", repo_type, "x").refused("refuses the metadata")


def test_busy_hub_is_asked_again(plain_hub):
    plain_hub.fault("/api/whoami-v2", status=429, headers={"Retry-After": "0"})
    plain_hub.fault("/api/datasets/me/busy", status=503, headers={"Retry-After": "0"})
    plain_hub.fault("/api/validate-yaml", status=500, headers={"Retry-After": "0"})
    assert plain_hub.run(access, "me/busy", "dataset")[0] == "me/busy"
    plain_hub.run(check_card, "---\nlicense: mit\n---\n", "dataset", "dataset me/busy")


def test_trainers_that_push(plain_hub):
    assert plain_hub.run(training_push, push_to_hub=False) is None
    assert plain_hub.run(training_push) == "me/policy"
    plain_hub.call(training_push, hub_model_id="acme/policy", token=OTHER, user="other").refused("acme")
