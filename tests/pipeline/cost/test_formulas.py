"""FLOPs, parameters and memory against numbers worked out by hand, torch's counter, and what autograd saves."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    MixtralConfig,
    Qwen2Config,
)

from pd_trl.errors import InputError
from pd_trl.pipeline.cost import Work, forward_flops, inference_memory, model_shape, training_flops, training_memory
from pd_trl.pipeline.cost.formulas import layer_activations
from tests.tiny import enable_checkpointing, tiny_config

# One layer: q and o 8 x 8, k and v 8 x 4, gate, up and down 8 x 16 = 576. Head and embedding: 100 x 8.
HAND = {
    "vocab_size": 100, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "tie_word_embeddings": False,
}  # fmt: skip


def work(rows: int, width: int) -> Work:
    return Work(rows, rows * width, rows * width, float(rows * width**2), rows * width, 1, 1, (rows, width))


def test_a_model_worked_out_by_hand():
    shape = model_shape(tiny_config(**HAND))
    assert (shape.matmul, shape.head, shape.query, shape.key_value) == (2 * 576, 800, 8, 4)
    # Norms: two of 8 in each layer, and one at the end.
    assert shape.parameters == 800 + 800 + 2 * 576 + 5 * 8
    # 10 tokens: 2 * 1152 * 10, 4 * 2 layers * 8 * 10^2, 2 * 800 * 10.
    forward = forward_flops(shape, work(1, 10))
    assert forward == 23_040 + 6_400 + 16_000
    # Backward: twice the weights, two and a half times the attention, which computes its scores again.
    assert training_flops(shape, work(1, 10), checkpointing=False) == 3 * 23_040 + 3.5 * 6_400 + 3 * 16_000
    again = training_flops(shape, work(1, 10), checkpointing=True) - training_flops(
        shape, work(1, 10), checkpointing=False
    )
    # The last product of a layer, 8 x 16, is not needed again.
    assert again == 23_040 + 6_400 - 2 * 2 * 8 * 16 * 10
    flash = model_shape(tiny_config(**HAND), attention="flash_attention_2")
    assert forward - forward_flops(flash, work(1, 10)) == 3_200


def test_memory_worked_out_by_hand():
    shape = model_shape(tiny_config(**HAND))
    memory = training_memory(shape, (2, 10), checkpointing=False)
    count = shape.parameters
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * count, 4 * count, 8 * count)
    # Of each token and layer: 6 * 8 of the norms, 4 * 8 of the attention, 4 * 16 of the MLP, in float32.
    assert layer_activations(shape, 2, 10, half=False) == 4 * 20 * (6 * 8 + 4 * 8 + 4 * 16)
    assert memory.activations == 2 * layer_activations(shape, 2, 10, half=False) + 3 * 4 * 20 * 8
    assert memory.total == 12 * count + max(4 * count, memory.activations)
    accumulating = training_memory(shape, (2, 10), checkpointing=False, accumulates=True)
    assert accumulating.total == 16 * count + memory.activations
    sharded = training_memory(shape, (2, 10), processes=4, sharding="zero3", reference=True)
    assert (sharded.weights, sharded.reference, sharded.optimizer) == (count, count, 2 * count)
    half = training_memory(shape, (2, 10), processes=4, sharding="zero2", optimizer="adamw_8bit")
    assert (half.weights, half.gradients, half.optimizer) == (4 * count, count, count / 2)
    # KV cache: keys and values of 4 in 2 layers, 30 positions, 2 rows, float32.
    assert inference_memory(shape, (2, 10), weight_bytes=4, cached=30).cache == 2 * 2 * 4 * 30 * 2 * 4


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_parameters_are_those_of_the_model(kind, tied):
    if kind == "gpt2":
        config = GPT2Config(vocab_size=90, n_embd=24, n_layer=2, n_head=2, tie_word_embeddings=tied)
    elif kind == "qwen2":
        config = Qwen2Config(
            vocab_size=90, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=tied,
        )  # fmt: skip
    else:
        config = tiny_config(num_key_value_heads=1, tie_word_embeddings=tied)
    shape = model_shape(config)
    assert shape.parameters == AutoModelForCausalLM.from_config(config).num_parameters()
    config.num_labels = 1
    reward = AutoModelForSequenceClassification.from_config(config)
    assert model_shape(config, task="reward").parameters == reward.num_parameters()


def test_an_encoder_as_a_reward_model():
    config = BertConfig(
        vocab_size=90, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2
    )
    shape = model_shape(config, task="reward")
    config.num_labels = 1
    assert shape.parameters == AutoModelForSequenceClassification.from_config(config).num_parameters()
    assert shape.head == 24 and shape.layers == 2


def test_a_mixture_of_experts_counts_the_experts_that_a_token_meets():
    sizes = dict(vocab_size=90, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    config = MixtralConfig(**sizes, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)
    shape = model_shape(config)
    assert shape.sparse and shape.parameters == AutoModelForCausalLM.from_config(config).num_parameters()
    # Attention 4 * 16 * 16, router 16 * 8, two of the experts' 3 * 16 * 24.
    assert shape.matmul == 2 * (4 * 16 * 16 + 16 * 8 + 2 * 3 * 16 * 24)


def test_a_configuration_without_a_language_model_is_refused():
    from transformers import ViTConfig

    with pytest.raises(InputError, match="language model"):
        model_shape(ViTConfig(), name="vit")


def build(lora: bool):
    # Eager attention, whose products torch's counter sees on a CPU.
    config = tiny_config(
        vocab_size=200, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4
    )
    config.num_key_value_heads = 2
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    peft_config = None
    if lora:
        from peft import LoraConfig, get_peft_model

        peft_config = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, peft_config)
    return model, model_shape(config, peft_config=peft_config, attention="eager")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [False, True])
def test_flops_are_those_that_torch_counts(lora, checkpointing):
    model, shape = build(lora)
    if checkpointing:
        enable_checkpointing(model)
        model.train()
    if lora:
        # The gradient of the first layer's input is counted, which is needed with checkpointing only.
        model.enable_input_require_grads()
    ids = torch.randint(5, 200, (3, 64))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    assert forward_flops(shape, work(3, 64)) == pytest.approx(counter.get_total_flops(), rel=0.02)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    predicted = training_flops(shape, work(3, 64), checkpointing=checkpointing)
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.02)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_those_that_autograd_keeps(attention):
    config = tiny_config(
        vocab_size=50, hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(5, 50, (4, 96))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    shape = model_shape(config, attention=attention)
    predicted = training_memory(shape, (4, 96), checkpointing=False).activations
    assert predicted == pytest.approx(sum(kept.values()), rel=0.2)


def test_lora_trains_what_peft_trains():
    model, shape = build(lora=True)
    assert shape.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    memory = training_memory(shape, (1, 8))
    assert memory.optimizer == 8 * shape.trainable and memory.gradients == 4 * shape.trainable
