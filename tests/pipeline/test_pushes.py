"""A recipe's check of pushes needs no trainer to be imported before."""

import pytest
from trl import ModelConfig

from pd_trl.hub import HubError
from pd_trl.pipeline.registry import STAGES


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_a_push_is_checked_before_any_trainer_is_imported(monkeypatch, tmp_path, stage):
    monkeypatch.setattr("pd_trl.trainers.publisher._publisher", None)
    monkeypatch.setenv("HF_TOKEN", "")
    loaded = STAGES[stage].load()
    own, config, _ = loaded.arguments
    args = config(output_dir=str(tmp_path), push_to_hub=True, hub_model_id="me/x", use_cpu=True, bf16=False)
    with pytest.raises(HubError, match="Hub"):
        loaded.check(own(), args, ModelConfig())
