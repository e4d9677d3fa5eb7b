import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2Model,
    T5Config,
    T5ForConditionalGeneration,
)

from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardConfig, MultiAspectRewardModel
from tests.tiny import ASPECTS, enable_checkpointing

SMALL = dict(vocab_size=40, pad_token_id=1, bos_token_id=2, eos_token_id=3)
WIDTH = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)


def batch(padding: str = "right") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 29, (4, 9), generator=generator)
    for row, length in enumerate((9, 5, 7, 1)):
        ids[row, slice(length, None) if padding == "right" else slice(0, 9 - length)] = 1
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


@torch.no_grad()
def rewards(model, inputs, **kwargs) -> torch.Tensor:
    return model.eval()(**inputs, **kwargs).logits


def save_backbone(kind: str, folder) -> str:
    torch.manual_seed(0)
    models = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, **SMALL)),
        "qwen2": lambda: Qwen2Model(Qwen2Config(num_key_value_heads=1, **WIDTH, **SMALL)),
        "bert": lambda: BertModel(BertConfig(**WIDTH, **SMALL)),
        "bert without pooler": lambda: BertModel(BertConfig(**WIDTH, **SMALL), add_pooling_layer=False),
    }
    models[kind]().save_pretrained(folder / "backbone")
    return str(folder / "backbone")


@pytest.mark.parametrize("padding", ["right", "left"])
def test_one_head_is_transformers_classifier(tiny_models, padding):
    theirs = LlamaForSequenceClassification.from_pretrained(tiny_models["reward"])
    ours = MultiAspectRewardModel.from_backbone(tiny_models["reward"], ["honesty"])
    ours.score.load_state_dict(theirs.score.state_dict())
    found, expected = (rewards(model, batch(padding)) for model in (ours, theirs))
    assert found.shape == (4, 1)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "bert", "bert without pooler"])
def test_backbones_of_all_kinds_are_saved_and_loaded(tmp_path, kind):
    model = MultiAspectRewardModel.from_backbone(save_backbone(kind, tmp_path), ASPECTS)
    assert model.config.pooling == ("first" if "bert" in kind else "last")
    expected = rewards(model, batch())
    assert expected.shape == (4, 3) and expected.std(0).min() > 0
    model.save_pretrained(tmp_path / "heads")
    for loader in (AutoModelForSequenceClassification, MultiAspectRewardModel):
        loaded = loader.from_pretrained(tmp_path / "heads")
        assert isinstance(loaded, MultiAspectRewardModel) and loaded.aspects == list(ASPECTS)
        assert torch.equal(rewards(loaded, batch()), expected)
    config = AutoConfig.from_pretrained(tmp_path / "heads")
    assert isinstance(config, MultiAspectRewardConfig)
    assert config.num_labels == 3 and config.id2label == dict(enumerate(ASPECTS))
    assert str(tmp_path) not in (tmp_path / "heads" / "config.json").read_text()


def test_pretrained_weights_are_kept_and_heads_are_new(tiny_models):
    source = LlamaForSequenceClassification.from_pretrained(tiny_models["reward"])
    torch.manual_seed(0)
    model = MultiAspectRewardModel.from_backbone(tiny_models["reward"], ASPECTS)
    for (name, ours), (_, theirs) in zip(model.model.named_parameters(), source.model.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert 0.01 < model.score.weight.std() < 0.03
    torch.manual_seed(0)
    again = MultiAspectRewardModel.from_backbone(tiny_models["reward"], ASPECTS)
    assert torch.equal(model.score.weight, again.score.weight)


def test_loading_arguments_reach_the_backbone(tiny_models, tmp_path):
    model = MultiAspectRewardModel.from_backbone(
        tiny_models["causal"], ASPECTS, attn_implementation="eager", dtype="bfloat16"
    )
    assert model.model.config._attn_implementation == "eager"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model.resize_token_embeddings(40)
    model.save_pretrained(tmp_path, max_shard_size="5KB")
    loaded = MultiAspectRewardModel.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.bfloat16)
    assert loaded.model.config._attn_implementation == "eager" and loaded.config.get_text_config().vocab_size == 40
    assert torch.equal(rewards(loaded, batch()), rewards(model, batch()))


def test_heads_are_put_in_the_asked_order(tiny_models, tmp_path):
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], ASPECTS)
    model.save_pretrained(tmp_path)
    backwards = MultiAspectRewardModel.from_backbone(tmp_path, ASPECTS[::-1])
    assert backwards.aspects == list(ASPECTS[::-1]) == list(backwards.config.id2label.values())
    assert torch.equal(rewards(backwards, batch()), rewards(model, batch()).flip(1))
    with pytest.raises(InputError, match="has heads for helpfulness, honesty, truthfulness, not for honesty"):
        MultiAspectRewardModel.from_backbone(tmp_path, ["honesty"])


def test_a_head_for_each_row(tiny_models):
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], ASPECTS)
    ids = torch.tensor([2, 0, 1, 2])
    everything = rewards(model, batch())
    assert torch.equal(rewards(model, batch(), aspect_ids=ids)[:, 0], everything[torch.arange(4), ids])
    assert torch.equal(rewards(model, batch(), return_dict=True), model(**batch(), return_dict=False)[0])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_touches_only_the_heads_of_the_rows(tiny_models, checkpointing):
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], [*ASPECTS, "style"]).train()
    if checkpointing:
        enable_checkpointing(model)
    model(**batch(), aspect_ids=torch.tensor([3, 1, 1, 3]), use_cache=False).logits.sum().backward()
    gradient = model.score.weight.grad
    assert (gradient[[0, 2]] == 0).all() and (gradient[[1, 3]] != 0).any(1).all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.model.layers.parameters())


def test_refuses_what_cannot_carry_heads(tiny_models, tmp_path):
    load = MultiAspectRewardModel.from_backbone
    with pytest.raises(InputError, match="distinct"):
        load(tiny_models["causal"], ["honesty", "honesty"])
    with pytest.raises(InputError, match="cannot be the name of a folder"):
        load(tiny_models["causal"], ["../honesty"])
    with pytest.raises(InputError, match="no usable config.json"):
        load(str(tmp_path), ["honesty"])
    with pytest.raises(InputError, match="at least one aspect"):
        MultiAspectRewardModel(MultiAspectRewardConfig())
    with pytest.raises(InputError, match="`pooling`"):
        MultiAspectRewardConfig(pooling="median")
    T5ForConditionalGeneration(T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path
    )
    with pytest.raises(InputError, match="must be a decoder"):
        load(tmp_path, ["honesty"])
    model = load(tiny_models["causal"], ASPECTS)
    with pytest.raises(InputError, match="PDRewardTrainer"):
        model(**batch(), labels=torch.zeros(4))
    model.config.get_text_config().pad_token_id = None
    with pytest.raises(InputError, match="pad token"):
        model(**batch())
    with pytest.raises(InputError, match="none for style"):
        model.heads_of(["honesty", "style"])
