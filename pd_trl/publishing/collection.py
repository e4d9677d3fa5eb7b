"""[`publish_collection`]: a collection with the source, the selection, the report and the models of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from huggingface_hub import HfApi

from ..errors import InputError
from ..hub import HubError, HubUnreachableError, check_namespace, hub_api, read_info, retried

PAPER = "2508.07638"
LONGEST_TITLE, LONGEST_DESCRIPTION, LONGEST_NOTE = 60, 150, 500


@dataclass(frozen=True)
class Item:
    """
    An entry of a collection.

    Args:
        id (`str`): Hub id, or number of a paper on arXiv.
        type (`str`): `"dataset"`, `"model"`, `"space"` or `"paper"`.
        note (`str`, *optional*): What it is.
    """

    id: str
    type: str
    note: str | None = None


@dataclass
class CollectionResult:
    """
    A collection that was made or completed. Printed, it says what changed.

    Args:
        url (`str`): Its page; empty if a dry run would make it.
        slug (`str`): Its id; likewise.
        title (`str`): Its title.
        added, changed, unchanged (`list` of [`Item`]): Its entries.
        dry_run (`bool`): Whether nothing was done.
        unasked (`str`, *optional*): Why a dry run did not ask the Hub: then all entries count as added.
    """

    url: str
    slug: str
    title: str
    added: list[Item] = field(default_factory=list)
    changed: list[Item] = field(default_factory=list)
    unchanged: list[Item] = field(default_factory=list)
    dry_run: bool = False
    unasked: str | None = None

    def __str__(self) -> str:
        state = "would change" if self.dry_run else "published"
        head = f"[collection {self.title!r}{' (dry run)' if self.dry_run else ''}] {state}: {self.url or 'a new one'}"
        entries = (("+", self.added), ("~", self.changed), ("=", self.unchanged))
        lines = [head, *(f"{sign} {item.type} {item.id}" for sign, items in entries for item in items)]
        return "\n".join([*lines, f"The Hub was not asked: {self.unasked}"] if self.unasked else lines)


def collection_items(
    *,
    source: str | None = None,
    dataset: str | None = None,
    report: str | None = None,
    reward_models: Mapping[str, str] | None = None,
    models: Sequence[str] = (),
) -> list[Item]:
    """
    The entries of a whole run, in the order in which they were made.

    Args:
        source (`str`, *optional*): Hub id of the data set that the pairs came from.
        dataset (`str`, *optional*): Hub id of the scored data set.
        report (`str`, *optional*): Hub id of the report's Space.
        reward_models (`dict`, *optional*): Hub id of each aspect's proxy reward model.
        models (sequence of `str`): Hub ids of the aligned models.
    """
    items = [Item(PAPER, "paper", "The method: Preference Divergence.")]
    if source:
        items.append(Item(source, "dataset", "The source of the preference pairs."))
    if dataset:
        items.append(Item(dataset, "dataset", "The pairs with their scores, and which of them were kept."))
    if report:
        items.append(Item(report, "space", "What was kept and dropped, and why."))
    items += [
        Item(name, "model", f"The proxy reward model of the aspect '{aspect}'.")
        for aspect, name in (reward_models or {}).items()
    ]
    return [*items, *(Item(name, "model", "A model aligned on the kept pairs.") for name in models)]


def publish_collection(
    title: str,
    items: Sequence[Item],
    *,
    namespace: str | None = None,
    description: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
) -> CollectionResult:
    """
    Makes a collection, or completes the one with this title. Missing entries are added, our notes are updated, and all
    other entries stay.

    Args:
        title (`str`): Its title, of at most 60 characters.
        items (sequence of [`Item`]): Its entries, see [`collection_items`].
        namespace (`str`, *optional*): User or organization. `None` is the token's user.
        description (`str`, *optional*): What it is about, in at most 150 characters.
        private (`bool`, *optional*, defaults to `False`): Whether the collection is private. An existing one must be private already.
        dry_run (`bool`, *optional*, defaults to `False`): Return what would change, and change nothing.
        token (`str`, *optional*): Token; the one of `hf auth login` or HF_TOKEN where unset.

    Raises:
        HubError: If the Hub refuses it, or an entry does not exist. All entries are looked up first.
        InputError: When a text is too long.
    """
    if not 0 < len(title) <= LONGEST_TITLE or len(description or "") > LONGEST_DESCRIPTION:
        raise InputError(
            f"The title of a collection has 1 to {LONGEST_TITLE} characters and its description at most "
            f"{LONGEST_DESCRIPTION}, got {len(title)} and {len(description or '')}."
        )
    if dry_run:
        return planned_collection(title, items, namespace=namespace, private=private, token=token)
    owner = check_namespace(namespace, f"collection {title!r}", token=token)
    api = hub_api(token)
    _check_items(title, items, token)
    found = check_collection(title, owner, private, token=token)
    result = difference(found, title, items, dry_run)
    if found is None:
        found = _create(api, title, owner, description, private)
        result.slug, result.url = found.slug, found.url
    what = f"Adding to the collection {found.slug}"
    for item in result.added:
        retried(lambda item=item: _add(api, found.slug, item), f"{what}: {item.type} {item.id}")  # type: ignore[misc]
    ids = {(entry.item_type, entry.item_id): entry.item_object_id for entry in found.items}
    for item in result.changed:
        number = ids[item.type, item.id]
        retried(lambda n=number, i=item: api.update_collection_item(found.slug, n, note=i.note), what)  # type: ignore[misc]
    return result


def planned_collection(
    title: str,
    items: Sequence[Item],
    *,
    namespace: str | None,
    private: bool,
    check: bool = True,
    token: str | None = None,
) -> CollectionResult:
    """
    What [`publish_collection`] would change; without a token or a connection, a new collection.

    Args:
        title (`str`), items (sequence of [`Item`]), namespace (`str`, *optional*), private (`bool`), token (`str`, *optional*): As there.
        check (`bool`, *optional*, defaults to `True`): Whether all entries must exist already.
    """
    try:
        owner = check_namespace(namespace, f"collection {title!r}", token=token)
        if check:
            _check_items(title, items, token)
        return difference(check_collection(title, owner, private, token=token), title, items, dry_run=True)
    except HubUnreachableError as error:
        result = difference(None, title, items, dry_run=True)
        result.unasked = str(error)
        return result


def _check_items(title: str, items: Sequence[Item], token: str | None) -> None:
    for item in items:
        if item.type != "paper" and read_info(item.id, item.type, token=token) is None:
            raise HubError(
                f"There is no {item.type} {item.id} to put into the collection {title!r}. Publish it first."
            )


def check_collection(title: str, owner: str, private: bool, *, token: str | None = None) -> Any:
    """The collection of this title, or `None`. Raises `HubError` if it is public but should be private."""
    found = _find(hub_api(token), owner, title)
    if found is not None and private and not found.private:
        raise HubError(
            f"The collection {title!r} is public, but `private` was asked for. Change its visibility on the Hub, "
            "leave `private` out, or choose another title. Nothing was changed."
        )
    return found


def _add(api: HfApi, slug: str, item: Item) -> Any:
    note = item.note[:LONGEST_NOTE] if item.note else None
    return api.add_collection_item(slug, item.id, item.type, note=note, exists_ok=True)  # type: ignore[arg-type]


def _find(api: HfApi, owner: str, title: str) -> Any:
    """The oldest collection of this title, with all its entries (a listing has only a few)."""
    listed = retried(lambda: list(api.list_collections(owner=owner)), f"Looking for the collections of {owner}")
    slugs = [entry.slug for entry in listed if entry.title == title]
    return retried(lambda: api.get_collection(slugs[0]), f"Reading the collection {slugs[0]}") if slugs else None


def _create(api: HfApi, title: str, owner: str, description: str | None, private: bool) -> Any:
    def create() -> Any:
        # An earlier try whose answer was lost may have made it.
        return _find(api, owner, title) or api.create_collection(
            title, namespace=owner, description=description, private=private, exists_ok=True
        )

    return retried(create, f"Making the collection {title!r}")


def difference(found: Any, title: str, items: Sequence[Item], dry_run: bool) -> CollectionResult:
    """The missing entries of a collection, and those with an older note; `found` is `None` for a new one."""
    there = {(entry.item_type, entry.item_id): entry.note for entry in found.items} if found is not None else {}
    result = CollectionResult(
        found.url if found is not None else "", found.slug if found is not None else "", title, dry_run=dry_run
    )
    for item in items:
        if (item.type, item.id) not in there:
            result.added.append(item)
        elif item.note and there[item.type, item.id] != item.note:
            result.changed.append(item)
        else:
            result.unchanged.append(item)
    return result
