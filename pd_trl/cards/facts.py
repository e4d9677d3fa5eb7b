"""Plain records of the facts in a card. Nothing here reads a file or the network."""

from dataclasses import dataclass, field
from typing import Any

from ..runs.results import EvalResult


@dataclass
class SourceFacts:
    """
    Where the pairs came from.

    Args:
        dataset (`str`, *optional*): Hub id of the source; `None` where it is a local file.
        revision (`str`, *optional*): Its commit.
        config (`str`, *optional*): Its configuration.
        split (`str`, *optional*): Its split.
        name (`str`, *optional*): Name of a source that is not on the Hub: a file name, never a path.
        license (`str`, *optional*): Hub identifier of its licence.
        license_name (`str`, *optional*): Name of the licence, where `license` is `"other"`.
        license_link (`str`, *optional*): Link to the licence, where `license` is `"other"`.
        languages (`list` of `str`): ISO 639 codes of its languages.
    """

    dataset: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    name: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    languages: list[str] = field(default_factory=list)


@dataclass
class ProxyFacts:
    """
    A proxy reward model and its quality.

    Args:
        aspect (`str`): The aspect it scores.
        model (`str`, *optional*): Its Hub id; `None` where it is not published.
        revision (`str`, *optional*): Its commit, or another digest of its weights.
        base_model (`str`, *optional*): Hub id of the model it was trained from.
        num_train (`int`, *optional*): Training pairs.
        metrics (`dict`): Held-out metrics, see [`pair_metrics`].
        read (`dict`): What is read of it, see [`read_outputs`].
    """

    aspect: str
    model: str | None = None
    revision: str | None = None
    base_model: str | None = None
    num_train: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    read: dict[str, Any] = field(default_factory=dict)


@dataclass
class ConfigFacts:
    """
    A configuration of a published data set.

    Args:
        name (`str`): `"selected"`, `"scored"` or `"dropped"`.
        num_rows (`int`): Its rows.
        data_files (`str` or `list`): Pattern or patterns of its parquet files in the repository, such as `"selected/train-*"`.
        split (`str`, *optional*, defaults to `"train"`): Its split.
        features (`list`, *optional*): Its columns as in `dataset_info`, from `features_to_yaml`.
        num_bytes (`int`, *optional*): Size in memory.
        download_size (`int`, *optional*): Size of its files.
        default (`bool`, *optional*, defaults to `False`): Whether `load_dataset` without a name loads it.
    """

    name: str
    num_rows: int
    data_files: str | list[str]
    split: str = "train"
    features: list[dict[str, Any]] | None = None
    num_bytes: int | None = None
    download_size: int | None = None
    default: bool = False


@dataclass
class ExampleFacts:
    """
    An example pair. Texts are complete; the card shortens them.

    Args:
        prompt, chosen, rejected (`str`): Its texts; for a chat, the last turn of each.
        aspect (`str`, *optional*): The aspect whose label it carries.
        pd (`float`, *optional*): Its Preference Divergence.
        reason (`str`, *optional*): Why it was kept or dropped.
        gaps (`dict`): Reward gap of each aspect, chosen minus rejected.
    """

    prompt: str
    chosen: str
    rejected: str
    aspect: str | None = None
    pd: float | None = None
    reason: str | None = None
    gaps: dict[str, float] = field(default_factory=dict)


@dataclass
class DatasetFacts:
    """
    The facts in the card of a scored data set.

    Args:
        repo_id (`str`): Where it is, or will be.
        selector (`str`): Rule of the selection: `"pd"`, `"pd_high"`, `"random"`, `"margin"` or `"length"`.
        total, kept, dropped (`int`): Pairs.
        configs (`list` of [`ConfigFacts`]): Configurations.
        pretty_name (`str`, *optional*): Title. `None` derives it from `repo_id`.
        arguments (`dict`): Arguments of the selection: `budget`, `source`, `gamma`, `weights`, `per_aspect`, `seed` …
        report (`dict`): Numbers of [`SelectionReport`].
        conflict (`dict`): For two aspects, the share of pairs in which they disagree, among the pairs that both decide.
        source ([`SourceFacts`]): Where the pairs came from.
        proxies (`list` of [`ProxyFacts`]): The reward models behind the gaps.
        example_kept, example_dropped ([`ExampleFacts`], *optional*): One pair of each.
        picture (`str`, *optional*): Path in the repository of the histogram of the PD.
        report_url (`str`, *optional*): Link to the interactive report.
        files (`dict`): Other files of the repository and what they are.
        license (`str`, *optional*): Licence that the publisher chose. Replaces that of the current card and of the source.
        languages (`list` of `str`): Languages that the publisher chose.
        tags (`list` of `str`): Further tags.
        revision_tag (`str`, *optional*): Tag that readers should pin.
        models (`list` of `str`): Hub ids of models aligned on it.
        versions (`dict`): Versions of the libraries that made it.
        created (`str`, *optional*): Day it was made, UTC.
        sql (`str`, *optional*): The selection as a condition of SQL.
    """

    repo_id: str
    selector: str
    total: int
    kept: int
    dropped: int
    configs: list[ConfigFacts]
    pretty_name: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    conflict: dict[str, dict[str, float | None]] = field(default_factory=dict)
    source: SourceFacts = field(default_factory=SourceFacts)
    proxies: list[ProxyFacts] = field(default_factory=list)
    example_kept: ExampleFacts | None = None
    example_dropped: ExampleFacts | None = None
    picture: str | None = None
    report_url: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    license: str | None = None
    languages: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    revision_tag: str | None = None
    models: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    created: str | None = None
    sql: str | None = None


@dataclass
class ModelFacts:
    """
    The facts in the card of a reward model or of an aligned model.

    Args:
        kind (`str`): `"reward"` or `"policy"`.
        name (`str`): Title.
        repo_id (`str`, *optional*): Where it is, or will be.
        base_model (`str`, *optional*): Hub id of the model it was trained from; `None` if that is not on the Hub.
        base_revision (`str`, *optional*): Commit of the base model.
        license (`str`, *optional*): Licence that the publisher chose. Replaces that of the current card.
        base_license, base_license_name, base_license_link (`str`, *optional*): The base model's licence, used if
            `license` is unset.
        peft (`bool`, *optional*, defaults to `False`): Whether it is an adapter.
        chat (`bool`, *optional*, defaults to `True`): Whether it has a chat template.
        tags (`list` of `str`): Further tags.
        languages (`list` of `str`): ISO 639 codes.
        datasets (`list` of `str`): Hub ids of the data it was trained on.
        dataset_revision (`str`, *optional*): Commit of the first of them.
        num_train (`int`, *optional*): Training pairs.
        is_known (`bool`, *optional*, defaults to `True`): Whether the training was recorded. Otherwise the card
            says only what the files say.
        selection (`dict`, *optional*): How the pairs were selected: `total`, `kept`, `dropped`, `threshold`, `column`, `selector`.
        loss (`str`, *optional*): The loss, in words.
        aspect (`str`, *optional*): Of a reward model: its aspect.
        heads (`dict`): Of a reward model with a head for each aspect: `length_penalty`, `num_train` and `metrics` of each.
        reading (`dict`): What these heads read, see [`RewardSidecar`]; empty for the last token at the last layer.
        length (`dict`): Of a reward model: its length handling.
        metrics (`dict`): Of a reward model: held-out metrics, see [`pair_metrics`].
        essentials (`dict`): Training arguments to show first, such as the learning rate.
        hyperparameters (`dict`): Training arguments that differ from the defaults.
        results (`list` of [`EvalResult`]): Evaluations.
        trl_section, citations (`str`, *optional*): TRL's account of the training procedure and its citations, in markdown.
        versions (`dict`): Versions of the libraries that made it.
        created (`str`, *optional*): Day it was made, UTC.
    """

    kind: str
    name: str
    repo_id: str | None = None
    base_model: str | None = None
    base_revision: str | None = None
    license: str | None = None
    base_license: str | None = None
    base_license_name: str | None = None
    base_license_link: str | None = None
    peft: bool = False
    chat: bool = True
    tags: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    dataset_revision: str | None = None
    num_train: int | None = None
    is_known: bool = True
    selection: dict[str, Any] | None = None
    loss: str | None = None
    aspect: str | None = None
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)
    length: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    essentials: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    results: list[EvalResult] = field(default_factory=list)
    trl_section: str | None = None
    citations: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    created: str | None = None
