import random
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Qwen2Config,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from pd_trl import PDDPOConfig, PDDPOTrainer, PDRewardConfig, PDRewardTrainer
from pd_trl.errors import InputError
from pd_trl.models.tree_batches import backbone_of
from pd_trl.trainers.prefix_sharing import packed_pairs
from pd_trl.trainers.prefix_sharing.packed_pairs import MOST_CELLS, pack_pairs
from pd_trl.trainers.prefix_sharing.sharing import PrefixSharing
from tests.processes import run_processes
from tests.tiny import checkpointing_kwargs, sentence, tiny_preferences, tiny_tokenizer

CPU = dict(
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to="none",
    per_device_train_batch_size=4,
    per_device_eval_batch_size=3,
    logging_steps=1,
    save_strategy="no",
    disable_tqdm=True,
    learning_rate=1e-3,
    num_train_epochs=1,
)
NEUTRAL = dict(length_penalty=0.0, length_balance_temperature=None)
LORA = dict(r=2, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])


def awkward_pairs(count: int = 24, seed: int = 0) -> Dataset:
    """Long prompts, and among them pairs that share nothing but the first token, and pairs of identical sides."""
    numbers = random.Random(seed)
    data = tiny_preferences(count, seed)
    prompts = [sentence(numbers, 12, 40) if i % 5 else "" for i in range(count)]
    rejected = [row["chosen"] if i % 7 == 3 else row["rejected"] for i, row in enumerate(data)]
    data = data.remove_columns(["prompt", "rejected"]).add_column("prompt", prompts)
    data = data.add_column("rejected", rejected)
    for name in ("helpfulness", "honesty", "truthfulness"):
        data = data.add_column(f"reward_gap_{name}", [0.0] * count)
    return data.add_column("pd", [((7 * i) % 10 - 4.5) / 3 for i in range(count)])


def trainer_of(kind, model, folder, config=None, ours=True, lora=None, **kwargs):
    from peft import LoraConfig

    trainer_class, config_class = {
        ("reward", True): (PDRewardTrainer, PDRewardConfig),
        ("reward", False): (RewardTrainer, RewardConfig),
        ("dpo", True): (PDDPOTrainer, PDDPOConfig),
        ("dpo", False): (DPOTrainer, DPOConfig),
    }[kind, ours]
    args = config_class(str(folder), **{**CPU, **(config or {})})
    if lora:
        task = {"reward": "SEQ_CLS", "dpo": "CAUSAL_LM"}[kind]
        saved = ["score"] if kind == "reward" else None
        kwargs["peft_config"] = LoraConfig(task_type=task, modules_to_save=saved, **lora)
    # Not every TRL seeds before it draws an adapter's weights.
    torch.manual_seed(0)
    return trainer_class(model=model, args=args, **{"train_dataset": awkward_pairs(), **kwargs})


def logged(trainer, key="loss"):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def assert_same_training(shared, plain):
    """Trains both; every logged number, every weight and their evaluations must agree."""
    for trainer in (shared, plain):
        trainer.train()
    assert shared.prefix_sharing_.shared > 0
    assert shared.prefix_sharing_.cells < 0.9 * shared.prefix_sharing_.padded_cells
    assert len(logged(shared)) > 1 and logged(shared) == pytest.approx(logged(plain), abs=1e-5)
    assert logged(shared, "grad_norm") == pytest.approx(logged(plain, "grad_norm"), abs=1e-4, rel=1e-4)
    parameters = dict(plain.model.named_parameters())
    for name, parameter in shared.model.named_parameters():
        torch.testing.assert_close(parameter, parameters[name], atol=1e-5, rtol=0, msg=name)


VARIANTS = {
    "plain": ({}, None),
    "gradient checkpointing": (dict(gradient_checkpointing=True), None),
    "reentrant checkpointing": (
        dict(gradient_checkpointing=True, **checkpointing_kwargs(use_reentrant=True)),
        None,
    ),
    "accumulation": (dict(per_device_train_batch_size=2, gradient_accumulation_steps=2), None),
    "lora": ({}, LORA),
    "lora and checkpointing": (dict(gradient_checkpointing=True), LORA),
    "short max_length": (dict(max_length=40), None),
}
DPO_VARIANTS = {
    **VARIANTS,
    "precomputed references": (dict(precompute_ref_log_probs=True), None),
    "robust and length-normalised": (dict(loss_type=["robust", "ipo"], label_smoothing=0.1, ld_alpha=0.5), None),
    "padded to 8": (dict(pad_to_multiple_of=8), None),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_reward_training_equals_trl(tiny_models, tmp_path, variant):
    config, lora = variant
    ours = {**config, **NEUTRAL, "share_prefix": True}
    shared = trainer_of("reward", tiny_models["reward"], tmp_path / "a", ours, lora=lora)
    plain = trainer_of("reward", tiny_models["reward"], tmp_path / "b", config, ours=False, lora=lora)
    assert_same_training(shared, plain)


@pytest.mark.parametrize("variant", DPO_VARIANTS.values(), ids=DPO_VARIANTS)
def test_dpo_training_equals_trl(tiny_models, tmp_path, variant):
    config, lora = variant
    shared = trainer_of("dpo", tiny_models["causal"], tmp_path / "a", {**config, "share_prefix": True}, lora=lora)
    plain = trainer_of("dpo", tiny_models["causal"], tmp_path / "b", config, ours=False, lora=lora)
    assert_same_training(shared, plain)


@pytest.mark.parametrize("config", [{}, dict(precompute_ref_log_probs=True)], ids=str)
def test_dfpo_training_is_the_same_with_and_without(tiny_models, tmp_path, config):
    config = {**config, "pd_loss": "dfpo"}
    shared = trainer_of("dpo", tiny_models["causal"], tmp_path / "a", {**config, "share_prefix": True})
    plain = trainer_of("dpo", tiny_models["causal"], tmp_path / "b", config)
    assert_same_training(shared, plain)


def test_length_penalty_and_balancing_are_the_same_with_and_without(tiny_models, tmp_path):
    config = dict(length_penalty=0.01, train_sampling_strategy="group_by_length")
    shared = trainer_of("reward", tiny_models["reward"], tmp_path / "a", {**config, "share_prefix": True})
    plain = trainer_of("reward", tiny_models["reward"], tmp_path / "b", config)
    assert_same_training(shared, plain)


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_evaluation_is_the_same(tiny_models, tmp_path, kind):
    path = tiny_models["reward" if kind == "reward" else "causal"]
    held_out = awkward_pairs(10, seed=3)
    metrics = []
    for share in (True, False):
        config = {"share_prefix": share, **(NEUTRAL if kind == "reward" else {})}
        trainer = trainer_of(kind, path, tmp_path / str(share), config, eval_dataset=held_out)
        # An untrained policy is its reference: margins are rounding, and their signs are anything.
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        metrics.append(trainer.evaluate())
    timings = ("_time", "_runtime", "_per_second")
    shared, plain = ({k: v for k, v in found.items() if not k.endswith(timings)} for found in metrics)
    assert shared == pytest.approx(plain, abs=1e-5, nan_ok=True)
    assert {"eval_loss", "eval_num_tokens"} <= set(shared)


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_streams_train(tiny_models, tmp_path, kind):
    path = tiny_models["reward" if kind == "reward" else "causal"]
    config = {"share_prefix": True, "max_steps": 2, **(NEUTRAL if kind == "reward" else {})}
    trainer = trainer_of(kind, path, tmp_path, config, train_dataset=awkward_pairs().to_iterable_dataset())
    trainer.train()
    assert len(logged(trainer)) == 2 and trainer.prefix_sharing_.shared > 0


def gradients(trainer, batch):
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_gradients_of_one_batch_equal_those_without(tiny_models, tmp_path, kind, attention):
    path = tiny_models["reward" if kind == "reward" else "causal"]
    config = {"share_prefix": True, "model_init_kwargs": {"attn_implementation": attention}}
    trainer = trainer_of(kind, path, tmp_path, {**config, **(NEUTRAL if kind == "reward" else {})})
    batch = next(iter(trainer.get_train_dataloader()))
    loss, grads = gradients(trainer, batch)
    assert trainer.prefix_sharing_.shared > 0
    trainer.prefix_sharing_ = None
    plain_loss, plain_grads = gradients(trainer, batch)
    assert loss == pytest.approx(plain_loss, abs=1e-6) and grads.keys() == plain_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, plain_grads[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_bfloat16_autocast_stays_within_its_rounding(tiny_models, tmp_path, kind):
    path = tiny_models["reward" if kind == "reward" else "causal"]
    found = []
    for share in (True, False):
        config = {"share_prefix": share, "bf16": True, **(NEUTRAL if kind == "reward" else {})}
        trainer = trainer_of(kind, path, tmp_path / str(share), config)
        trainer.train()
        found.append(logged(trainer))
    assert found[0] == pytest.approx(found[1], abs=5e-3)


def test_heads_of_several_aspects_share_prefixes(tiny_models, tmp_path):
    from pd_trl.models.heads.modeling import MultiAspectRewardModel

    found = []
    for share in (True, False):
        torch.manual_seed(0)
        aspects = ["helpfulness", "honesty", "truthfulness"]
        model = MultiAspectRewardModel.from_backbone(tiny_models["reward"], aspects)
        config = {"share_prefix": share, **NEUTRAL}
        trainer = trainer_of("reward", model, tmp_path / str(share), config, processing_class=tiny_tokenizer())
        trainer.train()
        found.append(logged(trainer))
        assert trainer.prefix_sharing_ is None or trainer.prefix_sharing_.shared > 0
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def causal_calls(monkeypatch) -> list[int]:
    """Lengths of the chosen parts of the calls in which attention was computed in two parts."""
    calls = []
    forward = packed_pairs.sdpa_attention_forward

    def counted(module, query, key, value, attention_mask, **kwargs):
        if attention_mask is None and kwargs.get("is_causal"):
            calls.append(query.shape[2])
        return forward(module, query, key, value, attention_mask, **kwargs)

    monkeypatch.setattr(packed_pairs, "sdpa_attention_forward", counted)
    return calls


@pytest.mark.parametrize("config", [{}, dict(gradient_checkpointing=True)], ids=str)
def test_attention_is_computed_in_two_parts_where_its_backward_is_at_hand(tiny_models, tmp_path, monkeypatch, config):
    calls = causal_calls(monkeypatch)
    trainer = trainer_of("reward", tiny_models["reward"], tmp_path, {**config, **NEUTRAL, "share_prefix": True})
    assert not calls
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.train()
    again = 2 if config else 1
    assert len(calls) == 2 * again * trainer.prefix_sharing_.shared  # two layers
    assert trainer.model.config._attn_implementation == "sdpa"
    calls.clear()
    trainer.model.train()
    trainer.compute_loss(trainer.model, dict(batch)).backward()
    assert not calls
    with torch.no_grad():
        trainer.compute_loss(trainer.model, dict(batch))
    assert calls


@pytest.mark.parametrize("config_class", [LlamaConfig, Qwen2Config, GPTNeoXConfig, GPT2Config, OPTConfig])
def test_two_parts_give_what_the_model_gives(config_class, monkeypatch):
    calls = causal_calls(monkeypatch)
    torch.manual_seed(0)
    sizes = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 16}
    model = AutoModelForCausalLM.from_config(config_class(**sizes)).eval()
    # One pair of identical sides, one with no rest of the rejected side, one that shares nothing.
    ids, mask = random_pairs(np.random.default_rng(0), [20, 18, 15, 0], [(0, 0), (3, 0), (4, 6), (5, 5)])
    with torch.no_grad():
        plain = backbone_of(model)(ids, attention_mask=mask).last_hidden_state
        with PrefixSharing().on(model):
            shared = backbone_of(model)(ids, attention_mask=mask).last_hidden_state
    assert len(calls) == 2
    torch.testing.assert_close(shared[mask.bool()], plain[mask.bool()], atol=1e-5, rtol=0)


def random_pairs(generator, prompts, sides, length=None):
    rows = []
    for prompt, (chosen, rejected) in zip(prompts, sides, strict=True):
        start = generator.integers(3, 26, prompt).tolist()
        # First tokens that differ, so that the prefix is the prompt and no more.
        chosen_ids = [26, *generator.integers(3, 26, chosen - 1)] if chosen else []
        rejected_ids = [27, *generator.integers(3, 26, rejected - 1)] if rejected else []
        rows.append((start + chosen_ids, start + rejected_ids))
    sequences = [chosen for chosen, _ in rows] + [rejected for _, rejected in rows]
    length = length or max(map(len, sequences))
    ids = torch.tensor([[*sequence, *[0] * (length - len(sequence))] for sequence in sequences])
    mask = torch.tensor([[1] * len(sequence) + [0] * (length - len(sequence)) for sequence in sequences])
    return ids, mask


def test_packed_pairs_by_hand():
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 0]])
    packed = pack_pairs(ids, torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]))
    assert packed.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert packed.segments.tolist() == [[0, 0, 1, 1, 2]]
    assert packed.source[0].tolist() == [0, 1, 2, 3] and packed.source[1, :3].tolist() == [0, 1, 4]


@pytest.mark.parametrize(
    "prompts, sides",
    [([9, 8, 12], [(3, 4), (1, 5), (2, 2)]), ([10, 20], [(0, 4), (3, 0)]), ([7, 9], [(0, 0), (3, 2)])],
)
def test_unpacking_brings_each_token_back(prompts, sides):
    ids, mask = random_pairs(np.random.default_rng(0), prompts, sides)
    packed = pack_pairs(ids, mask)
    back = packed.unpack(packed.input_ids[:, :, None])[:, :, 0]
    assert torch.equal(back * mask, ids * mask)
    positions = packed.unpack(packed.position_ids[:, :, None])[:, :, 0]
    assert torch.equal(positions * mask, torch.arange(ids.shape[1]) * mask)


def test_batches_that_would_spare_little_are_not_packed():
    generator = np.random.default_rng(0)
    for prompt, packs in ((1, False), (2, True)):  # 10 + 10 - prompt cells of 20
        ids, mask = random_pairs(generator, [prompt], [(10 - prompt, 10 - prompt)])
        assert (pack_pairs(ids, mask) is not None) == packs == ((20 - prompt) / 20 <= MOST_CELLS)
    ids, mask = random_pairs(generator, [9, 8], [(3, 4), (1, 5)])
    assert pack_pairs(ids, mask) is not None
    assert pack_pairs(ids.flip(1), mask.flip(1)) is None  # padded on the left


def test_calls_that_are_not_of_pairs_are_left_alone(tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["reward"])
    sharing = PrefixSharing()
    ids, mask = random_pairs(np.random.default_rng(0), [9, 8], [(3, 4), (1, 5)])
    expected = backbone_of(model)(ids[:3], attention_mask=mask[:3]).last_hidden_state
    with sharing.on(model):
        assert torch.equal(backbone_of(model)(ids[:3], attention_mask=mask[:3]).last_hidden_state, expected)
        assert backbone_of(model)(ids, attention_mask=mask, output_hidden_states=True).hidden_states[0].shape[0] == 4
        assert sharing.batches == 0
        model(ids, attention_mask=mask)
    model(ids, attention_mask=mask)
    assert (sharing.batches, sharing.shared) == (1, 1)


def test_an_error_inside_leaves_no_hook_behind(tiny_models):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_models["reward"])
    sharing = PrefixSharing()
    with pytest.raises(RuntimeError), sharing.on(model):
        raise RuntimeError
    backbone = backbone_of(model)
    assert not backbone._forward_hooks and not backbone._forward_pre_hooks
    ids, mask = random_pairs(np.random.default_rng(0), [9], [(3, 4)])
    with sharing.on(model), sharing.on(model):
        model(ids, attention_mask=mask)
    assert sharing.batches == 1


def saved(model, folder):
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


SMALL = dict(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=128,
    pad_token_id=1,
    num_labels=1,
)


def test_models_that_cannot_are_refused_at_construction(tmp_path):
    sliding = AutoModelForSequenceClassification.from_config(MistralConfig(**SMALL, sliding_window=16))
    with pytest.raises(InputError, match="share_prefix.*MistralModel.*window of 16"):
        trainer_of("reward", saved(sliding, tmp_path / "m"), tmp_path / "a", {"share_prefix": True, **NEUTRAL})
    encoder = AutoModelForSequenceClassification.from_config(BertConfig(**SMALL))
    with pytest.raises(InputError, match="both directions"):
        trainer_of("reward", saved(encoder, tmp_path / "b"), tmp_path / "c", {"share_prefix": True, **NEUTRAL})
    experts = AutoModelForCausalLM.from_config(MixtralConfig(**SMALL, num_local_experts=2, sliding_window=None))
    with pytest.raises(InputError, match="router_aux_loss_coef"):
        trainer_of("dpo", saved(experts, tmp_path / "e"), tmp_path / "d", {"share_prefix": True})
    trainer = trainer_of(
        "dpo", str(tmp_path / "e"), tmp_path / "f", {"share_prefix": True, "router_aux_loss_coef": 0.0}
    )
    trainer.train()
    assert trainer.prefix_sharing_.shared > 0


@pytest.mark.parametrize("name", ["torch_compile", "padding_free", "use_liger_kernel"])
def test_settings_that_cannot_are_refused_at_construction(tiny_models, tmp_path, name):
    args = PDDPOConfig(str(tmp_path), **CPU, share_prefix=True)
    setattr(args, name, True)
    with pytest.raises(InputError, match=f"{name}=True"):
        PDDPOTrainer(model=tiny_models["causal"], args=args, train_dataset=awkward_pairs())


def test_a_plain_trl_config_shares_nothing(tiny_models, tmp_path):
    trainer = PDDPOTrainer(
        model=tiny_models["causal"], args=DPOConfig(str(tmp_path), **CPU), train_dataset=awkward_pairs()
    )
    assert trainer.prefix_sharing_ is None


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_equal_one_without(tiny_models, tmp_path):
    script = Path(__file__).with_name("two_processes_sharing.py")
    run = run_processes(2, [str(script), tiny_models["reward"], tiny_models["causal"], str(tmp_path)])
    assert run.returncode == 0, run.stderr[-3000:]
    for kind, path in (("reward", tiny_models["reward"]), ("dpo", tiny_models["causal"])):
        one = trainer_of(kind, path, tmp_path / "one", NEUTRAL if kind == "reward" else {})
        one.train()
        two = torch.load(tmp_path / f"{kind}.pt", weights_only=True)
        for name, value in one.model.state_dict().items():
            torch.testing.assert_close(value, two[name], atol=1e-5, rtol=0, msg=name)
