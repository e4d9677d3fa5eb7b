"""Decoding: independence of batches, draws, special tokens, limits and adapters."""

import random

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from pd_trl.errors import InputError
from pd_trl.generation import DecodingConfig, decode, generate_outputs, load_instructions
from pd_trl.generation.decoding import SeededDraws
from pd_trl.generation.padding import batches_for
from pd_trl.generation.prompts import encode_prompts
from tests.tiny import sentence, tiny_tokenizer

BOS, EOS, ASSISTANT = 2, 3, 5


@pytest.fixture(scope="module")
def policy(tiny_models):
    model = AutoModelForCausalLM.from_pretrained(tiny_models["causal"], dtype="float32")
    return model, AutoTokenizer.from_pretrained(tiny_models["causal"])


def prompts_of(count: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return list(dict.fromkeys(sentence(generator, 1, 30) for _ in range(count)))


def answers(policy, texts, config, batch_size=32, keys=None):
    model, tokenizer = policy
    ids = tokenizer(texts)["input_ids"]
    found = {
        item.position: item for item in decode(model, tokenizer, ids, keys or texts, config, batch_size=batch_size)
    }
    return [found[i] for i in range(len(texts))]


@pytest.mark.parametrize("temperature, top_p, top_k", [(0.0, 1.0, 0), (1.0, 1.0, 0), (0.8, 0.9, 0), (1.2, 1.0, 5)])
def test_outputs_depend_neither_on_batches_nor_on_order(policy, temperature, top_p, top_k):
    config = DecodingConfig(max_new_tokens=16, temperature=temperature, top_p=top_p, top_k=top_k)
    texts = prompts_of(23)
    expected = [item.token_ids for item in answers(policy, texts, config)]
    assert len({tuple(tokens) for tokens in expected}) > 5
    for batch_size in (1, 4, 7):
        order = list(range(len(texts)))
        random.Random(batch_size).shuffle(order)
        found = answers(policy, [texts[i] for i in order], config, batch_size)
        assert [found[order.index(i)].token_ids for i in range(len(texts))] == expected


def test_greedy_is_what_transformers_generates_for_a_single_prompt(policy):
    model, tokenizer = policy
    texts = prompts_of(8)
    for text, item in zip(texts, answers(policy, texts, DecodingConfig(max_new_tokens=10)), strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=10)[
            0, inputs["input_ids"].shape[1] :
        ].tolist()
        assert item.token_ids == (tokens[: tokens.index(EOS)] if EOS in tokens else tokens)


def test_draws_follow_the_distribution_and_leave_out_what_they_should():
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.08, 0.02]))
    count = 6000
    for config, shares in (
        (DecodingConfig(temperature=1.0), [0.4, 0.3, 0.2, 0.08, 0.02]),
        (DecodingConfig(temperature=0.5), [0.16, 0.09, 0.04, 0.0064, 0.0004]),
        (DecodingConfig(temperature=1.0, top_k=2), [0.4, 0.3, 0, 0, 0]),
        (DecodingConfig(temperature=1.0, top_p=0.6), [0.4, 0.3, 0, 0, 0]),
    ):
        draws = SeededDraws([str(i) for i in range(count)], config, [9])
        tokens = draws(torch.zeros((count, 1), dtype=torch.long), logits.repeat(count, 1)).argmax(-1).numpy()
        expected = np.array(shares) / sum(shares)
        found = np.bincount(tokens, minlength=5) / count
        assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / count)
        assert (found[expected == 0] == 0).all()


def test_what_is_left_out_is_what_transformers_leaves_out():
    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    config = DecodingConfig(temperature=0.7, top_p=0.8, top_k=12)
    ids = torch.zeros((4, 1), dtype=torch.long)
    warped = LogitsProcessorList([TopKLogitsWarper(12), TopPLogitsWarper(0.8)])(ids, scores / 0.7)
    drawn = SeededDraws("abcd", config, [0])(ids, scores)
    assert torch.equal(torch.isneginf(drawn), torch.isneginf(warped))


def test_the_same_seed_draws_the_same_and_another_does_not(policy):
    texts = prompts_of(12)
    first, again, other = (
        [
            item.token_ids
            for item in answers(policy, texts, DecodingConfig(max_new_tokens=12, temperature=1.0, seed=seed))
        ]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_an_output_ends_at_any_of_the_models_ends(policy):
    model, tokenizer = policy
    text = prompts_of(1)
    first = answers(policy, text, DecodingConfig(max_new_tokens=8))[0].token_ids
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [EOS, first[2]]
    try:
        item = answers(policy, text, DecodingConfig(max_new_tokens=8))[0]
    finally:
        model.generation_config.eos_token_id = before
    assert item.finished and item.token_ids == first[: first.index(first[2])]


def test_settings_that_the_model_brings_along_do_not_count(policy):
    model, _ = policy
    texts, config = prompts_of(6), DecodingConfig(max_new_tokens=12)
    expected = [item.token_ids for item in answers(policy, texts, config)]
    own = model.generation_config
    own.repetition_penalty, own.do_sample, own.temperature = 5.0, True, 3.0
    try:
        assert [item.token_ids for item in answers(policy, texts, config)] == expected
        assert model.generation_config is own
    finally:
        own.repetition_penalty, own.do_sample, own.temperature = None, None, None


def test_training_mode_is_left_as_it_was(policy):
    model, _ = policy
    model.train()
    answers(policy, prompts_of(2), DecodingConfig(max_new_tokens=2))
    assert model.training
    model.eval()


def test_the_last_positions_limit_only_their_own_prompt(policy):
    texts = ["the", " ".join(["cat"] * 120), "a dog"]
    config = DecodingConfig(max_new_tokens=30)
    alone = [answers(policy, [text], config)[0].token_ids for text in texts]
    together = answers(policy, texts, config)
    assert [item.token_ids for item in together] == alone
    assert len(together[1].token_ids) <= 128 - 121 and not together[1].finished
    with pytest.raises(InputError, match="1 prompts fill all 128 positions.*Leave them out"):
        answers(policy, ["the", " ".join(["cat"] * 200)], config)


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_have_one_bos(chat):
    tokenizer = tiny_tokenizer()
    items = load_instructions(["the cat", "a big dog runs"])
    ids = encode_prompts(tokenizer, items, DecodingConfig(use_chat_template=chat))
    assert all(row[0] == BOS and row.count(BOS) == 1 for row in ids)
    assert all((row[-1] == ASSISTANT) == chat for row in ids)
    if chat:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "the cat"}], tokenize=False, add_generation_prompt=True
        )
        assert ids[0] == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert encode_prompts(tokenizer, items, DecodingConfig()) == ids


def test_chat_template_gets_the_system_prompt_and_its_arguments():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ bos_token }}", "{{ bos_token }}{% if loud %}big {% endif %}"
    )
    items = load_instructions(
        [{"messages": [{"role": "user", "content": "cat"}, {"role": "assistant", "content": "dog"}]}]
    )
    plain, system, loud = (
        tokenizer.decode(encode_prompts(tokenizer, items, config)[0])
        for config in (
            DecodingConfig(),
            DecodingConfig(system_prompt="the fish"),
            DecodingConfig(chat_template_kwargs={"loud": True}),
        )
    )
    assert "cat" in plain and "dog" not in plain
    assert system.index("the fish") < system.index("cat") and "<system>" in system
    assert "big" in loud and "big" not in plain


def test_without_a_template_messages_are_refused():
    tokenizer = tiny_tokenizer(chat_template=None)
    items = load_instructions(["the cat"])
    assert encode_prompts(tokenizer, items, DecodingConfig())[0][0] == BOS
    for config in (DecodingConfig(use_chat_template=True), DecodingConfig(system_prompt="x")):
        with pytest.raises(InputError, match="has no chat template"):
            encode_prompts(tokenizer, items, config)
    strict = tiny_tokenizer(chat_template="{{ raise_exception('no system role') }}")
    with pytest.raises(InputError, match="refuses instruction 0 of 1 .*no system role"):
        encode_prompts(strict, items, DecodingConfig())


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"max_new_tokens": 0}, "`max_new_tokens`"),
        ({"temperature": -1.0}, "`temperature`"),
        ({"temperature": 1.0, "top_p": 0.0}, "`top_p`"),
        ({"top_k": -1}, "`top_k`"),
        ({"top_p": 0.5}, "no effect at temperature 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        DecodingConfig(**changes)


def test_an_adapter_answers_like_its_merged_model(policy, tiny_models, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(tiny_models["causal"], dtype="float32")
    torch.manual_seed(5)
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=64, init_lora_weights=False, task_type="CAUSAL_LM"))
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    policy[1].save_pretrained(tmp_path / "merged")
    config, texts = DecodingConfig(max_new_tokens=10), prompts_of(9)
    by_adapter, by_merged, by_base = (
        [row["output"] for row in generate_outputs(str(path), texts, config=config)]
        for path in (tmp_path / "adapter", tmp_path / "merged", tiny_models["causal"])
    )
    assert by_adapter == by_merged != by_base


def recurrent(kind):
    """A tiny model of a kind whose state, positions or attention may read padding."""
    import transformers

    sizes = {"vocab_size": 31, "hidden_size": 16}
    config = {
        "recurrent_gemma": lambda: transformers.RecurrentGemmaConfig(
            **sizes, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, lru_width=16, head_dim=8,
            attention_window_size=16,
        ),
        "rwkv": lambda: transformers.RwkvConfig(**sizes, num_hidden_layers=2, context_length=64),
        "xlm": lambda: transformers.XLMConfig(vocab_size=31, emb_dim=16, n_layers=2, n_heads=2, causal=True),
        "mamba2": lambda: transformers.Mamba2Config(
            **sizes, num_hidden_layers=2, state_size=8, num_heads=4, head_dim=8, n_groups=1
        ),
        "opt": lambda: transformers.OPTConfig(
            **sizes, word_embed_proj_dim=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64
        ),
    }[kind]()  # fmt: skip
    config.pad_token_id, config.bos_token_id, config.eos_token_id = 1, BOS, EOS
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    return model


@pytest.mark.parametrize(
    "kind, batches",
    [("recurrent_gemma", "alike"), ("rwkv", None), ("xlm", "alike"), ("mamba2", "padded"), ("opt", "padded")],
)
def test_no_model_writes_something_else_in_a_batch(kind, batches):
    model, tokenizer = recurrent(kind), tiny_tokenizer()
    if batches is not None:
        assert batches_for(model, [EOS], 1) == batches
    texts, config = prompts_of(10, seed=5), DecodingConfig(max_new_tokens=8)
    alone = [item.token_ids for item in answers((model, tokenizer), texts, config, batch_size=1)]
    for batch_size in (3, 10):
        assert [item.token_ids for item in answers((model, tokenizer), texts, config, batch_size)] == alone


def test_what_writes_no_text_is_refused_before_it_is_loaded(tmp_path):
    import transformers

    small = {
        "vocab_size": 31,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
    }
    t5 = transformers.T5Config(vocab_size=31, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    t5.decoder_start_token_id = 0
    bert = transformers.BertConfig(**small)
    for config, message in (
        (t5, "an encoder with a decoder .t5."),
        (transformers.ViTConfig(**{k: v for k, v in small.items() if k != "vocab_size"}), "no language model .vit."),
    ):
        config.save_pretrained(tmp_path)
        with pytest.raises(InputError, match=message):
            generate_outputs(str(tmp_path), ["the cat"])
    encoder = transformers.BertLMHeadModel(bert).eval()
    with pytest.raises(InputError, match="bert. is an encoder"):
        generate_outputs((encoder, tiny_tokenizer()), ["the cat"])
    with pytest.raises(InputError, match="an encoder with a decoder"):
        generate_outputs((transformers.T5ForConditionalGeneration(t5), tiny_tokenizer()), ["the cat"])


@pytest.mark.parametrize("bad", [[10**6], [BOS] * 200], ids=["no such token", "too long"])
def test_errors_name_a_prompt_by_its_number(policy, bad):
    """Of a run that goes on, or on an actor, only some prompts are decoded."""
    with pytest.raises(InputError, match="[Pp]rompt 7 "):
        list(decode(*policy, [[BOS], bad], ["a", "b"], DecodingConfig(max_new_tokens=2), numbers=[3, 7]))
