"""One output of several as a voter: by name or number, with sign and scale, and all of them in one pass."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaForSequenceClassification

from pd_trl import PDFilter, score_pairs
from pd_trl.errors import InputError
from pd_trl.models.named import ModelOutput, model_output
from pd_trl.scoring import load_scorers
from pd_trl.scoring.reward_models import named_models
from pd_trl.scoring.scorer import RewardModelScorer
from tests.tiny import tiny_config, tiny_preferences, tiny_tokenizer

NAMES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]


def saved(folder, labels=NAMES, count=5, encoder=False):
    torch.manual_seed(3)
    id2label = dict(enumerate(labels)) if labels else None
    options = {"id2label": id2label} if labels else {"num_labels": count}
    if encoder:
        sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=40)
        model = BertForSequenceClassification(BertConfig(**sizes, pad_token_id=1, **options))
    else:
        model = LlamaForSequenceClassification(tiny_config(**options))
    model.eval().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("five") / "model")


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("unnamed") / "model", labels=None)


def labelled_overall(count=10):
    data = tiny_preferences(count).remove_columns("aspect")
    return data.add_column("aspect", ["overall"] * count)


def expected_rewards(folder, kind=LlamaForSequenceClassification):
    """Raw gaps of every output, by the published class, one conversation at a time."""
    model, tokenizer = kind.from_pretrained(folder).eval(), tiny_tokenizer()
    gaps = []
    with torch.no_grad():
        for row in tiny_preferences(10):
            sides = [
                tokenizer(row["prompt"] + row[s] + "<eos>", return_tensors="pt")["input_ids"]
                for s in ("chosen", "rejected")
            ]
            chosen, rejected = (model(input_ids=ids).logits[0] for ids in sides)
            gaps.append((chosen - rejected).numpy())
    return np.array(gaps)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("org/model", ModelOutput("org/model")),
        ("org/model#helpfulness", ModelOutput("org/model", "helpfulness")),
        ("-org/cost#0", ModelOutput("org/cost", "0", -1)),
        ("org/model@v1#3", ModelOutput("org/model@v1", "3")),
        ({"model": "org/cost#0", "sign": -1}, ModelOutput("org/cost", "0", -1)),
        ({"model": "org/m", "output": 2, "scale": 0.5}, ModelOutput("org/m", "2", None, 0.5)),
    ],
)
def test_how_an_output_is_named(value, expected):
    assert model_output(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": "m", "head": "x"}, "the key 'head'"),
        ({"output": "x"}, "no `model`"),
        ({"model": "m#x", "output": "y"}, "given twice"),
        ({"model": "-m", "sign": 1}, "given twice"),
        ({"model": "m", "sign": 0}, "`sign` must be 1"),
        ({"model": "m", "sign": True}, "`sign` must be 1"),
        ({"model": "m", "scale": -2}, "set `sign` to -1"),
        ({"model": "m", "scale": "2"}, "positive number"),
        ({"model": "m", "output": True}, "name or the number"),
    ],
)
def test_names_that_cannot_be_read(value, message):
    with pytest.raises(InputError, match=message):
        model_output(value)


def test_a_folder_whose_name_has_the_marks_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "-odd#name").mkdir()
    monkeypatch.chdir(tmp_path)
    assert model_output("-odd#name") == ModelOutput("-odd#name")


def test_all_outputs_by_one_name_in_one_pass(five, monkeypatch):
    calls = []
    once = RewardModelScorer.__call__
    monkeypatch.setattr(
        RewardModelScorer, "__call__", lambda self, tokens: (calls.append(len(tokens)), once(self, tokens))[1]
    )
    scored = score_pairs(labelled_overall(), five, share_prefix=False)
    found = np.stack([scored[f"reward_gap_{name}"][:] for name in NAMES], axis=1)
    assert np.allclose(found, expected_rewards(five), atol=1e-5)
    assert sum(calls) == 20  # each conversation once, and not five times


def test_outputs_by_name_number_sign_and_scale(five):
    models = {
        "helpfulness": five,
        "brevity": f"-{five}#verbosity",
        "third": {"model": five, "output": 2, "scale": 0.25},
    }
    scorers = list(load_scorers(models))
    assert len(scorers) == 1 and scorers[0].aspects == list(models)
    scored = score_pairs(labelled_overall(), models)
    raw = expected_rewards(five)
    for name, column in (("helpfulness", raw[:, 0]), ("brevity", -raw[:, 4]), ("third", 0.25 * raw[:, 2])):
        assert np.allclose(scored[f"reward_gap_{name}"][:], column, atol=1e-5), name


def test_an_encoder_with_a_bias(tmp_path):
    folder = saved(tmp_path / "encoder", labels=["good", "bad"], encoder=True)
    scored = score_pairs(labelled_overall(), {"kindness": f"{folder}#good", "malice": f"-{folder}#bad"})
    raw = expected_rewards(folder, BertForSequenceClassification)
    assert np.allclose(scored["reward_gap_kindness"][:], raw[:, 0], atol=1e-5)
    assert np.allclose(scored["reward_gap_malice"][:], -raw[:, 1], atol=1e-5)


def test_outputs_without_names_go_by_number(unnamed):
    assert list(named_models(unnamed)) == [f"output_{k}" for k in range(5)]
    assert list(named_models(f"{unnamed}#3")) == ["output_3"]
    scored = score_pairs(labelled_overall(), {"style": f"{unnamed}#3"})
    assert np.allclose(scored["reward_gap_style"][:], expected_rewards(unnamed)[:, 3], atol=1e-5)
    with pytest.raises(InputError, match=r"5 outputs \(0, 1, 2, 3, 4\), and none of the name 'style'"):
        score_pairs(labelled_overall(), {"style": unnamed})
    with pytest.raises(InputError, match="none of the name '5'"):
        score_pairs(labelled_overall(), {"style": f"{unnamed}#5"})


def test_a_model_of_one_output_by_its_name_alone_is_a_unified_one(tiny_models):
    assert named_models(tiny_models["reward"]) == {"overall": ModelOutput(tiny_models["reward"])}
    assert "reward_gap_overall" in score_pairs(labelled_overall(), tiny_models["reward"]).column_names


def test_a_wrong_name_is_said_with_the_right_ones(five):
    with pytest.raises(
        InputError, match="helpfulness, correctness, coherence, complexity, verbosity.*none of the name 'honesty'"
    ):
        score_pairs(tiny_preferences(6), {"honesty": five})
    with pytest.raises(InputError, match="none of the name 'help'"):
        score_pairs(labelled_overall(), {"x": f"{five}#help"})


def test_outputs_beyond_the_labels_only_vote(five):
    models = {
        "helpfulness": five, "honesty": f"{five}#correctness", "truthfulness": f"{five}#coherence",
        "verbosity": f"-{five}#verbosity",
    }  # fmt: skip
    kept = PDFilter(0.5, reward_models=models)
    kept(tiny_preferences(12))
    assert set(kept.report_["gap_correlation"]) == set(models)
    with pytest.raises(InputError, match="`reward_models` has 'verbosity'"):
        score_pairs(tiny_preferences(6), {"verbosity": five})


def test_one_name_in_a_filter(five):
    pd_filter = PDFilter(0.5, reward_models=five)
    kept = pd_filter(labelled_overall(12))
    assert len(kept) == 6 and pd_filter.aspects_ == sorted(NAMES)
    assert "correlation of gaps" in str(pd_filter.report_)


def test_another_choice_is_another_run(five, tmp_path):
    score_pairs(labelled_overall(), {"a": f"{five}#0"}, output_dir=tmp_path)
    for other in (f"{five}#1", f"-{five}#0", {"model": f"{five}#0", "scale": 2}):
        with pytest.raises(InputError, match="model differ"):
            score_pairs(labelled_overall(), {"a": other}, output_dir=tmp_path)


def test_a_classifier_in_memory(five):
    model = LlamaForSequenceClassification.from_pretrained(five).eval()
    source = (model, tiny_tokenizer())
    models = {"helpfulness": source, "brevity": {"model": source, "output": "verbosity", "sign": -1}}
    scored = score_pairs(labelled_overall(), models)
    raw = expected_rewards(five)
    assert np.allclose(scored["reward_gap_helpfulness"][:], raw[:, 0], atol=1e-5)
    assert np.allclose(scored["reward_gap_brevity"][:], -raw[:, 4], atol=1e-5)


def test_weights_that_are_only_pickled_are_refused(five, tmp_path):
    model = LlamaForSequenceClassification.from_pretrained(five)
    model.config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(
        InputError, match=r"no \*.safetensors file \(only pytorch_model.bin\).*spaces/safetensors/convert"
    ):
        score_pairs(labelled_overall(), {"a": f"{tmp_path}#0"})
