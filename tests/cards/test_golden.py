"""Whole cards, as readers get them. `PD_TRL_WRITE_GOLDEN=1 pytest tests/cards/test_golden.py` writes them again: read the diff."""

import os
from pathlib import Path

import pytest
import yaml

from pd_trl._version import __version__
from pd_trl.cards import dataset_card, model_card, split_readme
from tests.cards.examples import dataset_facts, policy_facts, reward_facts
from tests.hub.server.validation import metadata_errors

GOLDEN = Path(__file__).parent / "golden"
# Hostile to HTML and to a fence of code alike.
SQL = "pd < -1.25 OR (pd = -1.25 AND pair_id <= '</pre>```')"
CARDS = {
    "dataset": ("dataset", lambda old: dataset_card(dataset_facts(pretty_name="UltraFeedback, scored", sql=SQL), old)),
    "dataset-by-ratings": (
        "dataset",
        lambda old: dataset_card(
            dataset_facts(
                pretty_name=None, proxies=[], picture=None, report_url=None, conflict={}, example_kept=None, models=[],
                example_dropped=None, files={}, revision_tag=None, versions={}, sql=SQL,
                arguments={"budget": 3, "source": "ratings", "gamma": 0.9, "selector": "pd"},
            ),
            old,
        ),
    ),
    "aligned-model": ("model", lambda old: model_card(policy_facts(name="policy-pd"), old)),
    "aligned-model-of-unknown-making": (
        "model", lambda old: model_card(policy_facts(name="policy", is_known=False, selection=None, num_train=None, results=[],
                                                     trl_section=None, citations=None, essentials={}, hyperparameters={}, tags=[]), old),
    ),
    "reward-model": ("model", lambda old: model_card(reward_facts(name="rm-honesty", aspect="honesty"), old)),
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_whole_card(name):
    repo_type, render = CARDS[name]
    card = render(None)
    path = GOLDEN / f"{name}.md"
    stable = card.replace(__version__, "<version>")
    if os.environ.get("PD_TRL_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(stable, encoding="utf-8")
    assert stable == path.read_text(encoding="utf-8")
    metadata, _ = split_readme(card)
    assert metadata_errors(metadata, repo_type) == []
    assert render(card) == card, "the same publication again must change nothing"
    assert "&id" not in card and yaml.safe_load(card.split("---\n")[1]) == metadata


def test_no_table_mixes_judges():
    _, body = split_readme(model_card(policy_facts()))
    tables = [part for part in body.split("\n\n") if part.startswith("| task")]
    assert len(tables) == 3
    assert [("26.11 ± 0.90 %" in t, "25.00 ± 1.50 %" in t, "50.00 % (no SE)" in t) for t in tables] == [
        (True, False, False), (False, True, False), (False, False, True),
    ]  # fmt: skip
    assert "Judge: **judge-a**" in body and "Numbers of different judges cannot be compared" in body
