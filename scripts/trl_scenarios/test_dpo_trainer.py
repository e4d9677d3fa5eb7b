"""What TRL's DPOTrainer does for its users; scripts/trl_dropin.py puts our classes in the place of TRL's."""

import pytest
import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

MODEL = "trl-internal-testing/tiny-Qwen2ForCausalLM-2.5"
MODELS = [
    MODEL,
    "trl-internal-testing/tiny-Qwen3ForCausalLM",
    "trl-internal-testing/tiny-LlamaForCausalLM-3.2",
    "trl-internal-testing/tiny-Qwen3MoeForCausalLM",
]
CONFIGS = [
    "standard_preference",
    "conversational_preference",
    "standard_implicit_prompt_preference",
    "conversational_implicit_prompt_preference",
]
LOSS_TYPES = [
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
]


def zen(config="standard_preference", split="train"):
    return load_dataset("trl-internal-testing/zen", config, split=split)


def arguments(folder, **changes):
    defaults = {"output_dir": str(folder), "learning_rate": 0.1, "report_to": "none", "use_cpu": True, "bf16": False}
    return DPOConfig(**{**defaults, **changes})


def snapshot(trainer):
    return {name: param.clone() for name, param in trainer.model.named_parameters()}


def changed(trainer, before):
    return {name for name, param in trainer.model.named_parameters() if not torch.equal(param, before[name])}


def train_and_check(trainer):
    before = snapshot(trainer)
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] is not None
    assert changed(trainer, before)


@pytest.mark.parametrize("model", MODELS)
def test_models(tmp_path, model):
    train_and_check(DPOTrainer(model=model, args=arguments(tmp_path), train_dataset=zen()))


@pytest.mark.parametrize("config", CONFIGS)
def test_dataset_formats(tmp_path, config):
    train_and_check(DPOTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=zen(config)))


def test_tools(tmp_path):
    data = load_dataset("trl-internal-testing/toolcall", "preference", split="train")
    train_and_check(DPOTrainer(model=MODEL, args=arguments(tmp_path), train_dataset=data))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_types(tmp_path, loss_type):
    changes = {"label_smoothing": 0.1} if loss_type in ("robust", "exo_pair") else {}
    args = arguments(tmp_path, loss_type=loss_type, eval_strategy="steps", eval_steps=3, **changes)
    trainer = DPOTrainer(model=MODEL, args=args, train_dataset=zen(), eval_dataset=zen(split="test"))
    train_and_check(trainer)


def test_several_losses(tmp_path):
    args = arguments(tmp_path, loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0])
    train_and_check(DPOTrainer(model=MODEL, args=args, train_dataset=zen()))


@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"])
def test_f_divergences(tmp_path, kind):
    train_and_check(DPOTrainer(model=MODEL, args=arguments(tmp_path, f_divergence_type=kind), train_dataset=zen()))


@pytest.mark.parametrize(
    "changes", [{"use_weighting": True}, {"ld_alpha": 0.5}, {"label_smoothing": 0.2}, {"beta": 0.5}]
)
def test_loss_options(tmp_path, changes):
    train_and_check(DPOTrainer(model=MODEL, args=arguments(tmp_path, **changes), train_dataset=zen()))


@pytest.mark.parametrize("truncation_mode", ["keep_start", "keep_end"])
def test_truncation(tmp_path, truncation_mode):
    args = arguments(tmp_path, max_length=24, truncation_mode=truncation_mode)
    train_and_check(DPOTrainer(model=MODEL, args=args, train_dataset=zen()))


def test_ref_model(tmp_path):
    reference = AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32")
    trainer = DPOTrainer(model=model, ref_model=reference, args=arguments(tmp_path), train_dataset=zen())
    before = {name: param.clone() for name, param in trainer.ref_model.named_parameters()}
    train_and_check(trainer)
    assert all(torch.equal(param, before[name]) for name, param in trainer.ref_model.named_parameters())


def test_model_object(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32")
    train_and_check(DPOTrainer(model=model, args=arguments(tmp_path), train_dataset=zen()))


def test_same_ref_model_is_refused(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32")
    with pytest.raises(ValueError, match="same"):
        DPOTrainer(model=model, ref_model=model, args=arguments(tmp_path), train_dataset=zen())


def test_sync_ref_model(tmp_path):
    args = arguments(tmp_path, sync_ref_model=True, ref_model_sync_steps=1)
    trainer = DPOTrainer(model=MODEL, args=args, train_dataset=zen())
    before = {name: param.clone() for name, param in trainer.ref_model.named_parameters()}
    trainer.train()
    assert any(not torch.equal(param, before[name]) for name, param in trainer.ref_model.named_parameters())


@pytest.mark.parametrize("with_lora", [False, True])
def test_precompute_ref_log_probs_changes_nothing(tmp_path, with_lora):
    losses = []
    for precompute in (False, True):
        args = arguments(
            tmp_path / str(precompute),
            precompute_ref_log_probs=precompute,
            logging_steps=1,
            max_steps=3,
            learning_rate=1e-2,
        )
        peft_config = LoraConfig(task_type="CAUSAL_LM") if with_lora else None
        trainer = DPOTrainer(model=MODEL, args=args, train_dataset=zen(), peft_config=peft_config)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_peft_config(tmp_path):
    trainer = DPOTrainer(
        model=MODEL, args=arguments(tmp_path), train_dataset=zen(), peft_config=LoraConfig(task_type="CAUSAL_LM")
    )
    assert isinstance(trainer.model, PeftModel) and trainer.ref_model is None
    before = snapshot(trainer)
    trainer.train()
    names = changed(trainer, before)
    assert names and all("lora" in name for name in names)


def test_peft_model(tmp_path):
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"), LoraConfig(task_type="CAUSAL_LM")
    )
    trainer = DPOTrainer(model=model, args=arguments(tmp_path), train_dataset=zen())
    before = snapshot(trainer)
    trainer.train()
    names = changed(trainer, before)
    assert names and all("lora" in name for name in names)


@pytest.mark.parametrize("with_lora", [False, True])
def test_gradient_checkpointing(tmp_path, with_lora):
    args = arguments(tmp_path, gradient_checkpointing=True, max_steps=3)
    peft_config = LoraConfig(task_type="CAUSAL_LM") if with_lora else None
    train_and_check(DPOTrainer(model=MODEL, args=args, train_dataset=zen(), peft_config=peft_config))


def test_streaming(tmp_path):
    data = load_dataset("trl-internal-testing/zen", "standard_preference", split="train", streaming=True)
    train_and_check(DPOTrainer(model=MODEL, args=arguments(tmp_path, max_steps=3), train_dataset=data))


def test_eval_dataset_and_metrics(tmp_path):
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=3, logging_steps=1)
    data = {"one": zen(split="test"), "two": zen(split="test")}
    trainer = DPOTrainer(model=MODEL, args=args, train_dataset=zen(), eval_dataset=data)
    trainer.train()
    keys = {key for entry in trainer.state.log_history for key in entry}
    assert {"eval_one_loss", "eval_two_loss", "rewards/chosen", "rewards/margins", "logps/rejected"} <= keys


def test_compute_metrics(tmp_path):
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=3)
    trainer = DPOTrainer(
        model=MODEL,
        args=args,
        train_dataset=zen(),
        eval_dataset=zen(split="test"),
        compute_metrics=lambda prediction: {"my_metric": 0.123},
    )
    assert trainer.evaluate()["eval_my_metric"] == 0.123


def test_processing_class_and_callbacks(tmp_path):
    from transformers import TrainerCallback

    class Counter(TrainerCallback):
        steps = 0

        def on_step_end(self, *args, **kwargs):
            self.steps += 1

    counter, tokenizer = Counter(), AutoTokenizer.from_pretrained(MODEL)
    trainer = DPOTrainer(
        model=MODEL,
        args=arguments(tmp_path, max_steps=2),
        train_dataset=zen(),
        processing_class=tokenizer,
        callbacks=[counter],
    )
    trainer.train()
    assert counter.steps == 2 and trainer.processing_class is tokenizer


def test_save_resume_and_card(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "learning_rate": 1e-3}
    trainer = DPOTrainer(model=MODEL, args=arguments(tmp_path, **options), train_dataset=zen())
    trainer.train()
    again = DPOTrainer(model=MODEL, args=arguments(tmp_path, **options), train_dataset=zen())
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for one, other in zip(trainer.model.parameters(), again.model.parameters(), strict=True):
        assert torch.allclose(one, other)
    assert {"trl", "dpo"} <= set(trainer.model.model_tags)
    trainer.create_model_card()
    assert "dpo" in (tmp_path / "README.md").read_text()
