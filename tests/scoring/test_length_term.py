"""The length term that a reward model is scored with, from where it is known."""

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from pd_trl import score_pairs
from pd_trl.errors import InputError
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.scoring.pairs import _length_term
from tests.tiny import tiny_preferences, tiny_reward_model, tiny_tokenizer


@pytest.mark.parametrize("trained", ["none", "residual", "penalty"])
@pytest.mark.parametrize("given", [0.5, {"honesty": 0.5}, 0.0])
def test_a_given_penalty_is_subtracted_however_the_model_was_trained(trained, given):
    sidecar = RewardSidecar(length_penalty=0.1, length_correction=trained)
    rho = given["honesty"] if isinstance(given, dict) else given
    assert _length_term("honesty", sidecar, given, None) == (rho, "penalty")
    assert _length_term("honesty", sidecar, None, None) == (0.1, trained)
    assert _length_term("other", sidecar, {"honesty": 0.5}, None) == (0.1, trained)
    assert _length_term("honesty", sidecar, None, "none") == (0.1, "none")


def gaps_of(model, **given):
    scored = score_pairs(tiny_preferences(12), {"honesty": model}, **given)
    return np.array(scored["reward_gap_honesty"]), np.array(scored["delta_length"])


@pytest.mark.parametrize("form", ["folder", "loaded from it", "a pair", "with heads"])
def test_a_model_in_memory_keeps_its_length_term(tmp_path, form):
    tiny_reward_model().save_pretrained(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    RewardSidecar(length_penalty=0.25, length_correction="penalty").save(tmp_path)
    raw, delta = gaps_of(str(tmp_path), length_penalty=0.0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    if form == "with heads":
        model = tiny_reward_model()
        model.pd_reward_sidecar = RewardSidecar(
            length_correction="penalty", heads={"style": {"length_penalty": 9.0}, "honesty": {"length_penalty": 0.25}}
        )
    sources = {
        "folder": str(tmp_path),
        "loaded from it": model,
        "a pair": (model, tokenizer),
        "with heads": (model, tokenizer),
    }
    found, _ = gaps_of(sources[form])
    np.testing.assert_allclose(found, raw - 0.25 * delta, atol=1e-5)


def test_an_adapter_in_memory_that_says_nothing_is_said(caplog):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_reward_model(), LoraConfig(task_type="SEQ_CLS", r=2))
    gaps_of((model, tiny_tokenizer()))
    assert "does not say how it was trained" in caplog.text


def test_penalties_without_effect_are_refused():
    model = (tiny_reward_model(), tiny_tokenizer())
    for correction in ("residual", "none"):
        with pytest.raises(InputError, match="would have no effect"):
            gaps_of(model, length_penalty=0.5, length_correction=correction)
    with pytest.raises(InputError, match="names 'honest', but the reward models are those of honesty"):
        gaps_of(model, length_penalty={"honest": 0.5})
