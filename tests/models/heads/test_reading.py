import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaModel

from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardModel
from tests.tiny import ASPECTS, tiny_config

LENGTHS, RESPONSES = (9, 5, 7, 2), (4, 5, 1, 2)
CHOICES = [
    {"pooling": "mean"},
    {"pooling": "mean", "layers": [1, 2], "standardize": True},
    {"pooling": "last", "layers": [2]},
]


def batch(padding: str) -> dict[str, torch.Tensor]:
    """Four rows of tokens, whose responses end them; the padding is on one side."""
    ids = torch.randint(4, 29, (4, 9), generator=torch.Generator().manual_seed(0))
    inputs = {name: torch.zeros(4, 9, dtype=torch.long) for name in ("attention_mask", "response_mask")}
    inputs["input_ids"] = torch.ones(4, 9, dtype=torch.long)
    for row, (length, response) in enumerate(zip(LENGTHS, RESPONSES, strict=True)):
        begin = 0 if padding == "right" else 9 - length
        inputs["input_ids"][row, begin : begin + length] = ids[row, :length]
        inputs["attention_mask"][row, begin : begin + length] = 1
        inputs["response_mask"][row, begin + length - response : begin + length] = 1
    return inputs


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    torch.manual_seed(0)
    model = LlamaModel(tiny_config(num_hidden_layers=3))
    torch.nn.init.uniform_(model.norm.weight, 0.5, 2.0)
    folder = tmp_path_factory.mktemp("backbone")
    model.save_pretrained(folder)
    return str(folder)


def heads(backbone: str, **reading) -> MultiAspectRewardModel:
    torch.manual_seed(0)
    model = MultiAspectRewardModel.from_backbone(backbone, ASPECTS, **reading)
    if reading.get("standardize"):
        torch.nn.init.normal_(model.score.weight)
        model.score.measure(model.read(**batch("right")))
    return model


@torch.no_grad()
def by_hand(model: MultiAspectRewardModel, backbone: str) -> torch.Tensor:
    """Rewards of each row alone, from the hidden states of the whole backbone."""
    whole, layers = LlamaModel.from_pretrained(backbone).eval(), model.config.layers or [3]
    inputs, rewards = batch("right"), []
    for ids, length, response in zip(inputs["input_ids"], LENGTHS, RESPONSES, strict=True):
        found = whole(ids[None, :length], output_hidden_states=True)
        states = [found.hidden_states[n][0] for n in layers]
        # transformers gives the last state with the norm.
        states[-1] = states[-1] if layers[-1] == 3 else whole.norm(states[-1])
        states = torch.cat(states, dim=1)
        features = states[-response:].mean(0) if model.config.pooling == "mean" else states[-1]
        if model.config.standardize:
            features = (features - model.score.mean) / model.score.scale
        rewards.append(model.score.weight @ features)
    return torch.stack(rewards)


@pytest.mark.parametrize("reading", CHOICES, ids=str)
def test_rewards_are_those_of_each_row_alone_and_survive_saving(backbone, tmp_path, reading):
    model = heads(backbone, **reading)
    expected = by_hand(model, backbone)
    assert len(model.model.layers) == (reading.get("layers") or [3])[-1] and expected.std(0).min() > 1e-3
    with torch.no_grad():
        for padding in ("right", "left"):
            torch.testing.assert_close(model(**batch(padding)).logits, expected, atol=1e-5, rtol=1e-4)
        again = model(features=model.read(**batch("left"))).logits
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.reading == {k: v for k, v in reading.items() if v != "last"}
    with torch.no_grad():
        assert torch.equal(loaded(**batch("right")).logits, model(**batch("right")).logits)


def test_a_configuration_from_before_there_was_a_choice_is_the_last_token(backbone, tmp_path):
    model = MultiAspectRewardModel.from_backbone(backbone, ASPECTS, pooling="last")
    model.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert not {"layers", "standardize"} & set(content)
    del content["pooling"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    loaded = MultiAspectRewardModel.from_pretrained(tmp_path)
    assert loaded.config.pooling == "last" and loaded.config.reading == {}
    assert torch.equal(loaded(**batch("right")).logits, model(**batch("right")).logits)


def test_what_cannot_be_read_is_refused(backbone, tmp_path):
    load = MultiAspectRewardModel.from_backbone
    with pytest.raises(InputError, match="has 3 layers, and `layers` names layer 4"):
        load(backbone, ASPECTS, layers=[2, 4])
    with pytest.raises(InputError, match="ascending"):
        load(backbone, ASPECTS, layers=[2, 1])
    with pytest.raises(InputError, match="'last' and 'mean', not by 'first'"):
        load(backbone, ASPECTS, pooling="first")
    model = load(backbone, ASPECTS, pooling="mean", standardize=True)
    with pytest.raises(InputError, match="`response_mask`"):
        model(batch("right")["input_ids"])
    with pytest.raises(InputError, match="not measured"):
        model(**batch("right"))
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="read pooling='mean', not 'last'"):
        load(tmp_path, ASPECTS, pooling="last")
