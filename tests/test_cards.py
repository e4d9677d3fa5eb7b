import re

import pytest
from huggingface_hub import ModelCard

from pd_trl.cards import BEGIN, END, cell, merge_section, render_section
from tests.tiny import tiny_preferences
from tests.trainers.test_dpo_trainer import make as make_policy
from tests.trainers.test_dpo_trainer import scored
from tests.trainers.test_reward_trainer import make as make_reward

AFTER_SELECTION = """### Training pairs

The model was trained on 5 of 20 preference pairs: those with the lowest [Preference Divergence](https://huggingface.co/papers/2508.07638) (column `pd`, at most -0.8333), whose label the other aspects agree with most. 15 pairs were left out. The loss is DFPO (Eq. 4 of arXiv 2508.07638; v1 calls it DMPO). Trained with pd_trl"""


def test_card_of_a_policy(tiny_models, tmp_path):
    trainer = make_policy(tiny_models["causal"], tmp_path / "my-policy", scored(), {"pd_budget": 5, "pd_loss": "dfpo"})
    trainer.create_model_card()
    card = ModelCard.load(tmp_path / "my-policy" / "README.md")
    assert AFTER_SELECTION in card.text and card.text.index(END) < card.text.index("### Framework versions")
    assert "None" not in card.text and "# Model Card for my-policy" in card.text
    metadata = card.data.to_dict()
    assert metadata["tags"] == ["dpo", "generated_from_trainer", "pd_trl", "preference", "trl"]
    assert metadata["library_name"] == "transformers" and "licence" not in metadata
    first = (tmp_path / "my-policy" / "README.md").read_text()
    trainer.create_model_card()
    assert (tmp_path / "my-policy" / "README.md").read_text() == first


def test_card_of_a_reward_adapter(tiny_models, tmp_path):
    from peft import LoraConfig

    trainer = make_reward(tiny_models["reward"], tmp_path, tiny_preferences(8), peft_config=LoraConfig(r=2))
    trainer.create_model_card(model_name="rm-honesty")
    card = ModelCard.load(tmp_path / "README.md")
    assert "| training pairs | 8 |" in card.text and "penalty, 0.001 per token" in card.text
    assert card.data.library_name == "peft" and "reward-trainer" in card.data.tags


def test_a_second_section_takes_the_place_of_the_first():
    text = "# Mine\n\n### Framework versions\n\n- x\n"
    once = merge_section(text, "one")
    assert once == f"# Mine\n\n{BEGIN}\none\n{END}\n\n### Framework versions\n\n- x\n"
    assert merge_section(once + "my own words", "two") == once.replace("one", "two") + "my own words"
    assert merge_section("no place", "one").endswith(f"\n\n{BEGIN}\none\n{END}\n")


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "a|b", "x\n\n# y", "[z](javascript:1)", "`c`", "**d**"]
)
def test_hostile_names_stay_text(hostile):
    record = {
        "aspect": hostile,
        "num_train": 1,
        "temperature": None,
        "length_penalty": 0.0,
        "length_correction": "none",
    }
    section = render_section("reward_model_section", {**record, "metrics": {hostile: "1"}})
    assert "<script>" not in section and "\n# y" not in section and not re.search(r"(?<!\\)\]\(javascript", section)
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and all(row.replace("\\|", "").count("|") == 3 for row in rows)
    assert cell(hostile).count("\n") == 0
