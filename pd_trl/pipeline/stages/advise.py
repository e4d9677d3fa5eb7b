"""Stage `advise`: whether a selection will help, from the scored pairs and a few labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...method.divergence import GAMMA
from ...runs.artifacts import Manifest, replaced_folder, write_json
from ...runs.identity import data_key
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from ...selection.advice import BUDGETS, MAX_PAIRS, advise
from .arguments import OVERWRITE, argument, listed
from .inputs import rows_of

ADVICE_NAME, ADVICE_TEXT = "advice.json", "advice.txt"


@dataclass
class AdviseArguments:
    """Arguments of `pd-trl advise`, see [`advise`]."""

    dataset_name: str | None = argument(None, "Scored pairs: the folder of `pd-trl score`, a file, or a Hub id.")
    labelled: str | None = argument(
        None,
        "A few of these pairs, drawn at random, with ratings or an overall label: the folder of `pd-trl rate` or `prepare`, a file, or "
        "a Hub id. Where unset, the labels in the scored pairs.",
    )
    output_dir: str = argument("advice", f"Folder of {ADVICE_NAME} and {ADVICE_TEXT}.")
    reference: str | None = argument(
        None,
        "overall compares with the overall label, mean with the mean of the ratings. Where unset, overall where there is one.",
        choices=["overall", "mean"],
    )
    source: str = argument(
        "rewards",
        "Gaps from rewards, or ratings of all pairs (with an overall label).",
        choices=["rewards", "ratings"],
    )
    budgets: list[str] | str = argument([str(budget) for budget in BUDGETS], "Shares of the pairs to look at.")
    max_pairs: int = argument(MAX_PAIRS, "Largest number of labelled pairs to use.")
    gamma: float = argument(GAMMA, "Quantile of the absolute gaps that becomes 1 (Eq. 13).")
    margin_column: str = argument("reward_gap_overall", "Column with the margin of one reward model (RAF).")
    seed: int = argument(42, "Seed of the draw and of the bootstrap.")
    dry_run: bool = argument(False, "Show the advice and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def _budgets(given: list[str] | str) -> list[float]:
    try:
        return [float(part) for part in listed(given)]
    except ValueError:
        raise InputError(f"`budgets` must be shares, such as 0.1 0.3 0.5, got {given!r}.") from None


@held_folder
def run_advise(arguments: AdviseArguments) -> StageResult:
    """Writes the advice as json and as text, and the manifest."""
    if not arguments.dry_run:
        check_folder("advise", arguments.output_dir, [arguments.dataset_name, arguments.labelled])
    settings: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("reference", "source", "max_pairs", "gamma", "margin_column", "seed")
    }
    settings["budgets"] = _budgets(arguments.budgets)
    scored = _rows(arguments.dataset_name, "scored" if arguments.source == "rewards" else "preferences")
    labelled = _rows(arguments.labelled, "preferences") if arguments.labelled else None
    inputs = {"scored": data_key(scored)} | ({"labelled": data_key(labelled)} if labelled is not None else {})
    manifest = Manifest("advise", inputs=inputs, arguments=settings)
    if not arguments.dry_run and (done := skip_if_done(manifest, arguments.output_dir, arguments.overwrite)):
        text = Path(arguments.output_dir) / ADVICE_TEXT
        done.lines = text.read_text(encoding="utf-8").splitlines() if text.is_file() else done.lines
        return done
    with timed(manifest):
        advice = advise(scored, labelled, **settings)
    manifest.counts = {"pairs": advice.total, "labelled": advice.labelled}
    lines = str(advice).splitlines()
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, manifest.counts, lines)
    manifest.results = {"select": advice.select, "budget": advice.budget, "codes": advice.codes}
    with replaced_folder(arguments.output_dir) as folder:
        write_json(folder / ADVICE_NAME, advice.to_dict())
        (folder / ADVICE_TEXT).write_text("\n".join(lines) + "\n", encoding="utf-8")
        manifest.save(folder)
    return StageResult("advise", arguments.output_dir, manifest.counts, lines)


def _rows(name: str | None, part: str) -> Any:
    """The rows of a stage's folder: `part`, or `scored`, which has the same labels."""
    folder = Path(name or "").expanduser()
    return rows_of(name, part if (folder / part).is_dir() or not (folder / "scored").is_dir() else "scored")
