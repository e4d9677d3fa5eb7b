"""What a model cannot take in is said with the row: in scoring, both trainers, generation, evaluation and the commands."""

import json

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from transformers import LlamaForCausalLM

from pd_trl import (
    PDDPOConfig,
    PDDPOTrainer,
    PDRewardConfig,
    PDRewardTrainer,
    evaluate_rewards,
    generate_outputs,
    score_pairs,
)  # fmt: skip
from pd_trl.errors import InputError
from pd_trl.generation import DecodingConfig
from pd_trl.models.inputs import check_token_ids
from pd_trl.models.positions import positions_of
from tests.cli.conftest import command  # noqa: F401
from tests.tiny import CHAT_TEMPLATE, encode_pair, tiny_config, tiny_preferences, tiny_reward_model, tiny_tokenizer

SIZE = tiny_config().vocab_size
BERT_LIKE = {"vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "pad_token_id": 1, "num_labels": 1}  # fmt: skip
FAST = {"use_cpu": True, "bf16": False, "max_steps": 1, "report_to": [], "save_strategy": "no"}
ONE_STEP = ("--max_steps", "1", "--report_to", "none")
# Takes turns of the user and the assistant only, as Mistral's and Gemma's.
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
)


def classifier(config, seed=0):
    torch.manual_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    return model


def save(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def chats(odd=None, count=6):
    """Conversations, the fifth with `odd` in place of its prompt."""
    rows = tiny_preferences(count, chat=True).to_list()
    if odd is not None:
        rows[4]["prompt"] = odd
    return Dataset.from_list(rows)


TWO_USERS = [{"role": "user", "content": "the cat"}, {"role": "user", "content": "the dog"}]


@pytest.mark.parametrize(
    "config, expected",
    [
        (transformers.CamembertConfig(max_position_embeddings=40, **BERT_LIKE), 38),
        (transformers.MPNetConfig(max_position_embeddings=33, **BERT_LIKE), 31),
        (transformers.BertConfig(max_position_embeddings=40, **BERT_LIKE), 40),
        (transformers.OPTConfig(vocab_size=SIZE, hidden_size=16, word_embed_proj_dim=16, ffn_dim=32, num_hidden_layers=1,
                                num_attention_heads=2, max_position_embeddings=24), 24),
        (transformers.XLNetConfig(vocab_size=SIZE, d_model=16, n_layer=1, n_head=2, d_inner=32, pad_token_id=1), None),
        (tiny_config(max_position_embeddings=77), 77),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)  # fmt: skip
def test_positions_are_those_that_can_be_used(config, expected):
    model = classifier(config)
    assert positions_of(model) == expected
    if expected is not None:
        ids = torch.full((1, expected), 9)
        assert torch.isfinite(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits).all()


@pytest.mark.parametrize(
    "config",
    [
        transformers.RobertaConfig(max_position_embeddings=22, **BERT_LIKE),
        transformers.XLNetConfig(vocab_size=SIZE, d_model=16, n_layer=2, n_head=2, d_inner=32, pad_token_id=1,
                                 num_labels=1),
        transformers.BartConfig(vocab_size=SIZE, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
                                decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, num_labels=1,
                                pad_token_id=1, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
@pytest.mark.parametrize("chat", [False, True])
def test_other_families_are_scored_as_each_side_alone(config, chat):
    model, tokenizer, data = classifier(config), tiny_tokenizer(), tiny_preferences(9, chat=chat)
    longest = positions_of(model)
    expected = []
    for row in data:
        gaps = []
        for ids in encode_pair(tokenizer, row):
            if longest is not None and len(ids) > longest:
                # An encoder reads its reward at the first token, which stays.
                ids = ids[:1] + ids[len(ids) - longest + 1 :]
            with torch.no_grad():
                gaps.append(model(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits.item())
        expected.append(gaps[0] - gaps[1])
    scored = score_pairs(data, {"honesty": (model, tokenizer)})
    assert np.allclose(scored["reward_gap_honesty"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "odd, reason",
    [(TWO_USERS, "must alternate"), ([{"role": "tool", "content": "the cat"}], "concatenate str")],
    ids=str,
)
def test_a_row_that_the_template_refuses_is_named(odd, reason, tmp_path, tiny_models):
    # The second fails in the template by a TypeError, not by one of its own.
    tool = "{% for m in messages if m['role'] == 'tool' %}{{ m['content'] + 1 }}{% endfor %}"
    tokenizer = tiny_tokenizer(chat_template=tool + STRICT)
    model, policy, data = tiny_reward_model(), LlamaForCausalLM(tiny_config()), chats(odd)
    with pytest.raises(InputError, match=f"chosen side of pair_id 'pair0004' .*{reason}"):
        score_pairs(data, {"honesty": (model, tokenizer)})
    for trainer, config in ((PDRewardTrainer, PDRewardConfig), (PDDPOTrainer, PDDPOConfig)):
        start = save(policy, tokenizer, tmp_path / "policy")
        with pytest.raises(InputError, match=f"row 4 of the train set .pair_id 'pair0004'.*{reason}"):
            trainer(model=start, args=config(str(tmp_path), **FAST), train_dataset=data)
        with pytest.raises(InputError, match="row 4 of the eval set"):
            trainer(
                model=start, args=config(str(tmp_path), **FAST), train_dataset=chats(), eval_dataset=data,
            )  # fmt: skip
    with pytest.raises(InputError, match=f"a response of example 4 .*{reason}"):
        evaluate_rewards({"m": (model, tokenizer)}, data)


def test_an_instruction_that_the_template_refuses_is_named():
    policy = (LlamaForCausalLM(tiny_config()), tiny_tokenizer(chat_template=STRICT))
    with pytest.raises(InputError, match="instruction 1 of 2 .roles: user, user.: Conversation roles must alternate"):
        generate_outputs(policy, [{"messages": TWO_USERS[:1]}, {"messages": TWO_USERS}])


def test_a_stream_names_the_row_when_it_is_read(tmp_path):
    tokenizer = tiny_tokenizer(chat_template=STRICT)
    start = save(LlamaForCausalLM(tiny_config()), tokenizer, tmp_path / "policy")
    stream = chats(TWO_USERS).to_iterable_dataset()
    trainer = PDDPOTrainer(model=start, args=PDDPOConfig(str(tmp_path), **FAST), train_dataset=stream)
    with pytest.raises(InputError, match="row 4 of the train set"):
        list(trainer.train_dataset)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"vocab_size": 12, "n_positions": 64}, "has the token .* embeddings"),
        ({"n_positions": 12}, "positions for 12"),
    ],
)
@pytest.mark.parametrize("trainer, config", [(PDRewardTrainer, PDRewardConfig), (PDDPOTrainer, PDDPOConfig)])
def test_a_stream_is_checked_for_tokens_and_positions(trainer, config, limits, words, tmp_path):
    sizes = {
        "vocab_size": SIZE,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "pad_token_id": 1,
        "eos_token_id": 3,
    } | limits
    start = save(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)), tiny_tokenizer(), tmp_path / "gpt2")
    args = config(str(tmp_path / "out"), max_steps=5, report_to="none", use_cpu=True, per_device_train_batch_size=2)
    if config is PDRewardConfig:
        args.length_balance_temperature = None
    stream = tiny_preferences(12).to_iterable_dataset()
    made = trainer(model=start, args=args, train_dataset=stream, eval_dataset={"held": stream})
    for rows, name in ((made.train_dataset, "train"), (made.eval_dataset["held"], "held")):
        with pytest.raises(InputError, match=rf"^Row \d+ of the {name} set .*{words}"):
            list(rows)
    with pytest.raises(InputError, match=words):
        made.train()


@pytest.mark.parametrize("trainer, config", [(PDRewardTrainer, PDRewardConfig), (PDDPOTrainer, PDDPOConfig)])
def test_without_a_pad_and_an_eos_token(trainer, config, tmp_path):
    tokenizer = tiny_tokenizer(pad_token=None)
    tokenizer.eos_token = None
    start = save(LlamaForCausalLM(tiny_config()), tokenizer, tmp_path / "policy")
    with pytest.raises(InputError, match="no pad token .* Set `tokenizer.pad_token`"):
        trainer(model=start, args=config(str(tmp_path), **FAST), train_dataset=chats(TWO_USERS))


def test_without_an_eos_token_plain_text_is_refused(tmp_path, command):  # noqa: F811
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    tokenizer.sep_token = "."
    data = tiny_preferences(8)
    data.to_parquet(str(tmp_path / "data.parquet"))
    reward = save(tiny_reward_model(), tokenizer, tmp_path / "reward")
    policy = save(LlamaForCausalLM(tiny_config()), tokenizer, tmp_path / "policy")
    with pytest.raises(InputError, match="no EOS token.*`sep_token` is '.'"):
        score_pairs(data, {"honesty": reward})
    with pytest.raises(InputError, match="no EOS token"):
        evaluate_rewards({"m": reward}, data)
    with pytest.raises(InputError, match="no EOS token"):
        PDRewardTrainer(model=reward, args=PDRewardConfig(str(tmp_path), **FAST), train_dataset=data)
    with pytest.raises(InputError, match="no EOS token"):
        PDDPOTrainer(model=policy, args=PDDPOConfig(str(tmp_path), **FAST), train_dataset=data)
    # The reward training has an argument for it.
    PDRewardTrainer(model=reward, args=PDRewardConfig(str(tmp_path), eos_token=".", **FAST), train_dataset=data)
    places = ("--dataset_name", tmp_path / "data.parquet", "--model_name_or_path")
    command("reward", *places, policy, "--output_dir", tmp_path / "r", *ONE_STEP).refused("no EOS token")
    command("dpo", *places, policy, "--output_dir", tmp_path / "d", *ONE_STEP).refused("no EOS token")


def test_a_token_without_an_embedding_is_named(tmp_path, command):  # noqa: F811
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["zebra", "okapi"])
    rows = tiny_preferences(8).to_list()
    rows[5]["rejected"] = "the okapi"
    data = Dataset.from_list(rows)
    data.to_parquet(str(tmp_path / "data.parquet"))
    reward = save(tiny_reward_model(), tokenizer, tmp_path / "reward")
    policy = save(LlamaForCausalLM(tiny_config()), tokenizer, tmp_path / "policy")
    said = f"'okapi' with the id {SIZE + 1}, but the model has {SIZE} embeddings"
    with pytest.raises(InputError, match=f"The rejected side of pair_id 'pair0005' has the token {said}"):
        score_pairs(data, {"honesty": reward})
    with pytest.raises(InputError, match=f"A response of example 5 .* {said}"):
        evaluate_rewards({"m": reward}, data)
    for trainer, config, start in (
        (PDRewardTrainer, PDRewardConfig, reward), (PDDPOTrainer, PDDPOConfig, policy),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"Row 5 of the train set .pair_id 'pair0005'. has the token {said}"):
            trainer(model=start, args=config(str(tmp_path), **FAST), train_dataset=data)
    with pytest.raises(InputError, match=f"Prompt 1 has the token {said}"):
        generate_outputs(policy, ["the cat", "an okapi"], config=DecodingConfig(max_new_tokens=2))
    places = ("--dataset_name", tmp_path / "data.parquet", "--output_dir", tmp_path / "out")
    command("score", *places, "--reward_models", json.dumps({"honesty": reward})).refused("'okapi'", "pair0005")
    # With the vocabulary resized it is one token more, no fault.
    model = tiny_reward_model()
    model.resize_token_embeddings(len(tokenizer))
    assert len(score_pairs(data, {"honesty": (model, tokenizer)})) == 8


def test_first_token_without_an_embedding():
    tokenizer = tiny_tokenizer()
    check_token_ids([1, 2], [1, 1], 3, tokenizer, str)
    check_token_ids([9], [1], None, tokenizer, str)
    with pytest.raises(InputError, match="^Row 2 has .* id 5"):
        check_token_ids([1, 2, 0, 5, 9], [2, 0, 2, 1], 3, tokenizer, lambda index: f"row {index}")


@pytest.mark.parametrize("trainer, config", [(PDRewardTrainer, PDRewardConfig), (PDDPOTrainer, PDDPOConfig)])
def test_rows_beyond_the_learned_positions_are_refused(trainer, config, tmp_path):
    sizes = transformers.GPT2Config(vocab_size=SIZE, n_embd=16, n_layer=1, n_head=2, n_positions=20, pad_token_id=1)
    start = save(transformers.GPT2LMHeadModel(sizes), tiny_tokenizer(), tmp_path / "gpt2")
    data = tiny_preferences(12)
    with pytest.raises(
        InputError, match=r"has \d+ tokens, but the model has positions for 20 .*Set `max_length` to 20"
    ):
        trainer(model=start, args=config(str(tmp_path), **FAST), train_dataset=data)
    trainer(model=start, args=config(str(tmp_path), max_length=20, **FAST), train_dataset=data).train()
