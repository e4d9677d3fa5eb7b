"""A merged adapter is the same model, wherever one is read."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pd_trl import score_pairs
from pd_trl.cli.main import main
from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.pipeline.stages.merge import MergeArguments, run_merge
from tests.tiny import ASPECTS, tiny_preferences, tiny_tokenizer


def save_adapter(model, folder, task, **changes):
    """An adapter whose matrices are not zero, with a tokenizer that pads otherwise than the base says."""
    torch.manual_seed(3)
    settings = {"r": 2, "target_modules": ["q_proj", "down_proj"], **changes}
    adapted = get_peft_model(model, LoraConfig(task_type=task, init_lora_weights=False, **settings))
    if "score" in settings.get("modules_to_save", []):
        adapted.base_model.model.score.modules_to_save["default"].weight.data.normal_()
    adapted.save_pretrained(folder)
    tiny_tokenizer(pad_token="<eos>").save_pretrained(folder)
    return adapted


def merged(folder, target, **changes):
    return run_merge(MergeArguments(model_name_or_path=str(folder), output_dir=str(target), **changes))


def test_a_policy(tiny_models, tmp_path):
    adapted = save_adapter(AutoModelForCausalLM.from_pretrained(tiny_models["causal"]), tmp_path / "lora", "CAUSAL_LM")
    result = merged(tmp_path / "lora", tmp_path / "whole")
    assert "a policy" in result.lines[0] and result.counts == {"adapted": 2}
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        assert torch.allclose(whole(ids).logits, adapted.eval()(ids).logits, atol=1e-5)
        base = AutoModelForCausalLM.from_pretrained(tiny_models["causal"])(ids).logits
    assert not torch.allclose(whole(ids).logits, base, atol=1e-2)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    } <= names and "adapter_config.json" not in names
    assert merged(tmp_path / "lora", tmp_path / "whole").skipped
    merged(tmp_path / "lora", tmp_path / "half", dtype="bfloat16")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["one output", "heads"])
def test_a_reward_model_scores_as_the_adapter(tiny_models, tmp_path, kind):
    task = "SEQ_CLS"
    if kind == "heads":
        base: torch.nn.Module = MultiAspectRewardModel.from_backbone(tiny_models["causal"], list(ASPECTS))
        sidecar = RewardSidecar(heads={name: {} for name in ASPECTS}, pad_token_id=1)
    else:
        base = AutoModelForSequenceClassification.from_pretrained(tiny_models["reward"], num_labels=1)
        sidecar = RewardSidecar(aspect="honesty", pad_token_id=1, length_penalty=0.01, length_correction="penalty")
    save_adapter(base, tmp_path / "lora", task, modules_to_save=["score"])
    sidecar.save(tmp_path / "lora")
    if kind == "heads":
        content = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
        content["base_model_name_or_path"] = tiny_models["causal"]
        (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(content))
    merged(tmp_path / "lora", tmp_path / "whole")
    assert RewardSidecar.load(tmp_path / "whole") == sidecar
    names = ASPECTS if kind == "heads" else ["honesty"]
    gaps = [
        score_pairs(tiny_preferences(12), dict.fromkeys(names, str(tmp_path / place))) for place in ("lora", "whole")
    ]
    for name in names:
        found = [np.asarray(scored[f"reward_gap_{name}"][:]) for scored in gaps]
        assert np.ptp(found[0]) > 0.1 and np.allclose(*found, atol=1e-5)


def test_what_cannot_be_merged(tiny_models, tmp_path, capsys):
    with pytest.raises(InputError, match="is no adapter"):
        merged(tiny_models["causal"], tmp_path / "a")
    tied = AutoModelForCausalLM.from_pretrained(tiny_models["causal"], tie_word_embeddings=True)
    tied.save_pretrained(tmp_path / "tied")
    tied = AutoModelForCausalLM.from_pretrained(tmp_path / "tied")
    save_adapter(tied, tmp_path / "lora", "CAUSAL_LM", target_modules=["embed_tokens"])
    path = tmp_path / "lora" / "adapter_config.json"
    content = json.loads(path.read_text())
    for targets, changed in ((["embed_tokens"], "embed_tokens"), (r".*\.q_proj|lm_head", "lm_head")):
        path.write_text(json.dumps({**content, "target_modules": targets}))
        with pytest.raises(InputError, match=f"changes {changed}"):
            merged(tmp_path / "lora", tmp_path / "b", dry_run=True)
    assert main(["merge", "--output_dir", str(tmp_path / "c")]) == 2
    assert "No adapter: name one with --model_name_or_path" in capsys.readouterr().err
