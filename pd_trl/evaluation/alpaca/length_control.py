"""Length-controlled win rate by alpaca_eval's own GLM. Its inputs are matched by instruction, never by position."""

import hashlib
import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...generation.instructions import ALPACA_REPOSITORY, ALPACA_REVISION
from ...hub import download_file
from .instructions import NUM_INSTRUCTIONS, REFERENCE_NAME, canonical_positions, num_other_references
from .session import alpaca_eval_session

logger = logging.getLogger(__name__)

GLM_NAME = "length_controlled_v1"
_LENGTH_TERM = "np.tanh(std_delta_len)"
_GAMED_FILE = "df_gamed.csv"
# With fewer, the three weights are practically undetermined.
_MIN_INSTRUCTIONS = 20


@dataclass(frozen=True)
class LengthControl:
    """
    A length-controlled win rate, in percent.

    Args:
        win_rate (`float`): Mean win rate that the GLM predicts for outputs of the reference's length.
        standard_error (`float`, *optional*): Bootstrap standard error over instructions.
        predicted_standard_error (`float`): alpaca_eval's `lc_standard_error`, which treats the GLM's predictions
            as data and ignores the uncertainty of the GLM.
        preferences (`list` of `float`): The GLM's prediction for each row, 0 to 1.
        weights (`dict`): Weights of the GLM by their names in the leaderboard's files.
        difficulty_sha256 (`str`): Digest of the file of difficulties.
        num_resamples (`int`): Bootstrap samples.
    """

    win_rate: float
    standard_error: float | None
    predicted_standard_error: float
    preferences: list[float]
    weights: dict[str, float]
    difficulty_sha256: str
    num_resamples: int


def why_no_length_control(rows: Sequence[dict[str, Any]]) -> str | None:
    """
    The reason why no length-controlled win rate is defined for these rows; `None` if it is defined. The difficulties
    are known only for AlpacaEval's instructions and against `gpt4_1106_preview`.
    """
    positions = canonical_positions([row["instruction"] for row in rows])
    outside = sum(position is None for position in positions)
    if outside:
        return (
            f"{outside} of {len(rows)} instructions are not among AlpacaEval's {NUM_INSTRUCTIONS}, so their difficulty "
            "is unknown"
        )
    if rows[0]["generator_1"] != REFERENCE_NAME:
        return f"the reference is {rows[0]['generator_1']!r}, but the difficulties are known only against {REFERENCE_NAME!r}"
    others = num_other_references(rows)
    if others:
        return f"{others} of {len(rows)} reference outputs are not those of {REFERENCE_NAME!r}, although they bear its name"
    if len(rows) < _MIN_INSTRUCTIONS:
        return f"{len(rows)} instructions are too few to fit the GLM (at least {_MIN_INSTRUCTIONS})"
    if len({len(row["output_1"]) - len(row["output_2"]) for row in rows}) == 1:
        return "all outputs differ from the reference by the same length, so there is nothing to control for"
    return None


def length_controlled_win_rate(
    rows: Sequence[dict[str, Any]],
    preferences: Sequence[float],
    *,
    difficulty_file: str | os.PathLike | None = None,
    num_resamples: int = 200,
    seed: int = 42,
) -> LengthControl:
    """
    Fits alpaca_eval's GLM `length_controlled_v1`.

    Args:
        rows (sequence of `dict`):
            As in [`AlignedOutputs`], in any order.
        preferences (sequence of `float`):
            From 1 (reference) to 2 (model), NaN if unknown; the GLM predicts these rows too.
        difficulty_file (`str`, *optional*):
            `df_gamed.csv` of the data set tatsu-lab/alpaca_eval. `None` takes it from the Hub, or its cache.
        num_resamples (`int`, *optional*, defaults to `200`):
            Samples of instructions for the standard error; 0 for none. The GLM is fitted to each sample with the
            penalty that cross-validation chose on all rows.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the samples.
    """
    path = difficulty_path(difficulty_file)
    with alpaca_eval_session():
        import pandas as pd
        from alpaca_eval.metrics import glm_winrate as glm

        frame = pd.DataFrame(list(rows)).assign(preference=np.asarray(preferences, dtype=float), annotator="judge")
        frame.index = pd.Index(canonical_positions(frame["instruction"].tolist()))
        order = np.argsort(frame.index.to_numpy(), kind="stable")
        frame = frame.iloc[order]
        info = {**glm.GLM_INFO[GLM_NAME], "kwargs": {"n_splits": 5, **_cross_validation_arguments()}}
        with _local_file(glm, path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metrics = glm.get_length_controlled_winrate(
                frame, save_weights_dir=None, glm_info=info, is_warn_extreme_changes=False
            )
            predicted = frame["glm_preference"].to_numpy()
            is_reference = frame["generator_2"].iloc[0] == frame["generator_1"].iloc[0]
            weights, samples = ({}, []) if is_reference else _bootstrap(glm, frame, info, num_resamples, seed)
    by_row = np.empty(len(frame))
    by_row[order] = predicted
    return LengthControl(
        float(metrics["length_controlled_winrate"]),
        float(np.std(samples, ddof=1)) if len(samples) > 1 else None,
        float(metrics["lc_standard_error"]),
        by_row.tolist(),
        weights,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        len(samples),
    )


def _bootstrap(
    glm: Any, frame: Any, info: dict[str, Any], num_resamples: int, seed: int
) -> tuple[dict[str, float], list[float]]:
    """Weights of the GLM on all rows, and the win rate on each sample of instructions."""
    import pandas as pd

    data, features, data_weights = glm._get_featurized_data(
        frame, info["formula"], info["regularize_to_baseline_lambda"]
    )
    model = _fit(glm, data, data_weights.to_numpy(), info["kwargs"])
    weights = dict(zip(map(str, features.columns), map(float, model.coef_[0]), strict=True))
    # The model's rows come after those of the gamed references, which are in every sample.
    shared, own = data.iloc[: -len(frame)], data.iloc[-len(frame) :]
    lengths = (frame["output_1"].str.len() - frame["output_2"].str.len()).to_numpy()
    fixed = {"n_splits": 0, "C": float(np.ravel(model.C_)[0]), **_plain_arguments()}
    known = own["preference"].notna().to_numpy()
    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(num_resamples):
        rows = generator.integers(0, len(frame), len(frame))
        spread = lengths[rows].std(ddof=1)
        if spread == 0 or not known[rows].any():
            continue
        sample = own.iloc[rows].assign(**{_LENGTH_TERM: np.tanh(lengths[rows] / spread)})
        fitted = _fit(glm, pd.concat([shared, sample]), data_weights.to_numpy(), fixed)
        samples.append(100 * float(fitted.predict_proba(features.iloc[rows])[:, 1].mean()))
    return weights, samples


def _fit(glm: Any, data: Any, sample_weight: np.ndarray, arguments: dict[str, Any]) -> Any:
    known = data["preference"].notna().to_numpy()
    return glm.fit_LogisticRegressionCV(
        data[known], "preference", is_ytrue_proba=True, sample_weight=sample_weight[known], **arguments
    )


def _cross_validation_arguments() -> dict[str, Any]:
    """The same L1 penalty without arguments that scikit-learn deprecates."""
    from sklearn.linear_model import LogisticRegressionCV

    if "use_legacy_attributes" in inspect.signature(LogisticRegressionCV).parameters:
        return {"penalty": "deprecated", "l1_ratios": (1.0,), "use_legacy_attributes": False}
    return {}


def _plain_arguments() -> dict[str, Any]:
    return {"penalty": "deprecated", "l1_ratio": 1.0} if _cross_validation_arguments() else {}


def difficulty_path(path: str | os.PathLike | None = None) -> Path:
    """
    Local file of the instructions' difficulties: `path`, or the file from the Hub or its cache.

    Raises:
        InputError: If there is none, or it is another file.
    """
    if path is not None:
        found = Path(path).expanduser()
        if not found.is_file():
            raise InputError(f"There is no file of difficulties {path}: it is {_GAMED_FILE} of {ALPACA_REPOSITORY}.")
    else:
        try:
            downloaded = download_file(ALPACA_REPOSITORY, _GAMED_FILE, revision=ALPACA_REVISION)
        except InputError:
            # A cache that was filled without a revision has the file under its branch.
            try:
                downloaded = download_file(ALPACA_REPOSITORY, _GAMED_FILE)
            except InputError as error:
                raise InputError(
                    f"The length-controlled win rate needs the difficulties of the instructions. {error} Or pass a "
                    "local copy as `difficulty_file`, or set `length_control` to false."
                ) from None
        if downloaded is None:
            raise InputError(f"The data set {ALPACA_REPOSITORY} has no {_GAMED_FILE}: pass `difficulty_file`.")
        found = downloaded
    _check_difficulties(found)
    return found


def _check_difficulties(path: Path) -> None:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or [])
        wanted = {"model", "preference", "index", "std_delta_len", "instruction_difficulty", "not_gamed_baseline"}
        first = (
            [row["index"] for row, _ in zip(reader, range(NUM_INSTRUCTIONS), strict=False)]
            if wanted <= columns
            else []
        )
    # alpaca_eval finds difficulties by line number.
    if first != [str(i) for i in range(NUM_INSTRUCTIONS)]:
        raise InputError(
            f"{path} is not {_GAMED_FILE} of {ALPACA_REPOSITORY}: it must have the columns {', '.join(sorted(wanted))} and begin "
            f"with the instructions 0 to {NUM_INSTRUCTIONS - 1} in order."
        )


@contextmanager
def _local_file(glm: Any, path: Path) -> Iterator[None]:
    """Makes the GLM read `path` instead of asking the Hub for the newest revision."""
    original = glm.hf_hub_download
    glm.hf_hub_download = lambda *args, **kwargs: str(path)
    try:
        yield
    finally:
        glm.hf_hub_download = original
