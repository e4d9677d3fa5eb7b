"""[`win_score`]: the paper's win score of one model's outputs against another's, by any judge."""

import contextlib
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, InputTypeError
from ..runs.artifacts import digest_of, library_versions
from ..runs.progress import Bar
from ..runs.results import save_results
from ..runs.row_log import RowLog
from ..text.tables import printable
from .alpaca.outputs import AlignedOutputs
from .judges.base import AskingJudge, Comparison, Judge, is_preference
from .metrics.statistics import bootstrap_interval, verdicts, win_counts
from .outputs import align_sets, load_output_sets
from .win_scores import SetScore, WinScore

logger = logging.getLogger(__name__)

JUDGEMENTS_NAME = "judgements.jsonl"
ANSWERS_NAME = "answers.jsonl"
MAX_PROBLEM_SHARE = 0.05
# Comparisons that are handed to a judge at once: what its own batches and threads are formed from.
COMPARISONS_PER_CALL = 4096


def win_score(
    outputs_a: Any,
    outputs_b: Any,
    *,
    judge: Judge,
    output_dir: str | os.PathLike | None = None,
    max_problem_share: float = MAX_PROBLEM_SHARE,
    model: str | None = None,
    baseline: str | None = None,
    num_resamples: int = 10_000,
    seed: int = 42,
) -> WinScore:
    """
    Win score `1 + (wins - losses) / n` of A against B (arXiv 2508.07638), averaged over sets of instructions (its AW).

    Outputs are aligned by instruction. Each pair is judged in both orders; the mean of both preferences decides, so that a judge
    who only prefers a position gives a tie. Equal outputs are a tie without being judged.

    Args:
        outputs_a, outputs_b (`str`, path, records, or `dict`):
            Outputs of both models: a file in the format of AlpacaEval, the folder of `pd-trl generate`, or records; or a mapping of
            set to these, or a folder of such folders.
        judge ([`Judge`]):
            Who prefers one of two outputs.
        output_dir (`str`, *optional*):
            Folder for `eval_results.json` and for the judgements, which are never asked for twice. `None` keeps nothing.
        max_problem_share (`float`, *optional*, defaults to `0.05`):
            Largest share of a set's instructions that may be answered by one model only or repeatedly (the first answer counts),
            and largest share of pairs whose judgement cannot be read.
        model, baseline (`str`, *optional*):
            Names of A and B. `None` is the `generator` of the outputs.
        num_resamples (`int`, *optional*, defaults to `10000`):
            Resamples of the bootstrap interval.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the bootstrap.

    Returns:
        [`WinScore`]: the average with its interval, and each set.

    Raises:
        InputError: When the sets differ, too many instructions go without a verdict, or outputs are unusable.
    """
    if not isinstance(judge, Judge):
        raise InputTypeError(
            f"`judge` must be a judge, such as `load_judge('reward:me/rm')`, got {type(judge).__name__}."
        )
    if not 0 <= max_problem_share < 1:
        raise InputError(f"`max_problem_share` is a share in [0, 1), got {max_problem_share}.")
    sets_a = load_output_sets(outputs_a, "outputs of A", model)
    sets_b = load_output_sets(outputs_b, "outputs of B", baseline)
    pairs = align_sets(sets_a, sets_b, max_problem_share)
    asking = judge if isinstance(judge, AskingJudge) else None
    if asking is not None:
        asking.reasons.clear()
    with _judgements(output_dir, judge) as log:
        judged = _judge_all(pairs, judge, log)
    reasons = dict(asking.reasons.most_common(5)) if asking is not None else {}
    if reasons:
        logger.warning("Questions to %s without a judgement: %s.", judge.name, _listed(reasons))
    scores = [_score_set(name, pair, judged[name], max_problem_share, reasons) for name, pair in pairs.items()]
    errors = [entry.standard_error for entry in scores]
    known = [error for error in errors if error is not None]
    result = WinScore(
        value=float(np.mean([entry.score for entry in scores])),
        standard_error=float(np.sqrt(np.square(known).sum()) / len(scores)) if len(known) == len(scores) else None,
        interval=_shifted(
            bootstrap_interval([entry.signs for entry in scores], num_resamples=num_resamples, seed=seed)
        ),
        sets=scores,
        model=model or next(iter(sets_a.values())).generator,
        baseline=baseline or next(iter(sets_b.values())).generator,
        judge=judge.name,
        settings={
            "judge_description": judge.description,
            "judge_digest": digest_of(judge.identity),
            "orders": "both",
            "interval_level": 0.95,
            "num_resamples": num_resamples,
            "seed": seed,
            "pd_trl": library_versions().get("pd_trl"),
            **({"reasons_of_failures": reasons} if reasons else {}),
        },
    )
    if output_dir is not None:
        save_results(result.results(), output_dir)
    return result


def _shifted(interval: tuple[float, float]) -> tuple[float, float]:
    return 1 + interval[0], 1 + interval[1]


@contextlib.contextmanager
def _judgements(output_dir: str | os.PathLike | None, judge: Judge) -> Iterator[RowLog | dict[str, Any]]:
    if output_dir is None:
        yield {}
        return
    with RowLog(Path(output_dir) / JUDGEMENTS_NAME, judge.identity) as log, contextlib.ExitStack() as stack:
        if isinstance(judge, AskingJudge):
            answers = stack.enter_context(RowLog(Path(output_dir) / ANSWERS_NAME, judge.identity))
            stack.enter_context(judge.keeping(answers))
        yield log


def _key(comparison: Comparison) -> str:
    return digest_of([comparison.instruction, comparison.output_a, comparison.output_b])


def _judge_all(
    pairs: dict[str, AlignedOutputs], judge: Judge, log: RowLog | dict[str, Any]
) -> dict[str, NDArray[np.float64]]:
    """Preference for A in either order, by set, of shape `(num_instructions, 2)`; nan where it could not be read."""
    questions: dict[str, list[tuple[Comparison, Comparison]]] = {}
    for name, pair in pairs.items():
        forward = [Comparison(row["instruction"], row["output_2"], row["output_1"]) for row in pair.rows]
        questions[name] = [(comparison, comparison.swapped()) for comparison in forward]
    # Equal outputs are a tie that nobody needs to be asked about.
    distinct = {_key(c): c for rows in questions.values() for both in rows for c in both if c.output_a != c.output_b}
    # What could not be read, or never came, is left to the judge once more.
    left = {key: c for key, c in distinct.items() if key not in log or not is_preference(log[key])}
    _ask(judge, left, len(distinct), log)
    judged = {}
    for name, rows in questions.items():
        raw = [[log[_key(c)] if c.output_a != c.output_b else 0.5 for c in both] for both in rows]
        table = np.array(raw, dtype=np.float64)
        table[:, 1] = 1 - table[:, 1]
        judged[name] = table
    return judged


def _ask(judge: Judge, left: dict[str, Comparison], total: int, log: RowLog | dict[str, Any]) -> None:
    keys, comparisons = list(left), list(left.values())
    with Bar(
        total=total, initial=total - len(left), desc=printable(judge.name), unit="judgement", disable=None
    ) as bar:
        for start in range(0, len(keys), COMPARISONS_PER_CALL):
            part = comparisons[start : start + COMPARISONS_PER_CALL]
            answered = set()
            for position, preference in judge.compare(part):
                _keep(log, keys[start + position], _checked(preference, judge))
                answered.add(position)
                bar.update()
            if len(answered) < len(part):
                raise InputError(
                    f"The judge {judge.name} answered {len(answered)} of {len(part)} comparisons. What it answered is kept: run the "
                    "same again."
                )


def _keep(log: RowLog | dict[str, Any], key: str, preference: float | None) -> None:
    if isinstance(log, RowLog):
        log.add(key, preference)
    else:
        log[key] = preference


def _checked(preference: float | None, judge: Judge) -> float | None:
    if preference is None or math.isnan(preference):
        return None
    if not 0 <= preference <= 1:
        raise InputError(f"The judge {judge.name} must give preferences in [0, 1], but gave {preference}.")
    return float(preference)


def _listed(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{reason} ({count:,})" for reason, count in reasons.items())


def _score_set(
    name: str,
    pair: AlignedOutputs,
    judged: NDArray[np.float64],
    max_problem_share: float,
    reasons: Mapping[str, int],
) -> SetScore:
    parsed: NDArray[np.bool_] = ~np.asarray(np.isnan(judged).any(axis=1))
    unparsed = int((~parsed).sum())
    if not parsed.any() or unparsed > max_problem_share * len(parsed):
        why = f" Most often: {_listed(reasons)}." if reasons else ""
        raise InputError(
            f"{unparsed} of the {len(parsed)} pairs of {name} are without a judgement in both orders, more than "
            f"{100 * max_problem_share:g} %.{why} Check the judge's prompt and model, or raise `max_problem_share`."
        )
    preferences = judged[parsed]
    signs = verdicts(preferences.mean(axis=1))
    by_order: Sequence[NDArray[np.int8]] = [verdicts(preferences[:, order]) for order in (0, 1)]
    counts = win_counts(signs)
    return SetScore(
        dataset=name,
        score=counts["win_score"],
        standard_error=counts.get("win_score_se"),
        counts={
            **{key: int(counts[key]) for key in ("wins", "losses", "ties")},
            **pair.problems,
            "unparsed": unparsed,
        },
        win_rate=float(preferences.mean()),
        agreement=float((by_order[0] == by_order[1]).mean()),
        first_preferred=float((preferences[:, 0] + 1 - preferences[:, 1]).mean() / 2),
        signs=signs,
    )
