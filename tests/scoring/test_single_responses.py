"""Rewards of single responses."""

import numpy as np
import pytest
from datasets import Dataset

from pd_trl import score_pairs, score_responses
from pd_trl.errors import InputError, InputTypeError
from pd_trl.scoring import score_response_rows
from tests.data.test_plain import as_chat, as_whole, messages, plain
from tests.tiny import tiny_reward_model, tiny_tokenizer


@pytest.fixture(scope="module")
def models():
    tokenizer = tiny_tokenizer()
    return {f"m{seed}": (tiny_reward_model(seed), tokenizer) for seed in (1, 2)}


@pytest.mark.parametrize("chat", [False, True])
def test_rewards_are_those_of_pairs(models, chat):
    data = plain(20)
    given = data.map(as_chat) if chat else data
    chosen, rejected = (score_responses(given["prompt"][:], given[side][:], models) for side in ("chosen", "rejected"))
    scored = score_pairs(data, models, chat=chat)
    for name in models:
        assert chosen[name].dtype == np.float32 and chosen[name].shape == (20,)
        gaps = chosen[name] - rejected[name]
        np.testing.assert_allclose(gaps, scored[f"reward_gap_{name}"][:], atol=1e-6)
    if chat:
        again = score_responses(data["prompt"][:], data["chosen"][:], models, chat=True)
        whole = score_responses(None, [as_whole(row)["chosen"] for row in data], models)
        half = score_responses(given["prompt"][:], data["chosen"][:], models)
        for name in models:
            for other in (again, whole, half):
                np.testing.assert_allclose(other[name], chosen[name], atol=1e-6)


def test_several_responses_to_a_prompt(models):
    data = plain(3)
    several = [[row["chosen"], row["rejected"]] for row in data]
    several[1] = []
    found = score_responses(data["prompt"], several, models)
    alone = score_responses([data[0]["prompt"]] * 2, several[0], models)
    for name in models:
        assert [values.shape for values in found[name]] == [(2,), (0,), (2,)]
        np.testing.assert_allclose(found[name][0], alone[name], atol=1e-6)


def test_scores_of_a_model_are_those_of_the_model_itself(models):
    import torch

    model, tokenizer = models["m1"]
    data = plain(3)
    found = score_responses(data["prompt"], data["chosen"], {"m1": models["m1"]})["m1"]
    for row, reward in zip(data, found, strict=True):
        ids = tokenizer(row["prompt"] + row["chosen"] + tokenizer.eos_token, return_tensors="pt")
        with torch.no_grad():
            assert model(**ids).logits.item() == pytest.approx(reward, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ((["a"], ["b", "c"]), InputError, "of one length"),
        ((["a"], [""]), InputError, "number 0 is ''"),
        ((["a", "b"], [["c"], "d"]), InputError, "mixes single responses"),
        (("a", "b"), InputTypeError, "must be a list"),
        ((None, ["b"]), InputError, "whole conversation"),
        (([None], ["b"]), InputError, "A prompt must be"),
        (([], []), InputError, "empty"),
        ((["a"], [[]]), InputError, "empty"),
        ((["a"], [messages("user", "b")]), InputError, "response"),
    ],
)
def test_unusable_texts_are_said_in_one_line(models, arguments, kind, words):
    with pytest.raises(kind, match=words):
        score_responses(*arguments, models)


ROWS = {
    "response": (lambda row: {"prompt": row["prompt"], "response": row["chosen"]}, None),
    "alpaca": (lambda row: {"instruction": row["prompt"], "input": "", "output": row["chosen"]}, None),
    "completion": (lambda row: {"question": row["prompt"], "completion": row["chosen"], "n": 1}, None),
    "named": (lambda row: {"q": row["prompt"], "a1": row["chosen"]}, {"prompt": "q", "response": "a1"}),
    "messages": (lambda row: {"messages": as_whole(row)["chosen"]}, None),
    "named messages": (lambda row: {"turns": as_whole(row)["chosen"]}, {"messages": "turns"}),
    "chat": (lambda row: {"prompt": as_chat(row)["prompt"], "completion": as_chat(row)["chosen"]}, None),
    "half chat": (lambda row: {"prompt": row["prompt"], "response": as_chat(row)["chosen"]}, None),
}


@pytest.mark.parametrize(("form", "mapping"), ROWS.values(), ids=ROWS)
def test_forms_of_files(models, form, mapping):
    data = plain(4)
    rows = Dataset.from_list([form(row) for row in data])
    found = score_response_rows(rows, models, column_mapping=mapping)
    is_chat = any(isinstance(value, list) for value in rows[0].values())
    expected = score_responses(data["prompt"], data["chosen"], models, chat=is_chat)
    assert found.column_names == [*rows.column_names, "reward_m1", "reward_m2"]
    assert found.remove_columns(["reward_m1", "reward_m2"]).to_list() == rows.to_list()
    for name in models:
        np.testing.assert_allclose(found[f"reward_{name}"][:], expected[name], atol=1e-6)


@pytest.mark.parametrize(
    ("row", "mapping", "words"),
    [
        ({"prompt": "a", "response": "b", "output": "c"}, None, "Which column is the response"),
        ({"x": "a", "response": "b"}, None, "no prompt"),
        ({"x": "a"}, None, "no response"),
        ({"prompt": "a", "response": "b"}, {"response": "respons"}, "not a column"),
        ({"prompt": "a", "response": "b"}, {"chosen": "response"}, "unknown name"),
        ({"prompt": "a", "response": None}, None, "response is null"),
        ({"messages": messages("user", "a")}, None, "messages"),
    ],
)
def test_files_that_cannot_be_scored(models, row, mapping, words):
    with pytest.raises(InputError, match=words):
        score_response_rows(Dataset.from_list([row]), models, column_mapping=mapping)


def test_long_responses_are_counted_cut_or_dropped(models, caplog):
    rows = Dataset.from_list([{"prompt": "the cat", "response": "dog " * n} for n in (3, 40)])
    cut = score_response_rows(rows, models, max_length=20)
    assert len(cut) == 2 and "1 of 2 responses are longer than 20 tokens" in caplog.text
    assert len(score_response_rows(rows, models, max_length=20, on_long="drop")) == 1
    with pytest.raises(InputError, match="1 responses are longer than 20 tokens, the first row 1"):
        score_response_rows(rows, models, max_length=20, on_long="error")
    with pytest.raises(InputError, match="'truncate' or 'error'"):
        score_responses(["a"], ["b"], models, on_long="drop")


def test_a_second_call_goes_on_with_the_shards_there_are(models, tmp_path):
    rows = Dataset.from_list([{"prompt": row["prompt"], "response": row["chosen"]} for row in plain(9)])
    first = score_response_rows(rows, models, output_dir=tmp_path, pairs_per_shard=4)
    done = sorted(tmp_path.rglob("*.done"))
    assert len(done) == 6
    done[0].unlink()
    stamps = {path: path.stat().st_mtime_ns for path in done[1:]}
    again = score_response_rows(rows, models, output_dir=tmp_path, pairs_per_shard=4)
    assert again.to_list() == first.to_list()
    assert {path: path.stat().st_mtime_ns for path in done[1:]} == stamps and done[0].exists()


def test_strings_for_a_model_with_a_chat_template_are_spoken_of(models, caplog):
    score_responses(["the cat"], ["a dog"], models)
    assert "joined without it" in caplog.text
    caplog.clear()
    score_responses(["the cat"], ["a dog"], models, chat=True)
    assert "joined without it" not in caplog.text
