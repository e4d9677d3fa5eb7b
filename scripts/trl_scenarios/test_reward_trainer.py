"""What TRL's RewardTrainer does for its users; scripts/trl_dropin.py puts our classes in the place of TRL's."""

import pytest
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

MODEL = "trl-internal-testing/tiny-Qwen2ForSequenceClassification-2.5"
MODELS = [
    MODEL,
    "trl-internal-testing/tiny-Qwen3ForSequenceClassification",
    "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2",
    "trl-internal-testing/tiny-Qwen3MoeForSequenceClassification",
]
CONFIGS = [
    "standard_preference",
    "conversational_preference",
    "standard_implicit_prompt_preference",
    "conversational_implicit_prompt_preference",
]


def zen(config="standard_preference", split="train"):
    return load_dataset("trl-internal-testing/zen", config, split=split)


def arguments(folder, **changes):
    defaults = {"output_dir": str(folder), "learning_rate": 0.1, "report_to": "none", "use_cpu": True, "bf16": False}
    return RewardConfig(**{**defaults, **changes})


def train_and_check(trainer):
    """Trains; every parameter must have changed."""
    before = {name: param.clone() for name, param in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] is not None
    for name, param in trainer.model.named_parameters():
        assert not torch.equal(param, before[name]), f"{name} has not changed"


def lora(**changes):
    return LoraConfig(**{"task_type": "SEQ_CLS", "r": 4, "modules_to_save": ["score"], **changes})


def is_frozen_in_lora(name):
    return "lora" not in name and "modules_to_save" not in name


@pytest.mark.parametrize("model", MODELS)
def test_models(tmp_path, model):
    trainer = RewardTrainer(model=model, args=arguments(tmp_path), train_dataset=zen())
    before = trainer.model.score.weight.clone()
    trainer.train()
    assert not torch.equal(trainer.model.score.weight, before)


@pytest.mark.parametrize("config", CONFIGS)
def test_dataset_formats(tmp_path, config):
    train_and_check(RewardTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=zen(config)))


def test_model_object(tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1, dtype="float32")
    train_and_check(RewardTrainer(model=model, args=arguments(tmp_path), train_dataset=zen()))


def test_model_init_kwargs(tmp_path):
    args = arguments(tmp_path, model_init_kwargs={"dtype": "bfloat16"})
    assert RewardTrainer(model=MODEL, args=args, train_dataset=zen()).model.dtype == torch.bfloat16


def test_processing_class(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    trainer = RewardTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=zen(), processing_class=tokenizer)
    assert trainer.processing_class is tokenizer
    train_and_check(trainer)


def test_unknown_pad_token(tmp_path):
    with pytest.raises(ValueError, match="pad_token"):
        RewardTrainer(model=MODEL, args=arguments(tmp_path, pad_token="<no such token>"), train_dataset=zen())


def test_pretokenized(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    def tokenize(row):
        return {f"{side}_ids": tokenizer(row["prompt"] + row[side])["input_ids"] for side in ("chosen", "rejected")}

    data = zen().map(tokenize, remove_columns=["prompt", "chosen", "rejected"])
    train_and_check(RewardTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=data))


def test_streaming(tmp_path):
    data = load_dataset("trl-internal-testing/zen", "standard_preference", split="train", streaming=True)
    train_and_check(RewardTrainer(model=MODEL, args=arguments(tmp_path, max_steps=3), train_dataset=data))


def test_margin_column_changes_the_loss(tmp_path):
    losses = []
    for margin in (0.0, 5.0):
        data = zen().add_column("margin", [margin] * 17)
        args = arguments(tmp_path / str(margin), learning_rate=1e-9, logging_steps=1, max_steps=1, seed=1)
        trainer = RewardTrainer(model=MODEL, args=args, train_dataset=data)
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[1] > losses[0] + 4


def test_center_rewards_coefficient(tmp_path):
    train_and_check(
        RewardTrainer(model=MODEL, args=arguments(tmp_path, center_rewards_coefficient=0.01), train_dataset=zen())
    )


def test_max_length_filters(tmp_path):
    trainer = RewardTrainer(model=MODEL, args=arguments(tmp_path, max_length=12), train_dataset=zen())
    assert 0 < len(trainer.train_dataset) < 17
    assert all(len(row["chosen_ids"]) <= 12 for row in trainer.train_dataset)


def test_eval_dataset_and_metrics(tmp_path):
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=3, logging_steps=1)
    trainer = RewardTrainer(model=MODEL, args=args, train_dataset=zen(), eval_dataset=zen(split="test"))
    trainer.train()
    keys = {key for entry in trainer.state.log_history for key in entry}
    assert {
        "eval_loss",
        "eval_accuracy",
        "eval_margin",
        "accuracy",
        "margin",
        "min_reward",
        "mean_reward",
        "max_reward",
    } <= keys
    assert trainer.evaluate()["eval_loss"] > 0


def test_several_eval_datasets(tmp_path):
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=3)
    data = {"one": zen(split="test"), "two": zen(split="test")}
    trainer = RewardTrainer(model=MODEL, args=args, train_dataset=zen(), eval_dataset=data)
    trainer.train()
    keys = {key for entry in trainer.state.log_history for key in entry}
    assert {"eval_one_loss", "eval_two_loss"} <= keys


def test_compute_metrics(tmp_path):
    def compute_metrics(prediction):
        return {"my_metric": 0.123}

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=3)
    trainer = RewardTrainer(
        model=MODEL, args=args, train_dataset=zen(), eval_dataset=zen(split="test"), compute_metrics=compute_metrics
    )
    trainer.train()
    assert trainer.evaluate()["eval_my_metric"] == 0.123


def test_peft_config(tmp_path):
    from peft import PeftModel

    trainer = RewardTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=zen(), peft_config=lora())
    assert isinstance(trainer.model, PeftModel)
    before = {name: param.clone() for name, param in trainer.model.named_parameters()}
    trainer.train()
    for name, param in trainer.model.named_parameters():
        if is_frozen_in_lora(name):
            assert torch.equal(param, before[name]), f"{name} has changed"


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "all-linear"},
        {"target_modules": ["score", "q_proj"]},
        {"target_modules": r"score|.*\.v_proj"},
        {},
        {"modules_to_save": ["score"]},
        {"modules_to_save": ["embed_tokens"]},
    ],
    ids=str,
)
def test_lora_config_without_task_type(tmp_path, changes):
    """The base is a reward model, so that its head is not lost: what is trained is what the configuration says."""
    from peft import get_peft_model

    expected = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1), LoraConfig(**changes)
    )
    trainer = RewardTrainer(
        model=MODEL, args=arguments(tmp_path), train_dataset=zen(), peft_config=LoraConfig(**changes)
    )
    before = {name: param.clone() for name, param in trainer.model.named_parameters()}
    trainable = {name for name, param in expected.named_parameters() if param.requires_grad}
    assert {name for name, param in trainer.model.named_parameters() if param.requires_grad} == trainable
    trainer.train()
    for name, param in trainer.model.named_parameters():
        assert torch.equal(param, before[name]) != (name in trainable), name


def test_lora_on_the_head_of_a_language_model(tmp_path):
    trainer = RewardTrainer(
        model="trl-internal-testing/tiny-Qwen2ForCausalLM-2.5",
        args=arguments(tmp_path),
        train_dataset=zen(),
        peft_config=LoraConfig(target_modules=["score", "q_proj"]),
    )
    names = [name for name, _ in trainer.model.named_parameters() if "score" in name]
    assert any("lora_A" in name for name in names) and not any("modules_to_save" in name for name in names)


def test_peft_model(tmp_path):
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1), lora())
    trainer = RewardTrainer(model=model, args=arguments(tmp_path), train_dataset=zen())
    before = {name: param.clone() for name, param in trainer.model.named_parameters()}
    trainer.train()
    changed = [name for name, param in trainer.model.named_parameters() if not torch.equal(param, before[name])]
    assert changed and not any(is_frozen_in_lora(name) for name in changed)


@pytest.mark.parametrize("with_lora", [False, True])
def test_gradient_checkpointing(tmp_path, with_lora):
    args = arguments(tmp_path, gradient_checkpointing=True, max_steps=3)
    trainer = RewardTrainer(model=MODEL, args=args, train_dataset=zen(), peft_config=lora() if with_lora else None)
    trainer.train()
    assert trainer.state.global_step == 3


def test_save_and_load(tmp_path):
    trainer = RewardTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=zen())
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.score.weight, trainer.model.score.weight)


def test_resume(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "logging_steps": 1}
    trainer = RewardTrainer(model=MODEL, args=arguments(tmp_path, **options), train_dataset=zen())
    trainer.train()
    again = RewardTrainer(model=MODEL, args=arguments(tmp_path, **options), train_dataset=zen())
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 4
    assert torch.allclose(again.model.score.weight, trainer.model.score.weight)


def test_model_card_tags(tmp_path):
    trainer = RewardTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=zen())
    assert {"trl", "reward-trainer"} <= set(trainer.model.model_tags)
    trainer.create_model_card()
    assert "reward-trainer" in (tmp_path / "README.md").read_text()


def test_positional_arguments(tmp_path):
    data, held_out = zen(), zen(split="test")
    trainer = RewardTrainer(MODEL, arguments(tmp_path, max_steps=1), None, data, held_out)
    trainer.train()
    assert len(trainer.eval_dataset) == 2
