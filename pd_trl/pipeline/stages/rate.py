"""Stage `rate`: ratings of every aspect of a rubric, by a judge."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
import yaml

from ...data.label_report import LabelReport
from ...errors import InputError
from ...method.ranking import parse_budget
from ...rating.adaptive import MAX_CALL_SHARE
from ...rating.columns import ESTIMATE
from ...rating.questions import MODES, POINTWISE
from ...rating.report import RatingReport
from ...rating.rubric import Rubric
from ...rating.run import (
    ANSWERS_NAME,
    MAX_PROBLEM_SHARE,
    REPEAT_SHARE,
    check_adaptive,
    check_rating_engine,
    check_settings,
    log_identity,
    rate,
)
from ...runs.artifacts import Manifest, write_json, write_rows
from ...runs.identity import data_key, deciding
from ...runs.on_ray import NO_SERVER, import_ray
from ...runs.provenance import source_provenance
from ...runs.row_log import carry_over
from ...runs.stage_folders import (
    StageResult,
    check_folder,
    dry_result,
    held_folder,
    owned_folder,
    skip_if_done,
    timed,
)
from ..mappings import mapping_of
from .arguments import (
    API_KEY_ENV,
    BASE_URL,
    NUM_ACTORS,
    OVERWRITE_KEEPS_ANSWERS,
    REMOTE_CODE,
    argument,
    check_engine,
    engine_argument,
    request_argument,
    request_settings_of,
    weights_argument,
)
from .rated_rows import check_label, left_out_lines, rated_preferences, unrated_pairs
from .rating_setup import judge_of, prices_of, rating_plan, rubric_of

RUBRIC_NAME, REPORT_TEXT = "rubric.yaml", "report.txt"


@dataclass
class RateArguments:
    """Arguments of `pd-trl rate`, see [`rate_pairs`]."""

    OLD_WORDS: ClassVar[dict[str, str]] = {"dataset_train_split": "dataset_split"}

    dataset_name: str | None = argument(
        None, "Pairs: a file, a Hub id, or the folder of `pd-trl prepare`. They need no ratings and no labels."
    )
    output_dir: str = argument(
        "rated", "Folder of the result. A run that was interrupted goes on there and pays nothing twice."
    )
    rubric: dict[str, Any] | str | None = argument(
        None,
        "File with aspects and levels (YAML). Where unset: helpfulness, truthfulness, honesty and instruction_following.",
    )
    mode: str = argument(
        POINTWISE,
        "pointwise rates each response by itself; pairwise asks which of two is better, in both orders.",
        choices=list(MODES),
    )
    judge: str | None = argument(None, "A judge on this machine: folder or Hub id of a language model.")
    judge_model: str | None = argument(None, "A judge behind a server: the model to ask.")
    base_url: str | None = argument(None, BASE_URL)
    api_key_env: str = argument("OPENAI_API_KEY", API_KEY_ENV)
    judge_arguments: dict[str, Any] | str | None = argument(
        None, "Arguments of each request that differ from ours: a mapping (YAML or json). null removes one."
    )
    max_concurrency: int = request_argument("max_concurrency")
    max_retries: int = request_argument("max_retries")
    request_timeout: float = request_argument("request_timeout")
    max_askings: int = request_argument("max_askings")
    batch_size: int = argument(8, "Questions in a batch of a judge on this machine.")
    dtype: str | None = weights_argument("Type of its weights.")
    engine: str = engine_argument("this one")
    num_actors: int | None = argument(None, NUM_ACTORS)
    adaptive: bool = argument(
        False, "Ask no more about pairs that can no longer be kept at `budget`. Pairs need a label of their own."
    )
    budget: float | str = argument(0.3, "Share or number of pairs that `select` will keep, for --adaptive.")
    max_call_share: float = argument(
        MAX_CALL_SHARE,
        "Largest share of all ratings that --adaptive asks for, beside those of the first 30 pairs. It asks for fewer where they "
        "would change nothing.",
    )
    repeat_share: float = argument(
        REPEAT_SHARE, "Share of the pairs rated a second time, for the judge's agreement with itself."
    )
    max_problem_share: float = argument(
        MAX_PROBLEM_SHARE, "Largest share of questions without an answer that can be read."
    )
    labels: str | None = argument(
        None,
        "Whose label each pair carries: own (the source's), one (one rated aspect's), or all (a row for each rated aspect). "
        "Where unset, own where the pairs have a label, else one.",
        choices=["own", "one", "all"],
    )
    on_invalid: str = argument(
        "error",
        "What to do with rows that cannot be used: error, or drop (with a count and a reason).",
        choices=["error", "drop"],
    )
    dataset_config: str | None = argument(None, "Configuration of the Hub data set.")
    dataset_split: str = argument("train", "Split of a data set on the Hub.")
    dataset_revision: str | None = argument(None, "Branch, tag or commit on the Hub.")
    column_mapping: dict[str, Any] | str | None = argument(
        None, "Mapping of our column names to those of the source (YAML or json)."
    )
    price_per_million_tokens: float | None = argument(None, "Price in dollars, for --dry_run and the report.")
    price_per_million_answer_tokens: float | None = argument(
        None, "Price of the answers' tokens, where it is another."
    )
    trust_remote_code: bool = argument(False, REMOTE_CODE)
    seed: int = argument(42, "Seed of everything random.")
    dry_run: bool = argument(False, "Show requests, tokens and cost, and ask nothing.")
    overwrite: bool = argument(False, OVERWRITE_KEEPS_ANSWERS)


_DECIDING = ("mode", "repeat_share", "max_problem_share", "labels", "seed")


def check_rate(arguments: RateArguments) -> None:
    """Raises `InputError` on arguments that are missing or out of range."""
    if bool(arguments.judge) == bool(arguments.judge_model):
        raise InputError(
            "`pd-trl rate` needs one judge: --judge_model with a model of a server (and --base_url), or --judge with the folder or Hub "
            "id of a model on this machine."
        )
    check_settings(arguments.mode, _budget(arguments), arguments.repeat_share, arguments.max_problem_share)
    check_engine(arguments)
    check_rating_engine(arguments.engine, arguments.adaptive)
    if arguments.engine == "ray" and not arguments.judge:
        raise InputError(NO_SERVER)
    if arguments.batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {arguments.batch_size}.")
    for name in ("price_per_million_tokens", "price_per_million_answer_tokens"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value < float("inf"):
            raise InputError(f"`{name}` must be a price in dollars, got {value}.")
    request_settings_of(arguments)
    mapping_of(arguments.judge_arguments, "judge_arguments")


def _budget(arguments: RateArguments) -> float | int:
    budget = parse_budget(arguments.budget)
    return 0.3 if budget is None else budget


@held_folder
def run_rate(arguments: RateArguments) -> StageResult:
    """
    Rates the pairs and writes `pairs/`, `preferences/`, `rubric.yaml`, `report.json`, `report.txt`, the log of the judge's answers
    and the manifest.
    """
    check_rate(arguments)
    if not arguments.dry_run:
        check_folder("rate", arguments.output_dir, [arguments.dataset_name, arguments.judge])
    if arguments.engine == "ray":
        import_ray()  # before a folder is made
    rubric = rubric_of(arguments)
    pairs, loaded = unrated_pairs(arguments)
    check_label(pairs, arguments.labels, rubric)
    budget = _budget(arguments)
    if arguments.adaptive:
        check_adaptive(pairs, rubric, arguments.mode)
    judge = judge_of(arguments, asks=not arguments.dry_run)
    manifest = Manifest(
        "rate",
        inputs={"pairs": data_key(pairs), "rubric": rubric.digest},
        arguments=deciding(arguments, _DECIDING)
        | {"judge": judge.identity, "adaptive": [budget, arguments.max_call_share] if arguments.adaptive else None},
    )
    folder = Path(arguments.output_dir).expanduser()
    if arguments.dry_run:
        plan = rating_plan(arguments, pairs, rubric, judge)
        counts = {"pairs": plan.pairs, "requests": plan.questions}
        return dry_result(manifest, arguments.output_dir, counts, plan.lines() + left_out_lines(loaded))
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        return done
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        carry_over(folder / ANSWERS_NAME, root / ANSWERS_NAME, log_identity(judge, rubric, arguments.mode))
        with timed(manifest):
            rated, report = rate(
                pairs, judge, rubric, mode=arguments.mode, adaptive=arguments.adaptive, budget=budget,
                max_call_share=arguments.max_call_share, repeat_share=arguments.repeat_share, max_problem_share=arguments.max_problem_share, output_dir=root,
                seed=arguments.seed, prices=prices_of(arguments), engine=arguments.engine, num_actors=arguments.num_actors,
            )  # fmt: skip
            preferences, label_report = rated_preferences(rated, arguments.labels, rubric, arguments.seed)
        manifest.results = {"load": loaded.to_dict()}
        _write(root, manifest, arguments, rubric, (rated, preferences), (report, label_report))
    lines = str(report).splitlines() + left_out_lines(loaded)
    lines += [f"{count:,} pairs give no preference: {reason}" for reason, count in label_report.dropped.items()]
    lines.append(f"Select with: {_select_command(arguments)}")
    return StageResult("rate", arguments.output_dir, manifest.counts, lines)


def _write(
    root: Path,
    manifest: Manifest,
    arguments: RateArguments,
    rubric: Rubric,
    rows: tuple[datasets.Dataset, datasets.Dataset],
    reports: tuple[RatingReport, LabelReport],
) -> None:
    """Writes the pairs and preferences with their reports, then the manifest."""
    rated, preferences = rows
    report, label_report = reports
    write_rows(rated, root / "pairs")
    write_rows(preferences, root / "preferences")
    (root / RUBRIC_NAME).write_text(yaml.safe_dump(rubric.to_dict(), sort_keys=False), encoding="utf-8")
    write_json(root / "labels.json", label_report.to_dict())
    (root / REPORT_TEXT).write_text(f"{report}\n", encoding="utf-8")
    manifest.counts = {
        "pairs": len(rated),
        "rows": label_report.rows,
        "dropped": sum(label_report.dropped.values()),
        "requests": report.calls["asked"] + report.calls["again"],
    }
    manifest.results |= {"report": report.to_dict(), "labels": label_report.to_dict(), "rubric": rubric.to_dict()}
    source = source_provenance(
        str(arguments.dataset_name),
        arguments.dataset_revision,
        arguments.dataset_config,
        arguments.dataset_split,
    )
    manifest.results["provenance"] = {"source": source, "conflict": label_report.conflict}
    manifest.save(root)


def _select_command(arguments: RateArguments) -> str:
    command = f"pd-trl select --dataset_name {arguments.output_dir}"
    if arguments.adaptive:
        return f"{command} --source column --pd_column {ESTIMATE} --budget {arguments.budget}"
    return f"{command} --source ratings"
