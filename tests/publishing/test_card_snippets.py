"""The code on the card of a published selection does what the card says."""

import zlib

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import PDFilter
from pd_trl.pipeline.stages.select import SelectArguments, run_select
from pd_trl.runs.artifacts import Manifest, read_rows, write_rows
from tests.publishing import clients
from tests.publishing.selections import scored_rows
from tests.tiny import ASPECTS

ACCURACY = dict(zip(ASPECTS, (0.9, 0.8, 0.6), strict=True))
METRICS = {a: {"pair_accuracy": v, "pair_accuracy_se": 0.02, "num_pairs": 400} for a, v in ACCURACY.items()}


def rated_rows() -> Dataset:
    """Pairs of four aspects with ratings, many of which are missing."""
    generator = np.random.default_rng(4)
    names = (*ASPECTS, "style")
    rows = scored_rows(80).remove_columns([f"reward_gap_{a}" for a in ASPECTS])
    for name in names:
        for side in ("chosen", "rejected"):
            values = [None if generator.random() < 0.25 else float(r) for r in generator.integers(1, 6, 80)]
            rows = rows.add_column(f"rating_{name}_{side}", values)
    return rows


SETTINGS = [
    ("rewards", {"weights": {"honesty": 3.0, "helpfulness": 0.5}, "gamma": 0.5}, "v1"),
    ("rewards", {"per_aspect": True, "budget": 21}, None),
    ("rewards", {"selector": "random", "seed": 7}, None),
    ("rewards", {"selector": "pd_high", "min_proxy_accuracy": 0.7}, None),
    ("ratings", {"source": "ratings", "on_no_votes": "drop"}, "v2"),
]


@pytest.mark.parametrize(("kind", "settings", "tag"), SETTINGS, ids=str)
def test_the_snippets_give_the_published_selection_and_another_budget(plain_hub, tmp_path, kind, settings, tag):
    rows = scored_rows(80) if kind == "rewards" else rated_rows()
    write_rows(rows, tmp_path / "score" / "scored")
    Manifest("score", results={"proxy_metrics": METRICS}).save(tmp_path / "score")
    settings = {"budget": 0.3, **settings}
    run_select(SelectArguments(str(tmp_path / "score"), str(tmp_path / "select"), **settings))
    name = f"me/snippets-{zlib.crc32(str(settings).encode())}"
    plain_hub.run(clients.publish, tmp_path / "select", name, tag=tag)
    card = plain_hub.text("datasets", name, "README.md")
    found = plain_hub.run(clients.snippets, card)
    published = sorted(read_rows(tmp_path / "select" / "selected")["pair_id"])
    assert found["loaded"] == found["selected"] == published
    other = 10 if settings["budget"] == 21 else 0.2
    metrics = METRICS if kind == "rewards" else None
    expected = PDFilter(**{**settings, "budget": other}, proxy_metrics=metrics)(rows)
    assert found["kept"] == sorted(expected["pair_id"]) and f"budget={other}" in card
    lowest_first = settings.get("selector", "pd") == "pd" and not settings.get("per_aspect") and kind == "rewards"
    assert ("PDDPOTrainer" in card) == lowest_first


@pytest.mark.slow
def test_the_snippet_of_the_trainer_trains_on_the_budget(plain_hub, tiny_models, tmp_path):
    scored_rows().to_parquet(tmp_path / "scored.parquet")
    settings = {"weights": {"honesty": 3.0}}
    run_select(SelectArguments(str(tmp_path / "scored.parquet"), str(tmp_path / "select"), budget=0.3, **settings))
    plain_hub.run(clients.publish, tmp_path / "select", "me/trained")
    card = plain_hub.text("datasets", "me/trained", "README.md")
    found = plain_hub.run(clients.trained_by_snippet, card, tiny_models["causal"], str(tmp_path / "dpo"))
    assert found == sorted(PDFilter(0.2, **settings)(scored_rows())["pair_id"])
