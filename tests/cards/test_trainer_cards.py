"""Cards that the trainers write."""

import json

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from pd_trl.cards import BEGIN, END, split_readme
from pd_trl.publishing.training_facts import FACTS_NAME, changed_arguments, existing_card, load_model_facts
from tests.hub.server.validation import metadata_errors
from tests.tiny import tiny_preferences
from tests.trainers.dpo.test_trainer import make as make_policy
from tests.trainers.dpo.test_trainer import scored
from tests.trainers.reward.test_trainer import make as make_reward

SUMMARY = (
    "A base model that is not on the Hub, aligned with [TRL](https://github.com/huggingface/trl) by DFPO (Eq. 4 of arXiv "
    "2508.07638; v1 calls it DMPO), with beta divided by kappa (kappa = 3) on **5 of 20** preference pairs. They are the pairs of lowest [Preference "
    "Divergence](https://huggingface.co/papers/2508.07638), whose label the votes of the aspects agree with most."
)


def test_card_of_a_policy(tiny_models, tmp_path):
    folder = tmp_path / "my-policy"
    trainer = make_policy(tiny_models["causal"], folder, scored(), {"pd_budget": 5, "pd_loss": "dfpo"})
    trainer.create_model_card()
    first = (folder / "README.md").read_text()
    card = ModelCard.load(folder / "README.md")
    assert (
        SUMMARY in card.text and "| highest PD kept | −0.8333 |" in card.text and "| `pd_loss` | `dfpo` |" in card.text
    )
    assert "None" not in card.text and card.text.startswith("\n# my-policy\n") and str(tmp_path) not in first
    metadata = card.data.to_dict()
    assert metadata["tags"] == ["dpo", "generated_from_trainer", "pd_trl", "preference", "trl"]
    assert metadata["library_name"] == "transformers" and not {"licence", "license", "base_model"} & set(metadata)
    assert metadata_errors(metadata, "model") == []
    trainer.create_model_card()
    assert (folder / "README.md").read_text() == first


def test_words_of_the_user_survive_training_again(tiny_models, tmp_path):
    trainer = make_policy(tiny_models["causal"], tmp_path, scored(), {"pd_budget": 5})
    trainer.create_model_card(model_name="first")
    path = tmp_path / "README.md"
    path.write_text(path.read_text().replace("# first\n", "# My model\n\nRead this.\n") + "\nMy last words.\n")
    make_policy(tiny_models["causal"], tmp_path, scored(), {"pd_budget": 7}).create_model_card()
    text = path.read_text()
    assert "# My model\n\nRead this.\n" in text and text.endswith(f"{END}\n\nMy last words.\n")
    assert "**7 of 20**" in text and "**5 of 20**" not in text and text.count(BEGIN) == 1


def test_card_of_a_reward_adapter_after_peft_wrote_into_it(tiny_models, tmp_path):
    from peft import LoraConfig

    length = {"length_correction": "penalty", "length_penalty": 0.001}
    data = tiny_preferences(8)
    trainer = make_reward(tiny_models["reward"], tmp_path, data, length, peft_config=LoraConfig(r=2))
    for _ in range(2):
        trainer.save_model()
        trainer.create_model_card(model_name="rm-honesty")
    text = (tmp_path / "README.md").read_text()
    card = ModelCard(text)
    assert "penalty, 0.001 per token" in text and "on 8 preference pairs" in text
    assert "More Information Needed" not in text and text.rstrip().endswith(END) and tiny_models["reward"] not in text
    assert card.data.library_name == "peft" and {"reward-trainer", "reward-model"} <= set(card.data.tags)
    assert metadata_errors(card.data.to_dict(), "model") == []


@pytest.mark.parametrize("licensed", [True, False])
def test_the_licence_is_the_base_models(tiny_models, tmp_path, licensed):
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny_models["causal"]).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_models["causal"]).save_pretrained(base)
    if licensed:
        (base / "README.md").write_text("---\nlicense: llama3.1\nlanguage: en\n---\n# base\n")
    make_policy(str(base), tmp_path / "out", scored(), {"pd_budget": 5}).create_model_card()
    metadata, body = split_readme((tmp_path / "out" / "README.md").read_text())
    assert (metadata.get("license"), metadata.get("language")) == (("llama3.1", ["en"]) if licensed else (None, None))
    assert ("`llama3.1`, the base model's" in body) is licensed


def test_facts_are_kept_for_a_later_publication(tiny_models, tmp_path):
    trainer = make_policy(tiny_models["causal"], tmp_path, scored(), {"pd_budget": 5})
    trainer.create_model_card()
    facts = load_model_facts(tmp_path)
    assert facts is not None and (facts.kind, facts.selection["kept"], facts.num_train) == ("policy", 5, 5)
    assert str(tmp_path) not in (tmp_path / FACTS_NAME).read_text()


def test_arguments_without_secrets_and_paths(tiny_models, tmp_path):
    config = {
        "pd_budget": 5,
        "hub_token": "hf_SecretSecretSecret",
        "model_init_kwargs": {"token": "hf_SecretSecretSecret", "dtype": "float32"},
        "run_name": "mine",
    }
    trainer = make_policy(tiny_models["causal"], tmp_path, scored(), config)
    trainer.create_model_card()
    trainer.save_model()
    changed = changed_arguments(trainer.args)
    assert changed["pd_budget"] == 5 and changed["model_init_kwargs"] == {"dtype": "float32"}
    assert not {"run_name", "hub_token", "output_dir", "bf16_full_eval"} & set(changed)
    for name in ("README.md", FACTS_NAME):
        assert "hf_Secret" not in (tmp_path / name).read_text(), name
    assert b"hf_Secret" not in (tmp_path / "training_args.bin").read_bytes()
    assert trainer.args.model_init_kwargs["token"] == "hf_SecretSecretSecret"  # noqa: S105
    assert trainer.args.hub_token == "hf_SecretSecretSecret"  # noqa: S105


def test_cards_of_libraries_are_not_a_users(tmp_path):
    path = tmp_path / "README.md"
    assert existing_card(tmp_path) is None
    for automatic in ("---\nlicence: license\n---\n# x", "This model card has been generated automatically according to the "
                      "information the Trainer had access to."):  # fmt: skip
        path.write_text(automatic)
        assert existing_card(tmp_path) is None
    path.write_text(
        "---\nbase_model: /home/me/base\ntags:\n- base_model:adapter:/home/me/base\n- mine\n---\n# Mine\n\n### Framework versions\n\n- PEFT 0.21.2"
    )
    assert existing_card(tmp_path) == "---\ntags:\n- mine\n---\n\n# Mine\n"


def test_json_of_the_facts_has_no_surprises(tiny_models, tmp_path):
    make_policy(tiny_models["causal"], tmp_path, scored(), {"pd_budget": 5}).create_model_card()
    record = json.loads((tmp_path / FACTS_NAME).read_text())
    assert record["essentials"]["effective batch size"] > 0 and record["versions"]["trl"]
