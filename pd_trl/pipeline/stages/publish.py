"""Stage `publish`: publishes the results of a run on the Hub."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...hub import HubUnreachableError, check_access, check_card, check_namespace
from ...models.sidecar import SIDECAR_NAME, RewardSidecar
from ...publishing.collection import (
    CollectionResult,
    check_collection,
    collection_items,
    planned_collection,
    publish_collection,
)
from ...publishing.dataset import publish_dataset
from ...publishing.model import publish_model
from ...publishing.publication import Publication
from ...publishing.report import publish_report, space_card
from ...runs.artifacts import Manifest, read_rows
from ...runs.identity import data_key
from ...runs.results import RESULTS_NAME
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, owned_folder, skip_if_done, timed
from ..mappings import mapping_of, path_or_mapping
from .arguments import argument
from .publish_commands import TARGET_HELP


@dataclass
class PublishArguments:
    """Arguments of the stage `publish` of a recipe. What is not named is not published."""

    dataset: str | None = argument(None, "Hub id for the selection with all scored pairs.")
    reward_models: str | None = argument(
        None, "First part of the Hub ids of the reward models; `-ASPECT` is added to it."
    )
    model: str | None = argument(None, "Hub id for the aligned model.")
    report: str | None = argument(None, "Hub id for the Space of the report.")
    collection: str | None = argument(None, "Title of a collection that links all of these.")
    license: str | None = argument(None, "Licence of data set and models. Where unset, that of their sources.")
    language: list[str] | None = argument(None, "ISO 639 codes of the languages.")
    private: bool | None = argument(None, TARGET_HELP["private"])
    create_pr: bool = argument(False, "Open pull requests instead of changing the repositories.")
    tag: str | None = argument(None, "Tag to put on all of these.")
    selection_dir: str | None = argument(None, "Folder of the stage `select`.")
    reward_dir: str | None = argument(None, "Folder of the stage `reward`.")
    policy_dir: str | None = argument(None, "Folder of the stage `dpo`.")
    evaluation_dir: dict[str, str] | str | None = argument(
        None, "Folder of the stage `evaluate`, or a mapping of each kind to its folder (YAML or json)."
    )
    recipe: dict[str, Any] | str | None = argument(None, "The whole recipe, which is published beside the data.")
    output_dir: str = argument("published", "Folder of the record of what was published.")
    dry_run: bool = argument(False, TARGET_HELP["dry_run"])
    overwrite: bool = argument(False, "Publish again what has changed.")


_IDENTITY = ("dataset", "reward_models", "model", "report", "collection", "license", "language", "private", "create_pr",
             "tag")  # fmt: skip
_FOLDERS = {
    "dataset": "selection_dir",
    "report": "selection_dir",
    "reward_models": "reward_dir",
    "model": "policy_dir",
}


def check_publish(arguments: PublishArguments) -> None:
    """Raises `InputError` if the Hub would refuse a part of the publication, before anything is computed."""
    if not any(getattr(arguments, name) for name in _FOLDERS):
        raise InputError(f"The section 'publish' names nothing to publish: set one of {', '.join(_FOLDERS)}.")
    # A dry run plans a new repository where there is no token or no connection.
    with contextlib.suppress(*[HubUnreachableError] if arguments.dry_run else []):
        _check_hub(arguments)


def _check_hub(arguments: PublishArguments) -> None:
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("private", "create_pr", "tag")}
    # An earlier run of this folder may have set the tag.
    folder = Path(arguments.output_dir).expanduser()
    options["resumes"] = folder.is_dir() and any(folder.iterdir())
    language = "".join(f"\n- {code}" for code in arguments.language or ())
    metadata = (f"license: {arguments.license}\n" if arguments.license else "") + (
        f"language:{language}\n" if language else ""
    )
    if arguments.dataset:
        access = check_access(arguments.dataset, "dataset", **options)
        check_card(f"---\n{metadata}---\n", "dataset", access.what)
    for name in [arguments.model, *([f"{arguments.reward_models}-aspect"] if arguments.reward_models else [])]:
        if name and name == arguments.model:
            check_card(f"---\n{metadata}---\n", "model", check_access(name, "model", **options).what)
        elif name:
            # The aspects are not known yet; their repositories are usually new.
            check_access(name, "model", private=arguments.private, tag=arguments.tag)
    if arguments.report:
        access = check_access(arguments.report, "space", **options)
        check_card(space_card(access.repo_id, None), "space", access.what)
    if arguments.collection:
        owner = check_namespace(_namespace(arguments), f"collection {arguments.collection!r}")
        check_collection(arguments.collection, owner, bool(arguments.private))


@held_folder
def run_publish(arguments: PublishArguments) -> StageResult:
    """Publishes what the other stages made: reward models, report, data set and policy, each in one commit, and a collection."""
    wanted = {name: folder for name, folder in _FOLDERS.items() if getattr(arguments, name)}
    for name, folder in wanted.items():
        if not getattr(arguments, folder):
            raise InputError(f"`{name}` is to be published, but `{folder}` is not set.")
    if not arguments.dry_run:
        check_folder("publish", arguments.output_dir, [getattr(arguments, folder) for folder in wanted.values()])
    manifest = Manifest(
        "publish",
        inputs={folder: _identity(getattr(arguments, folder)) for folder in sorted(set(wanted.values()))},
        arguments={name: getattr(arguments, name) for name in _IDENTITY},
    )
    if not arguments.dry_run:
        done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
        if done:
            return done
    with contextlib.ExitStack() as stack:
        if not arguments.dry_run:
            stack.enter_context(owned_folder("publish", arguments.output_dir, overwrite=False))
        stack.enter_context(timed(manifest))
        results = _publish_all(arguments)
    lines = [str(result) for result in results]
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, {}, lines)
    commits = [result for result in results if isinstance(result, Publication)]
    manifest.counts = {"published": len(commits), "files": sum(len(result.commit.added) for result in commits)}
    manifest.results = {"commits": {f"{r.commit.repo_type} {r.commit.repo_id}": r.sha for r in commits}}
    manifest.save(arguments.output_dir)
    return StageResult("publish", arguments.output_dir, manifest.counts, lines)


def _publish_all(arguments: PublishArguments) -> list[Publication | CollectionResult]:
    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("private", "create_pr", "tag", "dry_run")}
    results: list[Publication | CollectionResult] = []
    rewards: dict[str, str] = {}
    pinned: dict[str, str] = {}
    dataset, report = (_full(name, arguments.dry_run) for name in (arguments.dataset, arguments.report))
    for path in sorted(Path(arguments.reward_dir or "").glob(f"*/{SIDECAR_NAME}")) if arguments.reward_models else []:
        done = publish_model(
            path.parent, f"{arguments.reward_models}-{path.parent.name}", license=arguments.license, **options
        )
        aspects = RewardSidecar.load(path.parent).heads or (path.parent.name,)
        rewards |= {aspect: done.commit.repo_id for aspect in aspects}
        at = "" if arguments.dry_run or arguments.create_pr or done.sha is None else f"@{done.sha}"
        pinned |= {aspect: f"{done.commit.repo_id}{at}" for aspect in aspects}
        results.append(done)
    if report and arguments.selection_dir:
        results.append(publish_report(arguments.selection_dir, report, dataset=dataset, **options))
    if dataset and arguments.selection_dir:
        results.append(publish_dataset(
            arguments.selection_dir, dataset, license=arguments.license, languages=arguments.language or (),
            reward_models=pinned, report_url=results[-1].url if report else None,
            recipe=mapping_of(arguments.recipe, "recipe") or None, **options,
        ))  # fmt: skip
    if arguments.model and arguments.policy_dir:
        datasets = [dataset] if dataset else None
        done = publish_model(
            arguments.policy_dir, arguments.model, license=arguments.license, datasets=datasets,
            results=_evaluations(arguments.evaluation_dir), **options,
        )  # fmt: skip
        results.append(done)
    if arguments.collection and not arguments.create_pr:
        results.append(_collect(arguments, results, rewards, dataset, report))
    return results


def _evaluations(folder: str | dict[str, str] | None) -> list[Path] | None:
    """Results about the policy, not about the reward models; `None` if nothing was evaluated."""
    own = path_or_mapping(folder, "evaluation_dir")
    if isinstance(own, str):
        own = {kind: str(Path(own) / kind) for kind in ("alpaca", "pairwise")}
    places = [Path(str(own[kind])).expanduser() for kind in ("alpaca", "pairwise") if kind in own]
    found = [place / RESULTS_NAME for place in places]
    return [path for path in found if path.is_file()] or None


def _collect(
    arguments: PublishArguments,
    results: list[Publication | CollectionResult],
    rewards: dict[str, str],
    dataset: str | None,
    report: str | None,
) -> CollectionResult:
    policies = [
        result.commit.repo_id
        for result in results
        if isinstance(result, Publication)
        and result.commit.repo_type == "model"
        and result.commit.repo_id not in rewards.values()
    ]
    items = collection_items(
        source=_source(arguments.selection_dir), dataset=dataset, report=report, reward_models=rewards, models=policies
    )
    title, private = str(arguments.collection), bool(arguments.private)
    if arguments.dry_run:
        return planned_collection(title, items, namespace=_namespace(arguments), private=private, check=False)
    return publish_collection(title, items, namespace=_namespace(arguments), private=private)


def _full(name: str | None, dry_run: bool) -> str | None:
    """A Hub id with its namespace, which a dry run may not know."""
    if name is None or "/" in name:
        return name
    try:
        return f"{check_namespace(None, name)}/{name}"
    except HubUnreachableError:
        if not dry_run:
            raise
        return f"your-name/{name}"


def _namespace(arguments: PublishArguments) -> str | None:
    named = arguments.dataset or arguments.model or arguments.report or arguments.reward_models or ""
    return named.split("/")[0] if "/" in named else None


def _source(folder: str | None) -> str | None:
    manifest = Manifest.load(folder) if folder else None
    found = manifest.results.get("provenance", {}).get("source", {}).get("dataset") if manifest is not None else None
    return str(found) if found else None


def _identity(folder: str) -> str:
    manifest = Manifest.load(folder)
    if manifest is None:
        raise InputError(f"There is nothing to publish in {folder}: run the stage that makes it first.")
    manifest.check_files(folder)
    if manifest.stage == "select":
        # The rows themselves count, not only the arguments that selected them.
        parts = [data_key(read_rows(Path(folder) / part)) for part in ("selected", "dropped")]
        return " ".join([manifest.key, *parts])
    return f"{manifest.key} {manifest.created}"
