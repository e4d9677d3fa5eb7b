"""The cards under docs, and the script that writes them."""

import importlib.util
from pathlib import Path

import pytest

from pd_trl.cards import BEGIN, END, split_readme
from tests.hub.server.validation import metadata_errors
from tests.processes import ROOT
from tests.publishing.selections import select_into
from tests.tiny import tiny_preferences
from tests.trainers.dpo.test_trainer import make as make_policy
from tests.trainers.dpo.test_trainer import scored
from tests.trainers.reward.test_trainer import make as make_reward

SAMPLES = {"dataset": "dataset", "aligned-model": "model", "reward-model": "model"}


def load_script():
    spec = importlib.util.spec_from_file_location("sample_cards", ROOT / "scripts" / "sample_cards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(folder: Path) -> None:
    for name, repo_type in SAMPLES.items():
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        metadata, body = split_readme(text)
        assert metadata_errors(metadata, repo_type) == []
        assert (
            body.count(BEGIN) == body.count(END) == 1
            and "/tmp" not in text
            and "None" not in body.replace("'None'", "")
        )
    assert (folder / "pd.png").read_bytes().startswith(b"\x89PNG")


def test_the_samples_in_the_docs_are_cards_of_the_quickstart():
    check(ROOT / "docs" / "sample-cards")
    assert "**1,800 of 6,000 preference pairs**" in (ROOT / "docs/sample-cards/dataset.md").read_text(encoding="utf-8")


def test_the_script_writes_such_cards(tiny_models, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = tmp_path / "toy"
    select_into(run / "select")
    make_policy(tiny_models["causal"], run / "dpo", scored(), {"pd_budget": 5}).create_model_card()
    make_reward(tiny_models["reward"], run / "reward" / "honesty", tiny_preferences(8)).create_model_card()
    script = load_script()
    assert script.main([str(run), "--output_dir", str(tmp_path / "cards"), "--namespace", "me"]) == 0
    assert len(capsys.readouterr().out.split()) == 4
    check(tmp_path / "cards")
    assert "me/toy-scored" in (tmp_path / "cards" / "aligned-model.md").read_text()
    assert script.main([str(tmp_path / "nothing")]) == 2 and "error: " in capsys.readouterr().err
