"""What strangers write into a checkpoint is refused in one message, and never broadcast or taken for another value."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pd_trl.errors import InputError
from pd_trl.models.named import model_output
from pd_trl.models.outputs import outputs_of
from pd_trl.models.published.conversion import convert_reward_model
from tests.models.published.checkpoints import FAMILIES, HIDDEN, write

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize(
    ("family", "name", "value", "says"),
    [
        ("armorm", "num_quantiles", "abc", "`num_quantiles`"),
        ("armorm", "num_quantiles", -19, "does not divide"),
        ("armorm", "id2label", [], "cannot be loaded"),
        ("starling", "reward_token_id", [1], "`reward_token_id`"),
        ("starling", "reward_token_id", -5, "no token of id -5"),
        ("beaver-cost", "score_type", ["cost"], "score_type"),
        ("ultrarm", "hidden_size", "x", "hidden_size"),
        ("ultrarm", "model_type", ["llama"], "model_type|unhashable"),
    ],
)
def test_hostile_values_of_a_configuration_are_one_message(family, name, value, says, tmp_path):
    write(BY_NAME[family], tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(InputError, match=says):
        convert_reward_model(tmp_path / "model", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("family", "name", "tensor", "says"),
    [
        ("armorm", "regression_layer.weight", torch.randn(19), "no linear layer"),
        ("armorm", "regression_layer.weight", torch.ones(19, HIDDEN, dtype=torch.int8), "int8"),
        # One column would be copied into all of them.
        ("ultrarm", "regression_head.weight", torch.randn(1, 1), "not of one model"),
        ("inf-orm", "score.2.weight", torch.randn(1, 3), "no linear layer"),
        ("inf-orm", "score.x.weight", torch.randn(1, 1), "invalid literal"),
    ],
)
def test_tensors_that_make_no_head_are_refused(family, name, tensor, says, tmp_path):
    write(BY_NAME[family], tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    save_file({**load_file(path), name: tensor}, path, {"format": "pt"})
    with pytest.raises(InputError, match=says):
        convert_reward_model(tmp_path / "model", tmp_path / "ours")


def test_a_tokenizer_that_is_none_is_one_message(tmp_path):
    write(BY_NAME["ultrarm"], tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="--tokenizer FOLDER"):
        convert_reward_model(tmp_path / "model", tmp_path / "ours")


def test_a_classifier_of_another_type_of_value_is_one_message(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "x"}')
    with pytest.raises(InputError, match="hidden_size"):
        outputs_of(tmp_path)


@pytest.mark.parametrize("value", [None, [1], 3, True])
def test_what_names_no_model_is_refused(value):
    with pytest.raises(InputError, match="is named as"):
        model_output(value)
