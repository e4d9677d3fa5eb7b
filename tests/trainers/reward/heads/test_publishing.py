import numpy as np
import pytest

from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.sidecar import RewardSidecar
from tests.hub.local import LocalHub
from tests.publishing import model_clients as clients
from tests.tiny import ASPECTS, tiny_tokenizer


@pytest.mark.slow
def test_a_model_with_heads_comes_back_from_the_hub(plain_hub: LocalHub, tiny_models, tmp_path):
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], ASPECTS)
    model.score.weight.data.mul_(50)
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    heads = {aspect: {"length_penalty": 0.01 * k} for k, aspect in enumerate(ASPECTS)}
    RewardSidecar(length_correction="penalty", heads=heads).save(tmp_path)
    done = plain_hub.run(clients.publish, str(tmp_path), "me/rm-heads")
    assert {"config.json", "model.safetensors", "pd_reward.json"} <= set(done["added"])
    assert (
        "with a head for each of the aspects" in done["card"] and "pipeline_tag: text-classification" in done["card"]
    )
    there = plain_hub.run(clients.scored_by, dict.fromkeys(ASPECTS, "me/rm-heads"), user="other", token=None)
    here = clients.scored_by(dict.fromkeys(ASPECTS, str(tmp_path)))
    np.testing.assert_array_equal(there, here)
    assert np.abs(np.subtract(here[0], here[1])).max() > 0.01
