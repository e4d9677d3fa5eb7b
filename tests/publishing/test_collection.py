"""Collections that link what was made of what."""

import pytest

from pd_trl.errors import InputError
from pd_trl.publishing.collection import Item, collection_items, publish_collection
from tests.hub.actions import publish as publish_files
from tests.hub.local import ME_READ_ONLY, OTHER

TITLE = "UltraFeedback by PD"


def publish(title, items, **options):
    done = publish_collection(title, items, **options)
    return {"slug": done.slug, "text": str(done), "added": [item.id for item in done.added],
            "changed": [item.id for item in done.changed], "unchanged": [item.id for item in done.unchanged]}  # fmt: skip


def entries(slug: str) -> list[tuple[str, str, str | None]]:
    from huggingface_hub import HfApi

    return [(item.item_type, item.item_id, item.note) for item in HfApi().get_collection(slug).items]


@pytest.fixture
def published(plain_hub):
    """A Hub with a source, a data set, a report, two reward models and a policy."""
    if plain_hub.repo("datasets", "me/source") is None:
        for name, kind in (("source", "dataset"), ("scored", "dataset"), ("rm-honesty", "model"), ("rm-help", "model"),
                           ("policy", "model")):  # fmt: skip
            plain_hub.run(publish_files, f"me/{name}", {"a.txt": b"a"}, repo_type=kind)
        plain_hub.run(publish_files, "me/page", {"index.html": b"<html>"}, repo_type="space", space_sdk="static")
        plain_hub.reset()
    return plain_hub


def all_items() -> list[Item]:
    return collection_items(
        source="me/source", dataset="me/scored", report="me/page", models=["me/policy"],
        reward_models={"honesty": "me/rm-honesty", "helpfulness": "me/rm-help"},
    )  # fmt: skip


def test_all_is_linked_in_order(published):
    done = published.run(publish, TITLE, all_items())
    found = published.run(entries, done["slug"])
    assert [(kind, name) for kind, name, _ in found] == [
        ("paper", "2508.07638"), ("dataset", "me/source"), ("dataset", "me/scored"), ("space", "me/page"),
        ("model", "me/rm-honesty"), ("model", "me/rm-help"), ("model", "me/policy"),
    ]  # fmt: skip
    assert "aspect 'honesty'" in found[4][2]
    again = published.run(publish, TITLE, all_items())
    assert again["slug"] == done["slug"] and again["added"] == again["changed"] == [] and len(again["unchanged"]) == 7


def test_entries_of_a_user_stay_and_notes_follow(published):
    slug = published.run(publish, "Mine", [Item("me/policy", "model", "my words")])["slug"]
    done = published.run(publish, "Mine", [Item("me/scored", "dataset", "one")])
    assert done["slug"] == slug and done["added"] == ["me/scored"]
    published.run(publish, "Mine", [Item("me/scored", "dataset", "two")])
    assert published.run(entries, slug) == [("model", "me/policy", "my words"), ("dataset", "me/scored", "two")]


def test_lost_answers_make_no_second_collection(published):
    published.fault("/api/collections$", method="POST", after=True, drop=True)
    published.fault("/items?$", method="POST", after=True, status=500, headers={"Retry-After": "0"})
    slug = published.run(publish, "Lost", all_items())["slug"]
    assert len(published.run(entries, slug)) == 7
    created = [e for e in published.requests("POST", "/api/collections") if e["path"] == "/api/collections"]
    assert len(created) == 1


def test_what_is_missing_is_said_before_anything_is_made(published):
    items = [*all_items(), Item("me/absent", "model")]
    published.call(publish, "Incomplete", items).refused("no model me/absent", "Publish it first")
    assert not published.requests("POST", "/api/collections")


def test_dry_run_and_rights(published):
    done = published.run(publish, "Dry", all_items(), dry_run=True)
    assert "a new one" in done["text"] and "+ model me/policy" in done["text"]
    published.call(publish, "Dry", all_items(), token=ME_READ_ONLY).refused("can only read")
    published.call(publish, "Dry", all_items(), namespace="acme", token=OTHER, user="other").refused(
        "only read in 'acme'"
    )
    assert not published.requests("POST", "/api/collections")
    assert published.run(publish, "Ours", all_items(), namespace="acme")["slug"].startswith("acme/")


@pytest.mark.parametrize("title, description", [("", None), ("x" * 61, None), ("x", "y" * 151)])
def test_texts_that_are_too_long(title, description):
    with pytest.raises(InputError, match="1 to 60 characters"):
        publish_collection(title, [], description=description)
