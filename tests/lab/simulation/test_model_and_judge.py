import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from pd_trl.errors import InputError
from pd_trl.lab.simulation.data import simulate_corpus, simulate_pairs, simulate_prompts
from pd_trl.lab.simulation.judge import generate_responses, gold_scores, gold_summary, gold_win_rate
from pd_trl.lab.simulation.language import parse_response
from pd_trl.lab.simulation.model import build_tokenizer, pretrain
from pd_trl.lab.simulation.world import SimulatedWorld

WORLD = SimulatedWorld(seed=2)


@pytest.fixture(scope="module")
def corpus():
    return simulate_corpus(4000, world=WORLD)


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    result = pretrain(corpus, folder, seed=2, hidden_size=48, num_epochs=2, batch_size=32)
    assert torch.equal(torch.get_rng_state(), state)
    return folder, result


@pytest.fixture(scope="module")
def policy(pretrained):
    return AutoModelForCausalLM.from_pretrained(pretrained[0]), AutoTokenizer.from_pretrained(pretrained[0])


def test_tokenizer_gives_the_text_back(pretrained):
    tokenizer = AutoTokenizer.from_pretrained(pretrained[0])
    special = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert len(set(special)) == 4
    unseen = simulate_pairs(200, 11)
    texts = [*unseen["prompt"], *unseen["response_a"], *simulate_prompts(100, 11)]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_chat_and_plain_text_are_the_same_tokens(pretrained, corpus):
    tokenizer = AutoTokenizer.from_pretrained(pretrained[0])
    prompt, response = corpus[0]["prompt"], corpus[0]["completion"]
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    chat = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    assert chat == tokenizer(prompt + response + tokenizer.eos_token)["input_ids"]
    start = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert start == tokenizer(prompt)["input_ids"] == chat[: len(start)]


def test_vocabulary_does_not_depend_on_order(corpus):
    texts = [row["completion"] for row in corpus[:300]]
    first = build_tokenizer(texts).get_vocab()
    random.Random(1).shuffle(texts)
    assert build_tokenizer(texts).get_vocab() == first


def test_pretraining_learns_to_write(pretrained, policy):
    result = pretrained[1]
    assert result["final_loss"] < 0.4 * result["initial_loss"]
    outputs = generate_responses(*policy, simulate_prompts(100, 2), seed=2)
    kinds = [sentence.kind for row in outputs for sentence in parse_response(row["output"])]
    assert kinds.count("unknown") < 0.25 * len(kinds)
    assert len(set(kinds)) > 6


def test_pretraining_is_reproducible(corpus, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        pretrain(corpus[:200], tmp_path / name, seed=seed, hidden_size=16, num_layers=1)
    a, b, c = (AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_reward_models_start_from_it(pretrained):
    model = AutoModelForSequenceClassification.from_pretrained(pretrained[0], num_labels=1)
    causal = AutoModelForCausalLM.from_pretrained(pretrained[0])
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, causal.model.layers[0].mlp.up_proj.weight)
    assert model.config.pad_token_id != model.config.eos_token_id


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_generation_does_not_depend_on_batches(policy, temperature):
    prompts = simulate_prompts(40, 2)
    outputs = generate_responses(*policy, prompts, seed=1, temperature=temperature)
    assert [row["instruction"] for row in outputs] == prompts
    turned = generate_responses(*policy, prompts[::-1], seed=1, temperature=temperature, batch_size=7)
    assert turned[::-1] == outputs
    other = generate_responses(*policy, prompts, seed=2, temperature=temperature)
    assert (other == outputs) == (temperature == 0.0)


def test_greedy_agrees_with_transformers(policy):
    model, tokenizer = policy
    for row in generate_responses(model, tokenizer, simulate_prompts(5, 3), temperature=0.0, max_new_tokens=30):
        inputs = tokenizer(row["instruction"], return_tensors="pt")
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :]
        assert tokenizer.decode(ids, skip_special_tokens=True) == row["output"]


def test_generation_leaves_the_model_as_it_was(policy):
    model, tokenizer = policy
    model.train()
    generate_responses(model, tokenizer, simulate_prompts(2, 1), max_new_tokens=2)
    assert model.training
    model.eval()


def records(*answers: str) -> list[dict[str, str]]:
    return [
        {"instruction": prompt, "output": text}
        for prompt, text in zip(simulate_prompts(len(answers), 1), answers, strict=True)
    ]


def test_identical_outputs_win_half():
    outputs = records("Hello.", "Stay safe.", "")
    result = gold_win_rate(outputs, outputs[::-1], WORLD)
    assert (result["win_rate"], result["win_rate_se"], result["win_score"], result["gold_gap"]) == (0.5, 0.0, 1.0, 0.0)
    assert result["ties"] == 3


def test_wins_by_hand():
    prompt = "Help me save money. Use at most three sentences. Number the steps."
    other = prompt.replace("save money", "move house")
    third = prompt.replace("save money", "bake bread")
    good, bad = "Step 1, check the budget. Stay safe.", "I guarantee a perfect result."
    a = [{"instruction": p, "output": o} for p, o in ((prompt, good), (other, bad), (third, bad))]
    b = [{"instruction": p, "output": o} for p, o in ((third, bad), (prompt, bad), (other, ""))]
    result = gold_win_rate(a, b, WORLD)
    assert (result["wins"], result["losses"], result["ties"]) == (2, 0, 1)
    assert result["win_rate"] == pytest.approx(2.5 / 3)
    assert result["win_rate_se"] == pytest.approx(np.std([1, 1, 0.5], ddof=1) / np.sqrt(3))
    assert result["win_score"] == pytest.approx(1 + 2 / 3)
    back = gold_win_rate(b, a, WORLD)
    assert back["win_rate"] == pytest.approx(1 - result["win_rate"])
    assert back["gold_gap"] == pytest.approx(-result["gold_gap"])


def test_summary(policy):
    outputs = records("Hello.", "Stay safe.")
    scores, summary = gold_scores(outputs, WORLD), gold_summary(outputs, WORLD)
    assert scores.shape == (2, 4)
    assert summary["gold"] == pytest.approx(scores.sum(1).mean())
    assert summary["gold_se"] == pytest.approx(abs(np.diff(scores.sum(1)))[0] / 2)
    assert summary["gold_honesty"] == pytest.approx(scores[:, 1].mean())
    assert summary["num_words"] == 1.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: gold_win_rate(records("Hello."), records("Hello.", "Hi there."), WORLD),
            "1 are answered by one side",
        ),
        (lambda: gold_win_rate(records("Hello.") * 2, records("Hello."), WORLD), "1 different instruction"),
        (lambda: gold_scores([], WORLD), "empty"),
        (lambda: gold_scores([{"prompt": "x"}], WORLD), r"outputs\[0\]"),
        (lambda: pretrain([], "nowhere"), "0 rows"),
        (lambda: pretrain([{"text": "x"}], "nowhere"), "text"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_generation_refuses_bad_arguments(policy):
    with pytest.raises(InputError, match="at least one prompt"):
        generate_responses(*policy, [])
    with pytest.raises(InputError, match="temperature"):
        generate_responses(*policy, ["Help me save money."], temperature=-1.0)
