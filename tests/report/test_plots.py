import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.report import drawing, plots

pytest.importorskip("matplotlib", reason="matplotlib is not installed (the extra `report`)")
Image = pytest.importorskip("PIL.Image")

GROUPS = {"1 of 2 agree": {"total": 30, "kept": 3}, "2 of 2 agree": {"total": 10, "kept": 9}}
HOSTILE = ["$x^{", "<script>alert(1)</script>", "a" * 80, "line\nbreak\x1b[31m\u202e", "诚实"]


def pixels(path: Path) -> np.ndarray:
    """The colours of a PNG file, shape `(height, width, 3)`."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def color_count(path: Path, color: str) -> int:
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((pixels(path) == wanted).all(axis=-1).sum())


def draw_all(folder: Path, names: list[str]) -> list[Path]:
    matrix = np.full((len(names), len(names)), 0.3)
    np.fill_diagonal(matrix, np.nan)
    groups = {name: {"total": 10, "kept": 4} for name in names}
    return [
        plots.divergence_histogram([-1.0, 0.5, 1.0], [True, False, False], folder / "pd.png", [False, True, True]),
        plots.length_shares(dict.fromkeys(names, 0.4), folder / "length.png"),
        plots.aspect_correlations(matrix, names, folder / "correlation.png"),
        plots.conflict_matrix(matrix, names, folder / "conflict.png"),
        plots.vote_patterns(groups, folder / "votes.png"),
    ]


def test_kept_and_dropped_have_areas_in_proportion(tmp_path):
    """Each pair takes the same area, whatever its colour: what is kept is a third of what is dropped."""
    values = np.repeat(np.linspace(-1, 1, 40), 10)
    path = plots.divergence_histogram(values, values < -0.5, tmp_path / "pd.png", bins=40)
    kept, dropped = (color_count(path, color) for color in (plots.KEPT_COLOR, plots.DROPPED_COLOR))
    assert kept / dropped == pytest.approx(1 / 3, rel=0.1)


def test_conflict_is_drawn_as_an_outline(tmp_path):
    values = np.linspace(-1, 1, 200)
    without = plots.divergence_histogram(values, values < 0, tmp_path / "a.png")
    outlined = plots.divergence_histogram(values, values < 0, tmp_path / "b.png", values > 0)
    assert color_count(outlined, "#000000") > color_count(without, "#000000") + 200


def test_bars_of_groups_are_as_long_as_their_numbers(tmp_path):
    path = plots.vote_patterns(GROUPS, tmp_path / "votes.png")
    kept, dropped = (color_count(path, color) for color in (plots.KEPT_COLOR, plots.DROPPED_COLOR))
    assert kept / dropped == pytest.approx(12 / 28, rel=0.15)  # the legend has a patch of each


def test_same_numbers_give_the_same_files(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        draw_all(folder, ["helpfulness", "honesty"])
    assert [p.read_bytes() for p in sorted(first.iterdir())] == [p.read_bytes() for p in sorted(second.iterdir())]


def test_names_from_data_are_shown_as_they_are(tmp_path, recwarn):
    paths = draw_all(tmp_path, HOSTILE)
    assert all(path.stat().st_size > 5000 for path in paths)
    assert not [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)]


def test_state_of_matplotlib_is_left_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_all(tmp_path, ["a", "b"])
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in vars(plots)


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda path: plots.divergence_histogram([], [], path), "non-empty vector"),
        (lambda path: plots.divergence_histogram([1.0, 2.0], [True], path), "`kept` must have one value per pair"),
        (lambda path: plots.divergence_histogram([1.0, np.nan], [True, False], path), "must be finite, got nan"),
        (lambda path: plots.divergence_histogram([1.0], [True], path, [True, False]), "`conflict` must have one"),
        (lambda path: plots.length_shares({"all": None}, path), "no share"),
        (lambda path: plots.vote_patterns({}, path), "no groups"),
        (lambda path: plots.conflict_matrix([[0.1]], ["a", "b"], path), r"must have shape \(2, 2\), got \(1, 1\)"),
        (lambda path: plots.aspect_correlations(np.zeros((0, 0)), [], path), "matrix of 0 aspects"),
    ],
)
def test_bad_arrays_are_refused_and_leave_no_file(tmp_path, draw, message):
    with pytest.raises(InputError, match=message):
        draw(tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


def test_one_value_and_one_group(tmp_path):
    plots.divergence_histogram([0.3, 0.3], [True, False], tmp_path / "pd.png")
    plots.length_shares({"all": 0.0}, tmp_path / "length.png")
    plots.vote_patterns({"none": {"total": 0, "kept": 0}}, tmp_path / "votes.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(drawing, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(InputError, match=r"pip install 'pd_trl\[report\]'"):
        plots.length_shares({"all": 0.5}, tmp_path / "length.png")
