import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BloomConfig,
    FalconMambaConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    T5Config,
)

from pd_trl.models.tree_batches import backbone_of, mask_for, tree_mask, why_no_trees

SIZES = dict(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
GPT2_NAMES = dict(n_embd=32, n_head=4, n_layer=2, n_positions=128)


def causal_model(config_class, attention=None, **changes):
    torch.manual_seed(0)
    config = config_class(**{**SIZES, **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def random_trees(seed: int, shapes=((20, (5, 9, 1)), (0, (4,)), (7, (0, 3)), (11, (6, 6)), (1, (0,)))):
    numbers = np.random.default_rng(seed)
    return [
        (numbers.integers(3, 60, prefix).tolist(), [numbers.integers(3, 60, n).tolist() for n in branches])
        for prefix, branches in shapes
    ]


def padded(sequences):
    width = max(map(len, sequences))
    ids, mask = torch.zeros(len(sequences), width, dtype=torch.long), torch.zeros(len(sequences), width)
    for i, sequence in enumerate(sequences):
        ids[i, : len(sequence)] = torch.tensor(sequence)
        mask[i, : len(sequence)] = 1
    return ids, mask.long()


def packed_inputs(model, trees, pad=0):
    """Each tree in a row of its own, and where the last token of each branch is."""
    rows, last = [], []
    for number, (prefix, branches) in enumerate(trees):
        row = [(token, place, 0) for place, token in enumerate(prefix)]
        for segment, branch in enumerate(branches, 1):
            row += [(token, len(prefix) + place, segment) for place, token in enumerate(branch)]
            last.append((number, len(row) - 1 if branch else len(prefix) - 1))
        rows.append(row)
    width = max(map(len, rows))
    cells = torch.tensor([row + [(pad, 0, -1)] * (width - len(row)) for row in rows])
    mask = mask_for(backbone_of(model), tree_mask(cells[..., 2]))
    inputs = {"input_ids": cells[..., 0], "position_ids": cells[..., 1], "attention_mask": mask}
    return inputs, tuple(torch.tensor(last).T)


def test_mask_by_hand():
    seen = tree_mask(torch.tensor([[0, 0, 1, 1, 3], [1, -1, -1, -1, -1]]))[:, 0]
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert seen[1, 0].int().tolist() == [1, 0, 0, 0, 0]
    assert not seen[1, 1:, 0].any() and seen[1].any(dim=-1).all()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "config_class, changes",
    [
        (LlamaConfig, {}),
        (Qwen2Config, {}),
        (MistralConfig, dict(sliding_window=None)),
        (GPTNeoXConfig, {}),
        (GPT2Config, GPT2_NAMES),
        (OPTConfig, dict(ffn_dim=48, word_embed_proj_dim=32)),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_hidden_states_equal_those_of_padded_rows(config_class, changes, attention):
    model = causal_model(config_class, attention, **changes)
    assert why_no_trees(model) is None
    backbone = backbone_of(model)
    trees = random_trees(0)
    inputs, ends = packed_inputs(model, trees)
    ids, mask = padded([prefix + branch for prefix, branches in trees for branch in branches])
    with torch.no_grad():
        plain = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        packed = backbone(**inputs, use_cache=False).last_hidden_state
    assert packed.isfinite().all()
    last = plain[torch.arange(len(ids)), mask.sum(1) - 1]
    torch.testing.assert_close(packed[ends], last, atol=1e-5, rtol=0)
    # Every token, not only the last: the branches of the first tree follow each other.
    row = torch.cat([plain[0, :25], plain[1, 20:29], plain[2, 20:21]])
    torch.testing.assert_close(packed[0, :35], row, atol=1e-5, rtol=0)


def test_pad_token_and_neighbours_make_no_difference():
    model = causal_model(LlamaConfig)
    trees = random_trees(1)
    batches = [packed_inputs(model, trees, pad) for pad in (0, 9)]
    with torch.no_grad():
        together = [backbone_of(model)(**inputs).last_hidden_state for inputs, _ in batches]
        alone = backbone_of(model)(**packed_inputs(model, trees[3:4])[0]).last_hidden_state[0]
    ends = batches[0][1]
    assert torch.equal(together[0][ends], together[1][ends])
    torch.testing.assert_close(together[0][3, : alone.shape[0]], alone, atol=1e-5, rtol=0)


def test_additive_mask_has_the_models_dtype():
    model = causal_model(LlamaConfig, "eager").to(torch.bfloat16)
    mask = mask_for(backbone_of(model), tree_mask(torch.tensor([[0, 1, 2]])))
    assert mask.dtype == torch.bfloat16 and mask[0, 0, 2].tolist() == [0, torch.finfo(torch.bfloat16).min, 0]


@pytest.mark.parametrize(
    "config_class, changes, reason",
    [
        (Gemma2Config, dict(head_dim=8, sliding_window=16), "sliding_attention"),
        (MistralConfig, dict(sliding_window=16), "window of 16"),
        (Qwen2Config, dict(use_sliding_window=True, sliding_window=16, max_window_layers=1), "sliding_attention"),
        (GPTNeoConfig, dict(num_heads=4, num_layers=2, attention_types=[[["global", "local"], 1]]), "local"),
        (BloomConfig, dict(n_head=4, n_layer=2), "position ids"),
        (FalconMambaConfig, {}, "linear_attention|state"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_models_that_cannot_are_refused_with_the_reason(config_class, changes, reason):
    model = causal_model(config_class, **changes)
    assert any([word in why_no_trees(model) for word in reason.split("|")])


def test_encoders_are_refused():
    torch.manual_seed(0)
    bert = AutoModelForSequenceClassification.from_config(BertConfig(**SIZES, num_labels=1))
    assert "both directions" in why_no_trees(bert)
    t5 = T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, num_labels=1)
    assert "encoder-decoder" in why_no_trees(AutoModelForSequenceClassification.from_config(t5))


def test_a_window_over_all_positions_is_no_window():
    assert why_no_trees(causal_model(MistralConfig, sliding_window=128)) is None
    assert why_no_trees(causal_model(Gemma2Config, head_dim=8, sliding_window=128)) is None


def test_other_attention_is_refused():
    model = causal_model(LlamaConfig)
    model.config._attn_implementation = "flash_attention_2"
    assert "'flash_attention_2'" in why_no_trees(model)


def test_what_the_configuration_hides_is_found_by_trying():
    model = causal_model(LlamaConfig)
    forward = model.base_model.forward

    def without_mask(*args, attention_mask=None, position_ids=None, **kwargs):
        return forward(*args, position_ids=position_ids, **kwargs)

    model.base_model.forward = without_mask
    assert "hidden states are others" in why_no_trees(model)


def test_the_check_leaves_the_model_as_it_was():
    model = causal_model(GPT2Config, **GPT2_NAMES).train()
    model.base_model.h[0].eval()
    before = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert why_no_trees(model) is None
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_backbone_under_lora_and_a_wrapper():
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    model = causal_model(LlamaConfig)
    inner = model.base_model
    wrapper = torch.nn.Module()
    wrapper.module = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2))
    assert backbone_of(wrapper) is inner and why_no_trees(wrapper.module) is None
    prompt = get_peft_model(causal_model(LlamaConfig), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert "virtual tokens" in why_no_trees(prompt)
