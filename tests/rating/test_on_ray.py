"""Ratings by actors, each part of which travels as json, without Ray itself: see tests/runs/test_on_ray.py for that."""

import json

import numpy as np
import pytest

from pd_trl import load_pairs, rate_pairs
from pd_trl.errors import InputError
from pd_trl.rating.local_judge import local_judge
from pd_trl.rating.questions import MODES
from tests.rating.scripted import write_pairs
from tests.rating.tiny_judge import tiny_judge

RUBRIC = {
    "aspects": {
        "depth": {"question": "rate this", "levels": {1: "bad", 5: "good"}},
        "order": {"question": "rate good", "levels": {1: "bad", 3: "this", 5: "good"}},
    }
}


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("judge")
    for part in tiny_judge():
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def parts(monkeypatch) -> list:
    """The parts that actors were given."""
    given = []

    def here(work, items, num_actors=None):
        given.extend(items)
        for result in work.worker().each(json.loads(json.dumps(items))):
            yield json.loads(json.dumps(result))

    monkeypatch.setattr("pd_trl.rating.on_ray.on_ray", here)
    return given


@pytest.mark.parametrize("mode", MODES)
def test_either_mode_gives_the_ratings_of_one_process_and_goes_on(mode, judge, parts, tmp_path):
    pairs = load_pairs(write_pairs(tmp_path / "pairs.jsonl", 6, shared=2))
    how = {"rubric": RUBRIC, "mode": mode, "repeat_share": 0.4}
    expected = rate_pairs(pairs, judge=judge, **how, output_dir=tmp_path / "one").to_pandas()
    # A run of one process that ended early.
    lines = (tmp_path / "one" / "answers.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "answers.jsonl").write_text("".join(lines[:8]))
    asked = local_judge(judge)
    found = rate_pairs(pairs, judge=asked, **how, output_dir=tmp_path / "ray", engine="ray").to_pandas()
    assert "loaded" not in vars(asked.source)  # its actors load the weights, this process does not
    names = [name for name in expected.columns if name.startswith(("rating_", "pref_"))]
    assert len(names) >= 6
    np.testing.assert_allclose(found[names].astype(float), expected[names].astype(float), atol=1e-6)
    assert sum(len(cells) for part in parts for _, cells in part) == len(lines) - 8
    assert len((tmp_path / "ray" / "answers.jsonl").read_text().splitlines()) == len(lines)
    calls = [json.loads((tmp_path / name / "report.json").read_text())["calls"] for name in ("one", "ray")]
    assert calls[1] == calls[0] | {"answered_before": 7}


def test_what_cannot_be_on_ray_is_refused(judge, parts, tmp_path):
    pairs = load_pairs(write_pairs(tmp_path / "pairs.jsonl", 2))
    with pytest.raises(InputError, match="save it, and pass the folder"):
        rate_pairs(pairs, judge=local_judge(tiny_judge()), rubric=RUBRIC, engine="ray")
    with pytest.raises(InputError, match="side by side"):
        rate_pairs(pairs, judge=judge, rubric=RUBRIC, engine="ray", adaptive=True)
    with pytest.raises(InputError, match="`engine` must be one of process, ray"):
        rate_pairs(pairs, judge=judge, rubric=RUBRIC, engine="spark")
