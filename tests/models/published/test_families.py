"""Every output of each family stands against its published forward, and no code of a checkpoint is imported."""

import importlib.abc
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pd_trl import score_pairs
from pd_trl.errors import InputError
from pd_trl.models.outputs import outputs_of
from pd_trl.models.published import Checkpoint, family_of
from pd_trl.scoring import load_scorers
from pd_trl.scoring.encoding import conversations, encode_responses
from pd_trl.scoring.reward_models import named_models
from pd_trl.scoring.tokens import TokenRows
from tests.models.published.checkpoints import FAMILIES, write, write_internlm2
from tests.tiny import tiny_preferences, tiny_reward_model, tiny_tokenizer


class NoRemoteCode(importlib.abc.MetaPathFinder):
    """Refuses modules that transformers makes of a checkpoint's code."""

    def find_spec(self, name, path=None, target=None):
        if name.startswith("transformers_modules") or "modeling_custom" in name:
            raise AssertionError(f"{name} is code of a checkpoint")
        return None


@pytest.fixture(autouse=True)
def no_remote_code():
    finder = NoRemoteCode()
    sys.meta_path.insert(0, finder)
    yield
    sys.meta_path.remove(finder)
    assert not [name for name in sys.modules if "modeling_custom" in name]


def token_rows(tokenizer, chat=True):
    rows = list(tiny_preferences(8, chat=chat))
    return encode_responses(tokenizer, conversations(tokenizer, rows))


def rewards_of(folder, forward, names, signs=None, trust=False):
    """The rewards of conversations of several lengths by our scorer, beside the published ones of each by itself."""
    models = {f"aspect{k}": f"{folder}#{name}" for k, name in enumerate(names)}
    (scorer,) = load_scorers(models, trust_remote_code=trust)
    ids = token_rows(scorer.tokenizer)
    assert len({len(row) for row in ids}) > 3
    published = torch.stack([forward(row) for row in ids]) * torch.tensor(signs or [1] * len(names))
    return scorer(TokenRows.of(ids)).numpy(), published.numpy()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_output_is_the_published_one(family, tmp_path):
    forward = write(family, tmp_path / "model")
    outputs = outputs_of(tmp_path / "model")
    assert outputs.names == family.names and outputs.signs == (family.signs or [1] * len(family.names))
    found, expected = rewards_of(tmp_path / "model", forward, family.names, family.signs)
    assert found.shape == (16, len(family.names))
    assert np.abs(found - expected).max() < 1e-5


def test_remote_code_is_not_run_where_it_is_allowed_either(tmp_path):
    forward = write(FAMILIES[0], tmp_path / "model")
    found, expected = rewards_of(tmp_path / "model", forward, FAMILIES[0].names, trust=True)
    assert np.abs(found - expected).max() < 1e-5


def test_internlm2_reads_its_reward_token(tmp_path):
    tokenizer = tiny_tokenizer()
    reward_token = tokenizer.convert_tokens_to_ids("<system>")
    forward = write_internlm2(tmp_path / "model", reward_token, tokenizer)
    found, expected = rewards_of(tmp_path / "model", forward, ["reward"])
    assert np.abs(found - expected).max() < 1e-5
    # Plain texts end with it too.
    (scorer,) = load_scorers({"a": str(tmp_path / "model")})
    assert {row[-1] for row in token_rows(scorer.tokenizer, chat=False)} == {reward_token}


def test_internlm2_with_another_tokenizer_is_refused(tmp_path):
    write_internlm2(tmp_path / "model", 92527, tiny_tokenizer())
    with pytest.raises(InputError, match="no token of id 92527"):
        next(load_scorers({"a": str(tmp_path / "model")}))


@pytest.mark.parametrize("name", ["ultrarm", "beaver-cost", "grm", "starling"])
def test_the_last_token_is_read_where_it_is_the_pad_token(name, tmp_path):
    family = next(family for family in FAMILIES if family.name == name)
    forward = write(family, tmp_path / "model", tokenizer=tiny_tokenizer(pad_token="<eos>"))
    found, expected = rewards_of(tmp_path / "model", forward, family.names, family.signs)
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("beaver-reward", "<bos>BEGINNING OF CONVERSATION: USER: the cat ASSISTANT:a dog<eos>"),
        ("ultrarm", "<bos>Human: the cat\n\nAssistant: a dog"),
        ("eurus", "<bos>[INST] the cat [/INST] a dog"),
    ],
)
def test_a_tokenizer_without_template_gets_that_of_the_card(name, expected, tmp_path):
    family = next(family for family in FAMILIES if family.name == name)
    write(family, tmp_path / "model", tokenizer=tiny_tokenizer(chat_template=None))
    (scorer,) = load_scorers({"a": str(tmp_path / "model")})
    turns = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "a dog"}]
    assert scorer.tokenizer.apply_chat_template(turns, tokenize=False) == expected


def test_plain_classifiers_such_as_skywork_are_read_as_before(tmp_path):
    model = tiny_reward_model()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert family_of(Checkpoint(tmp_path)) is None
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    (scorer,) = load_scorers({"a": str(tmp_path)})
    ids = token_rows(scorer.tokenizer)
    with torch.no_grad():
        expected = torch.stack([whole(input_ids=torch.tensor([row])).logits[0] for row in ids])
    assert (scorer(TokenRows.of(ids)) - expected).abs().max() < 1e-5


def test_a_cost_votes_for_the_safer_side_unless_told_otherwise(tmp_path):
    family = next(family for family in FAMILIES if family.name == "beaver-cost")
    write(family, tmp_path / "cost")
    data = tiny_preferences(8, chat=True).remove_columns("aspect")
    data = data.add_column("aspect", ["overall"] * 8)
    folder = str(tmp_path / "cost")
    known, stated, raw = (
        np.array(score_pairs(data, {"safety": model})["reward_gap_safety"][:])
        for model in (folder, f"-{folder}", {"model": folder, "sign": 1})
    )
    assert np.array_equal(known, stated) and np.array_equal(known, -raw) and raw.any()
    assert list(named_models(folder)) == ["safety"]


def test_armorm_votes_with_nineteen_outputs_from_one_pass(tmp_path):
    write(FAMILIES[0], tmp_path / "armorm")
    data = tiny_preferences(6, chat=True).remove_columns("aspect").add_column("aspect", ["overall"] * 6)
    scored = score_pairs(data, str(tmp_path / "armorm"))
    assert [name for name in scored.column_names if name.startswith("reward_gap_")] == [
        f"reward_gap_{name}" for name in FAMILIES[0].names
    ]


def test_ldl_reward_is_refused_with_the_reason(tmp_path):
    family = FAMILIES[0]
    write(family, tmp_path / "model")
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "model" / "model.safetensors")
    tensors["regression_layer.network.0.weight"] = tensors.pop("regression_layer.weight")
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    with pytest.raises(InputError, match="not supported: its outputs are probabilities"):
        next(load_scorers({"a": str(tmp_path / "model")}))


def test_a_backbone_that_transformers_does_not_know_is_refused(tmp_path):
    import json

    write(FAMILIES[0], tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own"}))
    with pytest.raises(InputError, match="'own', which transformers does not know; code of a model is not run"):
        next(load_scorers({"a": f"{tmp_path / 'model'}#0"}))


def test_missing_weights_of_the_backbone_are_named(tmp_path):
    from safetensors.torch import load_file, save_file

    write(FAMILIES[3], tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks the weights norm.weight"):
        next(load_scorers({"a": str(tmp_path / "model")}))
