"""
vLLM itself is tested where it is installed. What is ours is tested here with the folder that it is given, which transformers loads too, and
a stand-in with the signatures of vLLM 0.22 and 0.33 that answers by that folder's model.
"""

import sys
import types

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.scoring import score_pairs
from pd_trl.scoring.vllm_scorer import VllmScorer, sequence_classifier_folder
from tests.tiny import ASPECTS, tiny_preferences, tiny_tokenizer


@pytest.fixture(scope="module")
def heads_folder(tmp_path_factory, tiny_models):
    folder = tmp_path_factory.mktemp("heads")
    torch.manual_seed(0)
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], list(ASPECTS))
    model.score.weight.data.mul_(50)
    # A response's EOS is then padding to the model.
    model.config.text_config.pad_token_id = tiny_tokenizer().eos_token_id
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


class LLM:
    """Reads the last token, as vLLM's pooler does."""

    def __init__(self, model, *, runner, convert, tokenizer, dtype, trust_remote_code, seed=0):
        assert (runner, convert, dtype) == ("pooling", "classify", "float32")
        self.model = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()

    @torch.no_grad()
    def classify(self, prompts, *, pooling_params=None, use_tqdm=True, lora_request=None):
        assert pooling_params.use_activation is False
        answers = []
        for prompt in prompts:
            ids = torch.tensor([prompt["prompt_token_ids"]])
            hidden = self.model.model(input_ids=ids).last_hidden_state[:, -1]
            answers.append(
                types.SimpleNamespace(outputs=types.SimpleNamespace(probs=self.model.score(hidden)[0].tolist()))
            )
        return answers


@pytest.fixture
def vllm(monkeypatch):
    module = types.ModuleType("vllm")
    module.LLM = LLM
    module.PoolingParams = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_the_exported_folder_is_the_same_model(heads_folder, tmp_path):
    ours = AutoModelForSequenceClassification.from_pretrained(heads_folder).eval()
    exported = sequence_classifier_folder(heads_folder, ours.config, tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(exported).eval()
    assert type(theirs).__name__ == "LlamaForSequenceClassification" and theirs.config.num_labels == len(ASPECTS)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs(ids).logits, atol=1e-6)
    assert list(theirs.config.id2label.values()) == list(ASPECTS)


@pytest.mark.parametrize("kind", ["heads", "separate"])
def test_scores_are_those_of_the_engine(vllm, heads_folder, tiny_models, kind):
    data = tiny_preferences(14)
    models = dict.fromkeys(ASPECTS, str(heads_folder)) if kind == "heads" else {"honesty": tiny_models["reward"]}
    expected, found = (score_pairs(data, models, backend=backend) for backend in ("engine", "vllm"))
    for aspect in models:
        gaps = np.asarray(expected[f"reward_gap_{aspect}"][:])
        assert np.ptp(gaps) > 0 and np.allclose(gaps, found[f"reward_gap_{aspect}"][:], atol=1e-5)


def test_what_vllm_cannot_do_is_said(vllm, heads_folder, tiny_models, tmp_path, monkeypatch):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForSequenceClassification.from_pretrained(tiny_models["reward"], num_labels=1)
    get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2)).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    data = tiny_preferences(4)
    with pytest.raises(InputError, match="Merge it"):
        score_pairs(data, {"honesty": str(tmp_path)}, backend="vllm")
    model = AutoModel.from_pretrained(tiny_models["reward"])
    with pytest.raises(InputError, match="in memory"):
        score_pairs(data, {"honesty": (model, tiny_tokenizer())}, backend="vllm")
    with pytest.raises(InputError, match="`backend` must be"):
        score_pairs(data, {"honesty": str(heads_folder)}, backend="sglang")
    with pytest.raises(InputError, match="none for truth"):
        score_pairs(data.map(lambda row: {"aspect": "truth"}), {"truth": str(heads_folder)}, backend="vllm")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match=r"pd_trl\[vllm\]"):
        score_pairs(data, {"honesty": str(heads_folder)}, backend="vllm")


def test_shards_name_the_type_that_was_taken(vllm, heads_folder):
    for asked in (None, torch.float32, "float32"):
        assert VllmScorer(heads_folder, list(ASPECTS), dtype=asked).computation["dtype"] == "torch.float32"
