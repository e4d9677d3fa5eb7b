"""Where the leaderboard's repository keeps what a submission adds."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError

JUDGE = "weighted_alpaca_eval_gpt4_turbo"
BASELINE = "gpt4_1106_preview"
CONFIG_KEYS = ("prompt_template", "fn_completions", "completions_kwargs", "pretty_name", "link")
OUTPUT_KEYS = ("dataset", "instruction", "output", "generator")
ANNOTATION_KEYS = (
    "instruction", "annotator", "preference", "generator_1", "generator_2", "output_1", "output_2",
)  # fmt: skip
LEADERBOARD_COLUMNS = (
    "", "win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode",
    "avg_length", "length_controlled_winrate", "lc_standard_error",
)  # fmt: skip
WEIGHT_COLUMNS = ("", "np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)")
MAX_MISSING = 5


@dataclass(frozen=True)
class Layout:
    """
    Files of a submission.

    Args:
        root (`Path`): Folder of the submission.
        name (`str`): Name of the model, which is also that of its folders.
    """

    root: Path
    name: str

    @property
    def config(self) -> Path:
        """Configuration of the model."""
        return self.root / "src" / "alpaca_eval" / "models_configs" / self.name / "configs.yaml"

    @property
    def prompt(self) -> Path:
        """Template of its prompt."""
        return self.config.with_name("prompt.txt")

    @property
    def outputs(self) -> Path:
        """Its outputs."""
        return self.root / "results" / self.name / "model_outputs.json"

    @property
    def annotations(self) -> Path:
        """The judge's annotations of them."""
        return self.root / "results" / self.name / JUDGE / "annotations.json"

    @property
    def leaderboard(self) -> Path:
        """The table, with one more row."""
        return self.root / LEADERBOARD

    @property
    def weights(self) -> Path:
        """Weights of the GLM, with one more row."""
        return self.root / WEIGHTS

    def files(self) -> set[Path]:
        """All that a submission may hold."""
        return {self.config, self.prompt, self.outputs, self.annotations, self.leaderboard, self.weights}


LEADERBOARD = Path("src/alpaca_eval/leaderboards/data_AlpacaEval_2") / f"{JUDGE}_leaderboard.csv"
WEIGHTS = Path("src/alpaca_eval/metrics/weights") / JUDGE / "length_controlled_v1" / f"baseline_{BASELINE}.csv"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def checked_name(name: str) -> str:
    """`name`, if folders of the repository can bear it; raises `InputError` otherwise."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"The name {name!r} becomes a folder of the leaderboard's repository: take letters, digits and . _ + -, up to 100."
        )
    return name


def read_table(path: Path) -> tuple[list[str], dict[str, list[dict[str, str]]]]:
    """Columns of a csv file, and its rows by the name in the first column."""
    try:
        text = path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text))
        rows: dict[str, list[dict[str, str]]] = {}
        for row in reader:
            rows.setdefault(row[(reader.fieldnames or [""])[0]] or "", []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table: {error}.") from None
    return list(reader.fieldnames or []), rows
