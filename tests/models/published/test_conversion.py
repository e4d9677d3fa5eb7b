"""A converted model scores as the published one does, anywhere that takes one of ours."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaForSequenceClassification

from pd_trl import score_pairs
from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.published.conversion import convert_reward_model
from pd_trl.models.sidecar import RewardSidecar
from pd_trl.pipeline.stages.convert import ConvertArguments, run_convert
from pd_trl.pipeline.stages.score import ScoreArguments, reward_models_of, run_score
from pd_trl.scoring import load_scorers
from pd_trl.scoring.tokens import TokenRows
from tests.models.published.checkpoints import FAMILIES, write, write_internlm2
from tests.models.published.test_families import token_rows
from tests.tiny import tiny_config, tiny_preferences, tiny_tokenizer

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.parametrize("name", ["armorm", "qrm-gemma-5", "beaver-cost", "grm", "urm", "score-with-bias"])
def test_the_folder_scores_as_the_published_model(name, tmp_path):
    family = BY_NAME[name]
    forward = write(family, tmp_path / "published")
    names = convert_reward_model(tmp_path / "published", tmp_path / "ours", dtype="float32")
    assert names == family.names == list(RewardSidecar.load(tmp_path / "ours").heads)
    assert not list((tmp_path / "ours").glob("*.py"))
    (scorer,) = load_scorers({name: str(tmp_path / "ours") for name in names})
    ids = token_rows(scorer.tokenizer)
    expected = torch.stack([forward(row) for row in ids]) * torch.tensor(family.signs or [1] * len(names))
    assert (scorer(TokenRows.of(ids)) - expected).abs().max() < 1e-5
    # As the whole model, without our engine.
    model = MultiAspectRewardModel.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        logits = torch.cat([model(input_ids=torch.tensor([row])).logits for row in ids])
    assert (logits - expected).abs().max() < 1e-5


def test_a_converted_cost_says_more_is_better(tmp_path):
    write(BY_NAME["beaver-cost"], tmp_path / "cost")
    convert_reward_model(tmp_path / "cost", tmp_path / "ours", dtype="float32")
    data = tiny_preferences(6, chat=True).remove_columns("aspect").add_column("aspect", ["overall"] * 6)
    gaps = [score_pairs(data, {"safety": str(tmp_path / place)})["reward_gap_safety"][:] for place in ("cost", "ours")]
    assert np.allclose(gaps[0], gaps[1], atol=1e-5)


def test_the_tokenizer_is_saved_as_the_model_needs_it(tmp_path):
    tokenizer = tiny_tokenizer()
    write_internlm2(tmp_path / "published", tokenizer.convert_tokens_to_ids("<system>"), tokenizer)
    convert_reward_model(tmp_path / "published", tmp_path / "ours")
    (scorer,) = load_scorers({"a": str(tmp_path / "ours")})
    assert {row[-1] for chat in (True, False) for row in token_rows(scorer.tokenizer, chat)} == {
        tokenizer.convert_tokens_to_ids("<system>")
    }
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["text_config"]["model_type"] == "llama"


def test_a_tokenizer_that_lies_elsewhere(tmp_path):
    write(BY_NAME["ultrarm"], tmp_path / "published")
    for path in (tmp_path / "published").glob("*token*"):
        path.unlink()
    (tmp_path / "published" / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(InputError, match="No tokenizer beside"):
        convert_reward_model(tmp_path / "published", tmp_path / "ours")
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    convert_reward_model(tmp_path / "published", tmp_path / "ours", tokenizer=tmp_path / "tokenizer")
    assert load_scorers({"a": str(tmp_path / "ours")})


def test_a_plain_classifier_can_be_converted_too(tmp_path):
    torch.manual_seed(0)
    whole = LlamaForSequenceClassification(tiny_config(id2label={0: "good", 1: "brief"})).eval()
    whole.save_pretrained(tmp_path / "plain")
    tiny_tokenizer().save_pretrained(tmp_path / "plain")
    assert convert_reward_model(tmp_path / "plain", tmp_path / "ours") == ["good", "brief"]
    (scorer,) = load_scorers({"brief": str(tmp_path / "ours")})
    ids = token_rows(scorer.tokenizer)
    with torch.no_grad():
        expected = torch.stack([whole(input_ids=torch.tensor([row])).logits[0, 1] for row in ids])
    assert (scorer(TokenRows.of(ids))[:, 0] - expected).abs().max() < 1e-5


def test_what_cannot_be_converted_is_refused(tiny_models, tmp_path):
    with pytest.raises(InputError, match="LlamaForCausalLM.*no head that is known: .*lm_head"):
        convert_reward_model(tiny_models["causal"], tmp_path / "ours")
    write(BY_NAME["armorm"], tmp_path / "armorm")
    convert_reward_model(tmp_path / "armorm", tmp_path / "ours")
    with pytest.raises(InputError, match="already"):
        convert_reward_model(tmp_path / "ours", tmp_path / "again")


def test_the_stage_converts_once_and_says_the_outputs(tmp_path):
    write(BY_NAME["armorm"], tmp_path / "armorm")
    arguments = ConvertArguments(str(tmp_path / "armorm"), str(tmp_path / "ours"))
    assert "19 outputs: helpsteer-helpfulness" in "\n".join(
        run_convert(ConvertArguments(str(tmp_path / "armorm"), dry_run=True)).lines
    )
    assert run_convert(arguments).counts == {"outputs": 19}
    write(BY_NAME["beaver-cost"], tmp_path / "cost")
    assert run_convert(ConvertArguments(str(tmp_path / "cost"), dry_run=True)).lines[-1] == "1 output: safety"
    assert run_convert(arguments).skipped
    with pytest.raises(InputError, match="another run"):
        run_convert(ConvertArguments(str(tmp_path / "armorm"), str(tmp_path / "ours"), dtype="bfloat16"))
    with pytest.raises(InputError, match="--model_name_or_path"):
        run_convert(ConvertArguments())


def test_the_stage_score_takes_one_name_and_outputs_by_name(tmp_path):
    folder = str(tmp_path / "urm")
    write(BY_NAME["urm"], tmp_path / "urm")
    assert list(reward_models_of(folder)) == BY_NAME["urm"].names
    data = tiny_preferences(6, chat=True).remove_columns("aspect").add_column("aspect", ["overall"] * 6)
    data.to_parquet(tmp_path / "data.parquet")
    options = {"dataset_name": str(tmp_path / "data.parquet"), "output_dir": str(tmp_path / "scored")}
    result = run_score(ScoreArguments(reward_models=folder, **options))
    assert result.counts["scored"] == 6
    given = {"brevity": f"-{folder}#verbosity", "style": {"model": folder, "output": 3, "scale": 0.5}}
    with pytest.raises(InputError, match="another run"):
        run_score(ScoreArguments(reward_models=given, **options))
    run_score(ScoreArguments(reward_models=given, overwrite=True, **options))
    manifest = json.loads((tmp_path / "scored" / "manifest.json").read_text())
    assert manifest["results"]["models"] == {"brevity": f"-{folder}#verbosity", "style": f"{folder}#3 times 0.5"}
    with pytest.raises(InputError, match="another run"):
        run_score(ScoreArguments(reward_models={**given, "brevity": f"{folder}#verbosity"}, **options))
