"""Stage `prepare`: a source becomes pairs and preferences."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from datasets import Dataset

from ...data import LabelReport, LoadReport, aspects_of, effective_labels, effective_relabel, prepare_preferences
from ...data.bundled import SAMPLE_FACTS, is_bundled
from ...data.labelling import LabelPlan
from ...data.loading import open_pairs
from ...data.opened import OpenedPairs
from ...data.parts import NeedsWholeError
from ...data.streaming import prepare_stream
from ...errors import InputError
from ...method.ranking import random_keys, select_lowest
from ...runs.artifacts import Manifest, replaced_folder, write_json, write_rows
from ...runs.folders import folder_lock
from ...runs.identity import data_key, deciding
from ...runs.provenance import source_provenance
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from ...safety.secrets import masked
from ..mappings import mapping_of
from .arguments import OVERWRITE, argument
from .inputs import rows_of

logger = logging.getLogger(__name__)


@dataclass
class PrepareArguments:
    """Arguments of `pd-trl prepare`."""

    OLD_WORDS: ClassVar[dict[str, str]] = {"dataset_train_split": "dataset_split"}

    dataset_name: str | None = argument(
        None,
        "Hub id, local folder, parquet, json, jsonl or csv file of the source; sample for the pairs that come with pd_trl.",
    )
    output_dir: str = argument("prepared", "Folder of the result.")
    dataset_config: str | None = argument(None, "Configuration of the Hub data set.")
    dataset_split: str = argument("train", "Split of a data set on the Hub.")
    dataset_revision: str | None = argument(None, "Branch, tag or commit on the Hub.")
    adapter: str | None = argument(None, "Schema of the source. Where unset, it is recognised.")
    column_mapping: dict[str, Any] | str | None = argument(
        None, "Mapping of our column names to those of the source (YAML or json)."
    )
    pairing: str | None = argument(
        None, "How more than two responses become pairs: all, adjacent, best_worst or random."
    )
    on_invalid: str = argument(
        "error",
        "What to do with rows that cannot be used: error, or drop (with a count and a reason).",
        choices=["error", "drop"],
    )
    labels: str | None = argument(
        None,
        "own: keep the label of the source's chosen and rejected responses (the default if it has them). one: "
        "give each pair the label of one aspect, as proxies need (the default otherwise). all: make a row for "
        "each aspect.",
        choices=["own", "one", "all"],
    )
    conflict: float | None = argument(
        None, "Make a set in which this share of the labels contradicts the overall label."
    )
    relabel: str | None = argument(None, "Label by 'overall', or by the 'mean' of the aspects' ratings, instead.")
    aspects: list[str] | None = argument(None, "Aspects to use. All where unset.")
    max_pairs: int | None = argument(None, "Use this many pairs, drawn by `seed`.")
    seed: int = argument(42, "Seed of everything random.")
    dry_run: bool = argument(False, "Show the counts and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


_IDENTITY = ("pairing", "on_invalid", "labels", "conflict", "relabel", "aspects", "max_pairs", "seed")


@held_folder
def run_prepare(arguments: PrepareArguments) -> StageResult:
    """
    Loads the source, makes preferences, and writes `pairs/`, `preferences/`, `labels.json` and the manifest: in a stream where
    each row says what becomes of it, else all rows together in memory.
    """
    if not arguments.dry_run:
        check_folder("prepare", arguments.output_dir, [arguments.dataset_name])
    opened = _open(arguments)
    if arguments.conflict is None and arguments.max_pairs is None:
        try:
            return _in_stream(arguments, opened)
        except _EndError as end:
            if isinstance(end.reason, InputError):
                raise end.reason from None
            return end.reason
        except _NoStreamError as error:
            logger.info("All rows are read together: %s.", error)
    return _in_memory(arguments, opened)


class _NoStreamError(Exception):
    """The rows must be read together, or hold an error, which is then found, and named, on the whole."""


class _EndError(Exception):
    """The folder holds this result already, or another one."""

    def __init__(self, reason: StageResult | InputError):
        super().__init__(reason)
        self.reason = reason


def _in_stream(arguments: PrepareArguments, opened: OpenedPairs) -> StageResult:
    """Raises [`_NoStreamError`] where that cannot be."""
    with ExitStack() as stack:
        if arguments.dry_run:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="pd_trl-"))) / "prepared"
        else:
            stack.enter_context(folder_lock(arguments.output_dir))
            folder = stack.enter_context(replaced_folder(arguments.output_dir))
        scratch = folder.parent / "ids"
        scratch.mkdir(parents=True)
        manifest, found = Manifest("prepare"), list[tuple[dict[str, Any], LabelPlan]]()

        def begin(digest: str, load: LoadReport, plan: LabelPlan) -> None:
            manifest.inputs = {"pairs": digest}
            manifest.arguments = masked(deciding(arguments, _IDENTITY) | {"labels": plan.labels})
            found.append((load.to_dict(), plan))
            try:
                done = None if arguments.dry_run else skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
            except InputError as error:
                raise _EndError(error) from error
            if done:
                raise _EndError(done)

        try:
            with timed(manifest):
                report = prepare_stream(
                    opened, folder, scratch, begin, labels=arguments.labels, relabel=arguments.relabel,
                    aspects=arguments.aspects, seed=arguments.seed, write=not arguments.dry_run,
                )  # fmt: skip
        except (NeedsWholeError, InputError) as error:
            raise _NoStreamError(str(error)) from error
        ((load, plan),) = found
        _note(manifest, arguments, load, report)
        if not arguments.dry_run:
            write_json(folder / "labels.json", report.to_dict())
            manifest.save(folder)
    return _result(arguments, manifest, report, plan.relabel, plan.labels, bool(plan.aspects))


def _in_memory(arguments: PrepareArguments, opened: OpenedPairs) -> StageResult:
    pairs, load_report = opened.pairs()
    pairs = _drawn(pairs, arguments)
    choice = effective_labels(pairs, arguments.labels, arguments.conflict)
    manifest = Manifest(
        "prepare",
        inputs={"pairs": data_key(pairs)},
        arguments=deciding(arguments, _IDENTITY) | {"labels": choice},
    )
    done = None if arguments.dry_run else skip_if_done(manifest, arguments.output_dir, arguments.overwrite, hold=False)
    if done:
        return done
    with timed(manifest):
        preferences, report = prepare_preferences(
            pairs,
            labels=arguments.labels,  # type: ignore[arg-type]
            conflict=arguments.conflict,
            relabel=arguments.relabel,  # type: ignore[arg-type]
            seed=arguments.seed,
            aspects=arguments.aspects,
        )
        _note(manifest, arguments, load_report.to_dict(), report)
    if not arguments.dry_run:
        if done := skip_if_done(manifest, arguments.output_dir, arguments.overwrite):
            return done  # another command has made it meanwhile
        with replaced_folder(arguments.output_dir) as folder:
            write_rows(pairs, folder / "pairs")
            write_rows(preferences, folder / "preferences")
            write_json(folder / "labels.json", report.to_dict())
            manifest.save(folder)
    relabel = effective_relabel(pairs, arguments.labels, arguments.conflict, arguments.relabel)
    return _result(arguments, manifest, report, relabel, choice, bool(aspects_of(pairs)))


def _drawn(pairs: Dataset, arguments: PrepareArguments) -> Dataset:
    if arguments.max_pairs is None:
        return pairs
    if arguments.max_pairs < 1:
        raise InputError(f"`max_pairs` must be at least 1, got {arguments.max_pairs}.")
    if arguments.max_pairs >= len(pairs):
        return pairs
    ids = pairs["pair_id"][:]
    kept, _ = select_lowest(random_keys(ids, arguments.seed), ids, arguments.max_pairs)
    return pairs.select(kept.nonzero()[0])


def _note(manifest: Manifest, arguments: PrepareArguments, load: dict[str, Any], report: LabelReport) -> None:
    dropped = sum(report.dropped.values())
    manifest.counts = {"pairs": report.pairs, "kept": report.kept, "dropped": dropped, "rows": report.rows}
    manifest.results = {"load": load, "labels": report.to_dict(), "source": _source(arguments)}
    manifest.results["provenance"] = {"source": _provenance(arguments), "conflict": report.conflict}


def _result(
    arguments: PrepareArguments, manifest: Manifest, report: LabelReport, relabel: str | None, choice: str, rated: bool
) -> StageResult:
    lines = [
        _loaded(manifest.results["load"]),
        f"labels: {relabel or choice}, {_label_text(relabel, choice, rated)}",
        *str(report).splitlines(),
    ]
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, manifest.counts, lines)
    return StageResult("prepare", arguments.output_dir, manifest.counts, lines)


def _label_text(relabel: str | None, choice: str, rated: bool) -> str:
    if choice == "own" and relabel is None and not rated:
        return "each pair keeps the source's overall label; reward models can vote as the aspects (`pd-trl score`)"
    if relabel is not None:
        return {"overall": "by the overall label", "mean": "by the mean of the aspects' ratings"}[relabel]
    return {
        "own": "each pair keeps the label of the source's chosen and rejected responses (--labels one: one aspect's instead)",
        "one": "each pair has the label of one aspect",
        "all": "a row for each aspect",
    }[choice]


def _open(arguments: PrepareArguments) -> OpenedPairs:
    if not arguments.dataset_name:
        raise InputError("`pd-trl prepare` needs a source: --dataset_name with a Hub id, a folder or a file.")
    folder = Path(arguments.dataset_name).expanduser()
    if (folder / "manifest.json").is_file():
        source: Any = rows_of(arguments.dataset_name, "pairs")
    else:
        source = arguments.dataset_name
    return open_pairs(
        source,
        split=arguments.dataset_split,
        config=arguments.dataset_config,
        revision=arguments.dataset_revision,
        adapter=arguments.adapter,
        column_mapping=mapping_of(arguments.column_mapping, "column_mapping") or None,
        pairing=arguments.pairing,  # type: ignore[arg-type]
        on_invalid=arguments.on_invalid,  # type: ignore[arg-type]
        seed=arguments.seed,
    )


def _loaded(report: dict[str, Any]) -> str:
    lost = {**report.get("skipped", {}), **report.get("dropped", {})}
    reasons = "".join(f"; {count:,} {reason}" for reason, count in lost.items() if count)
    return f"{report['source']}: {report['rows']:,} rows, {report['formed']:,} pairs formed, {report['kept']:,} kept{reasons}"


def _source(arguments: PrepareArguments) -> dict[str, Any]:
    names = ("dataset_name", "dataset_config", "dataset_split", "dataset_revision")
    return {name: getattr(arguments, name) for name in names}


def _provenance(arguments: PrepareArguments) -> dict[str, Any]:
    if is_bundled(str(arguments.dataset_name)):
        return dict(SAMPLE_FACTS)
    return source_provenance(
        str(arguments.dataset_name),
        arguments.dataset_revision,
        arguments.dataset_config,
        arguments.dataset_split,
    )
