"""The commands of `pd-trl publish`: one thing each on the Hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...publishing.collection import CollectionResult, collection_items, publish_collection
from ...publishing.dataset import publish_dataset
from ...publishing.model import publish_model
from ...publishing.publication import Publication
from ...publishing.report import publish_report
from ..mappings import mapping_of
from .arguments import argument

TARGET_HELP = {
    "private": "Whether a new repository is private. Where unset, its namespace decides. An existing repository must agree.",
    "create_pr": "Open a pull request instead of changing the repository.",
    "branch": "Branch to publish on. Where unset, the main one.",
    "tag": "Tag to put on the publication.",
    "dry_run": "Show what would change, and change nothing.",
}


@dataclass
class _Target:
    """Where and how to publish."""

    repo_id: str | None = argument(None, "Repository on the Hub: name or namespace/name.")
    private: bool | None = argument(None, TARGET_HELP["private"])
    create_pr: bool = argument(False, TARGET_HELP["create_pr"])
    branch: str | None = argument(None, TARGET_HELP["branch"])
    tag: str | None = argument(None, TARGET_HELP["tag"])
    dry_run: bool = argument(False, TARGET_HELP["dry_run"])
    card_file: str | None = argument(
        None,
        "Also write the card to this file, to look at it. With --dry_run, neither a token nor a connection is needed.",
    )

    def options(self) -> dict[str, Any]:
        """Arguments that all publications share."""
        return {name: getattr(self, name) for name in TARGET_HELP}

    def name(self, command: str) -> str:
        """The repository, which must be given."""
        if not self.repo_id:
            raise InputError(f"`pd-trl publish {command}` needs --repo_id, such as me/my-{command}.")
        return self.repo_id


@dataclass
class PublishDatasetArguments(_Target):
    """Arguments of `pd-trl publish dataset`, see [`publish_dataset`], beside those of where to publish."""

    dataset_name: str | None = argument(None, "The folder of `pd-trl select`, or of a whole run.")
    variant: str | None = argument(None, "Name of this selection, if the repository already holds another one.")
    license: str | None = argument(None, "Licence, as the Hub abbreviates it. Where unset, the source's.")
    language: list[str] | None = argument(None, "ISO 639 codes of the languages. Where unset, the source's.")
    source: str | None = argument(None, "Hub id of the source. Where unset, the one in the manifests.")


@dataclass
class PublishModelArguments(_Target):
    """Arguments of `pd-trl publish model`, see [`publish_model`], beside those of where to publish."""

    model_name_or_path: str | None = argument(None, "Folder of a model or adapter.")
    license: str | None = argument(None, "Licence, as the Hub abbreviates it. Where unset, the base model's.")
    datasets: list[str] | None = argument(None, "Hub ids of the data it was trained on.")
    base_model: str | None = argument(None, "Hub id of the model it was trained from.")
    results: list[str] | None = argument(
        None, "Folders of `pd-trl evaluate` whose numbers the card shows. Where unset, the model's folder."
    )
    eval_results: bool = argument(False, "Also write .eval_results/*.yaml.")


@dataclass
class PublishReportArguments(_Target):
    """Arguments of `pd-trl publish report`, see [`publish_report`], beside those of where to publish."""

    report: str | None = argument(None, "HTML file of `pd-trl report`, or a selection's folder.")
    dataset: str | None = argument(None, "Hub id of the data set that it reports on.")
    title: str | None = argument(None, "Title of the Space.")


@dataclass
class PublishCollectionArguments:
    """Arguments of `pd-trl publish collection`, see [`publish_collection`]."""

    title: str | None = argument(
        None, "Title. A collection with this title is completed; if there is none, it is made."
    )
    namespace: str | None = argument(None, "User or organization. Where unset, yourself.")
    description: str | None = argument(None, "What it is about, in at most 150 characters.")
    source: str | None = argument(None, "Hub id of the source of the pairs.")
    dataset: str | None = argument(None, "Hub id of the scored data set.")
    report: str | None = argument(None, "Hub id of the report's Space.")
    reward_models: dict[str, Any] | str | None = argument(
        None, "Mapping of each aspect to the Hub id of its reward model (YAML or json)."
    )
    models: list[str] | None = argument(None, "Hub ids of the aligned models.")
    private: bool = argument(False, "Whether a new collection is private.")
    dry_run: bool = argument(False, TARGET_HELP["dry_run"])


def _shown(arguments: _Target, published: Publication) -> Publication:
    """Writes the card where it was asked for."""
    if arguments.card_file:
        path = Path(arguments.card_file).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(published.card, encoding="utf-8")
    return published


def run_publish_dataset(arguments: PublishDatasetArguments) -> Publication:
    """Publishes a selection as a data set with the configurations selected, scored and dropped."""
    if not arguments.dataset_name:
        raise InputError("No selection: name the folder of `pd-trl select`, or of a whole run, with --dataset_name.")
    return _shown(arguments, publish_dataset(
        arguments.dataset_name, arguments.name("dataset"), variant=arguments.variant, license=arguments.license,
        languages=arguments.language or (), source=arguments.source, **arguments.options(),
    ))  # fmt: skip


def run_publish_model(arguments: PublishModelArguments) -> Publication:
    """Publishes a reward model, an aligned model or an adapter with its card."""
    if not arguments.model_name_or_path:
        raise InputError("No model: name its folder with --model_name_or_path.")
    return _shown(arguments, publish_model(
        arguments.model_name_or_path, arguments.name("model"), license=arguments.license, datasets=arguments.datasets,
        base_model=arguments.base_model, results=arguments.results, eval_results=arguments.eval_results, **arguments.options(),
    ))  # fmt: skip


def run_publish_report(arguments: PublishReportArguments) -> Publication:
    """Publishes the report of a selection as a static Space."""
    if not arguments.report:
        raise InputError("No report: name the file of `pd-trl report`, or a selection's folder, with --report.")
    options = arguments.options()
    return _shown(
        arguments,
        publish_report(
            arguments.report, arguments.name("report"), dataset=arguments.dataset, title=arguments.title, **options
        ),
    )


def run_publish_collection(arguments: PublishCollectionArguments) -> CollectionResult:
    """Makes or completes a collection that links a source, the selection, the report and the models."""
    if not arguments.title:
        raise InputError("`pd-trl publish collection` needs --title.")
    models = {name: str(model) for name, model in mapping_of(arguments.reward_models, "reward_models").items()}
    items = collection_items(
        source=arguments.source, dataset=arguments.dataset, report=arguments.report, reward_models=models,
        models=arguments.models or (),
    )  # fmt: skip
    return publish_collection(
        arguments.title, items, namespace=arguments.namespace, description=arguments.description,
        private=arguments.private, dry_run=arguments.dry_run,
    )  # fmt: skip
