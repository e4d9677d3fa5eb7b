"""`scripts/tiny_model.py` takes what `load_pairs` takes, and says what it cannot take."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from scripts import tiny_model


@pytest.fixture
def run(monkeypatch, capsys):
    def run_it(*arguments):
        monkeypatch.setattr("sys.argv", ["tiny_model.py", *map(str, arguments)])
        try:
            tiny_model.main()
        except SystemExit as error:
            return error.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return run_it


def test_models_of_the_sample_and_of_mapped_columns(run, tmp_path):
    code, _ = run("sample", tmp_path / "a", "--rewards", "honest", "--vocab_size", 300)
    assert code == 0
    AutoTokenizer.from_pretrained(tmp_path / "a")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "a").config.hidden_size == 32
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "a" / "honest").config.num_labels == 1
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"zzz": "q", "chosen": "a", "rejected": "b"}) + "\n")
    code, said = run(path, tmp_path / "b")
    assert code == 2 and "no prompt" in said and "Traceback" not in said
    assert run(path, tmp_path / "b", "--column_mapping", "{prompt: zzz}")[0] == 0


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["missing.jsonl"], "does not exist"),
        (["sample", "--hidden_size", "7"], "--hidden_size must be a multiple of 4"),
        (["sample", "--rewards", "../x"], "../x"),
        (["sample", "--column_mapping", "[1]"], "must be a mapping"),
    ],
)
def test_what_it_cannot_take(run, tmp_path, arguments, words):
    code, said = run(arguments[0], tmp_path / "out", *arguments[1:])
    assert code == 2 and words in said and not (tmp_path / "out").exists()
