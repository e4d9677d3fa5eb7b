"""Bad input to any stage: exit code 2, one clear message, nothing lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification

from tests.cli.conftest import Rows, make_pairs, make_scored, printable
from tests.tiny import ASPECTS, tiny_config, tiny_preferences, tiny_tokenizer

NAN, INF = float("nan"), float("inf")
ESCAPE = "\x1b[31mred\x07"


def put(name: str, value: Any, row: int | None = 3) -> Callable[[Rows], Any]:
    """Changes a column, in one row or in all."""
    return lambda rows: [r.update({name: value}) for i, r in enumerate(rows) if row is None or i == row]


def drop(*names: str) -> Callable[[Rows], Any]:
    return lambda rows: [r.pop(name) for r in rows for name in names]


def rename(old: str, new: str) -> Callable[[Rows], Any]:
    return lambda rows: [r.update({new: r.pop(old)}) for r in rows]


def message(column: str, **values: Any) -> Callable[[Rows], Any]:
    return lambda rows: rows[3][column][0].update(values)


def only_aspects(*kept: str) -> Callable[[Rows], Any]:
    left_out = [aspect for aspect in ASPECTS if aspect not in kept]
    return lambda rows: [r.pop(name) for r in rows for name in list(r) if any(f"_{a}" in name for a in left_out)]


PAIRS = [
    (drop("response_b"), "response_b"),
    (rename("response_b", "responseb"), "response_b"),
    (put("prompt", 3, None), "'prompt' must hold strings"),
    (put("rating_honesty_a", "good"), "rating_honesty_a"),
    (put("rating_honesty_a", [3], None), "rating_honesty_a"),
    (put("rating_honesty_a", INF), "rating_honesty_a.*rows [3]"),
    (drop("rating_honesty_a"), "no counterpart"),
    (put("response_a", None), "response_a is null: 1 of 30 pairs, the first pairs [3]"),
    (put("response_a", " \n"), "response_a is empty"),
    (put("prompt", None), "prompt is null"),
    (lambda rows: [r.update(response_b=r["response_a"]) for r in rows], "identical responses"),
    (put("pair_id", "pair002"), "must be unique"),
    (put("pair_id", None), "must not be null"),
    (lambda rows: [r.update({n: None for n in r if n.startswith("rating")}) for r in rows], "no labelled aspect"),
    (lambda rows: [r.update({n: 1.0 for n in r if n.startswith("rating")}) for r in rows], "tied on every"),
    (rename("response_b", ESCAPE), "schema"),
    (lambda rows: rows.clear(), "is empty"),
]
CHAT_PAIRS = [
    (message("prompt", role=ESCAPE), "prompt has a role other than"),
    (message("prompt", role="assistant"), "starts with the assistant"),
    (put("prompt", []), "no messages"),
    (drop("prompt"), "have no prompt"),
    (message("response_a", content=None), "message without content"),
    (message("response_a", role="user"), "not a single assistant message"),
    (lambda rows: [r["response_a"][0].update(content=[{"type": "image"}]) for r in rows], "response_a"),
    (put("response_a", "text", None), "mixed"),
    (put("prompt", "text"), "mixes standard and chat"),
]


@pytest.mark.parametrize(("spoil", "words", "chat"), [(*c, False) for c in PAIRS] + [(*c, True) for c in CHAT_PAIRS])
def test_prepare_refuses_rows(command, write, tmp_path, spoil, words, chat):
    rows = make_pairs(chat=chat)
    spoil(rows)
    outcome = command("prepare", "--dataset_name", write(rows), "--output_dir", tmp_path / "out")
    outcome.refused(*words.split(".*"))
    assert {p.name for p in tmp_path.iterdir()} - {".out.lock"} == {"data.jsonl"}


def test_pairs_with_an_overall_label_alone_keep_it(command, write, tmp_path):
    rows = make_pairs()
    only_aspects()(rows)
    prepare = ("prepare", "--dataset_name", write(rows), "--output_dir", tmp_path / "out")
    command(*prepare, "--labels", "one").refused("only the overall label")
    outcome = command(*prepare)
    assert outcome.code == 0 and "labels: overall, by the overall label" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset_name", "/nowhere/at/all.parquet"], "does not exist"),
        (["--dataset_name", "someone/some-data"], "could not be loaded from the Hub"),
        ([], "needs a source"),
        (["--conflict", "1.5"], "share in [0, 1]"),
        (["--relabel", "average"], "'mean'"),
        (["--aspects", "honest"], "Did you mean 'honesty'?"),
        (["--max_pairs", "0"], "at least 1"),
        (["--labels", "two"], "choose from"),
        (["--adapter", "helpster"], "Did you mean 'helpsteer'"),
        (["--column_mapping", "{a:"], "column_mapping"),
        (["--column_mapping", '{"prompt": "question"}'], "not a column"),
        (["--max_pair", "3"], "Unknown argument '--max_pair'. Did you mean '--max_pairs'? "),
        (["--output_dir="], "`output_dir` is empty"),
        (["--dataset-nam", "x"], "Unknown argument '--dataset-nam'. Did you mean '--dataset_name'? "),
        (["3"], "Unexpected argument '3'"),
    ],
)
def test_prepare_refuses_arguments(command, sources, tmp_path, arguments, words):
    given = (
        arguments
        if not arguments or "--dataset_name" in arguments
        else ["--dataset_name", sources["pairs"], *arguments]
    )
    command("prepare", "--output_dir", tmp_path / "out", *given).refused(words)
    assert {p.name for p in tmp_path.iterdir()} <= {".out.lock"}


def test_a_file_above_the_output_folder_is_named(command, tmp_path):
    (tmp_path / "file").write_text("mine")
    given = ("prepare", "--dataset_name", "sample", "--output_dir", tmp_path / "file" / "new" / "out")
    command(*given).refused(f"{tmp_path / 'file'} is a file. Choose another.")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_splits_and_a_broken_file_are_refused(command, tmp_path):
    rows = Dataset.from_list(make_pairs(4))
    DatasetDict(first=rows, second=rows).save_to_disk(tmp_path / "splits")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1, but no more")
    (tmp_path / "words.txt").write_text("words")
    for name, words in (
        ("splits", "['first', 'second']"),
        ("broken.parquet", "broken"),
        ("words.txt", "must end with"),
    ):
        command("prepare", "--dataset_name", tmp_path / name, "--output_dir", tmp_path / "out").refused(words)


GAP = "reward_gap_honesty"
SCORED = [
    *((put(GAP, value), "must be finite") for value in (NAN, INF, None)),
    (put(GAP, "much", None), GAP),
    (put(GAP, 0.0, None), "'honesty' is 0"),
    (drop(*(f"reward_gap_{aspect}" for aspect in ASPECTS)), "no `reward_gap_<aspect>`"),
    (drop("aspect"), "no column 'aspect'"),
    (drop("pair_id"), "no column 'pair_id'"),
    (put("pair_id", "pair002"), "must be unique, but 1 ids occur more than once, such as 'pair002'"),
    (put("pair_id", None), "pair_id"),
    (put("aspect", ESCAPE), "are labelled by"),
    (lambda rows: [r.pop(f"reward_gap_{a}") for r in rows for a in ASPECTS[1:]], "only gaps of"),
    (
        lambda rows: [(r.pop(GAP), r.pop("reward_gap_truthfulness"), r.update(aspect="helpfulness")) for r in rows],
        "two",
    ),
]


@pytest.mark.parametrize(("spoil", "words"), SCORED)
def test_select_refuses_rows(command, write, tmp_path, spoil, words):
    rows = make_scored()
    spoil(rows)
    command("select", "--dataset_name", write(rows), "--output_dir", tmp_path / "out").refused(words)
    assert {p.name for p in tmp_path.iterdir()} - {".out.lock"} == {"data.jsonl"}


@pytest.mark.parametrize("mapping", ["{question: prompt}", "question: prompt", '{"question": "prompt"}'])
def test_a_mapping_may_be_yaml_or_json(command, sources, tmp_path, mapping):
    arguments = ["--dataset_name", sources["pairs"], "--output_dir", tmp_path / "out", "--dry_run"]
    given = command("prepare", *arguments, "--column_mapping", mapping)
    given.refused("question")
    # The same in a recipe, where it counts as a mapping.
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"output_dir: {tmp_path / 'run'}\nprepare:\n  dataset_name: {sources['pairs']}\n")
    again = command("run", "--config", recipe, "--prepare.column_mapping", mapping, "--dry_run")
    again.refused(given.err.split("error: ")[1].strip()[:40])


@pytest.mark.parametrize(
    "text",
    [
        "{base_url: http://elsewhere.example/v1}",
        "base_url: http://elsewhere.example/v1",
        '{"base_url": "http://127.0.0.1/v1", "base_url": "http://elsewhere.example/v1"}',
    ],
)
def test_a_file_writes_a_mapping_as_one(command, tmp_path, monkeypatch, text):
    """As text it would be hidden from the search for secrets and servers."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    config = tmp_path / "config.yaml"
    config.write_text(f"judge: openai:m\njudge_kwargs: {json.dumps(text)}\n")
    command("evaluate", "pairwise", "--config", config).refused("`judge_kwargs`", "Write it without the quotes")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *((f"--budget={budget}", "budget") for budget in ("0", "-0.1", "1.5", "31", "nan", "lots", "")),
        *((f"--gamma={gamma}", "gamma") for gamma in ("0", "-1", "1.1", "nan", "x")),
        ('--weights={"honest": 1}', "'honest'"),
        ('--weights={"honesty": -1}', "not negative"),
        ('--weights={"honesty": "much"}', "honesty"),
        ('--weights={"honesty": 0, "helpfulness": 0, "truthfulness": 0}', "all weights are 0"),
        ("--weights=[1]", "json object"),
        ("--weights={bad", "json object"),
        ("--selector=best", "pd_high"),
        ("--min_proxy_accuracy=2", "min_proxy_accuracy"),
        ("--source=column --pd_column=prompt", "prompt"),
        ("--selector=margin --margin_column=prompt", "prompt"),
        ("--selector=margin", "reward_gap_overall"),
    ],
)
def test_select_refuses_arguments(command, sources, tmp_path, arguments, words):
    given = [arguments] if arguments.startswith("--weights") else arguments.split(" ")
    command("select", "--dataset_name", sources["scored"], "--output_dir", tmp_path / "out", *given).refused(words)
    assert {p.name for p in tmp_path.iterdir()} <= {".out.lock"}


@pytest.fixture(scope="session")
def bad_models(tiny_models, tmp_path_factory) -> dict[str, str]:
    """Folders of models that cannot be used, by what is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("corrupt", "nan", "no_template", "sidecar"):
        shutil.copytree(tiny_models["reward"], folder / name)
    (folder / "corrupt" / "model.safetensors").write_bytes(b"no weights")
    (folder / "sidecar" / "pd_reward.json").write_text('{"length_penalty": "much"}')
    (folder / "no_template" / "chat_template.jinja").unlink(missing_ok=True)
    tiny_tokenizer(chat_template=None).save_pretrained(folder / "no_template")
    model = LlamaForSequenceClassification.from_pretrained(folder / "nan")
    torch.nn.init.constant_(model.score.weight, NAN)
    model.save_pretrained(folder / "nan")
    LlamaForSequenceClassification(tiny_config(num_labels=3)).save_pretrained(folder / "three")
    AutoTokenizer.from_pretrained(tiny_models["reward"]).save_pretrained(folder / "three")
    (folder / "empty").mkdir()
    return {path.name: str(path) for path in folder.iterdir()} | {"missing": "/nowhere/model", "offline": "someone/rm"}


@pytest.mark.parametrize(
    ("model", "words"),
    [("three", "3 outputs"), ("corrupt", "corrupt"), ("nan", "honesty"), ("empty", "empty"), ("sidecar", "length_penalty"),
     ("missing", "no folder"), ("offline", "Hub cannot be reached"), ("no_template", "no chat template")],
)  # fmt: skip
def test_score_refuses_models(command, sources, bad_models, tmp_path, model, words):
    models = json.dumps({"honesty": bad_models[model]})
    data = sources["chat" if model == "no_template" else "scored"]
    command("score", "--dataset_name", data, "--reward_models", models, "--output_dir", tmp_path / "out").refused(
        words
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No reward models"),
        (["--reward_models", "{bad"], "reward_models"),
        (["--reward_models", "/nowhere"], "/nowhere"),
        (["--reward_models", "-me/cost"], "--name=VALUE"),
        (["--reward_models", "{honest: [1]}"], "is named as"),
        (["--reward_models", '{"honest": MODEL}'], "honest"),
        (["--reward_models", '{"../../outside": MODEL}'], "outside"),
        (["--reward_models", '{"honesty": MODEL}', "--length_penalty=-1"], "length_penalty"),
        (["--reward_models", '{"honesty": MODEL}', "--length_correction", "x"], "length_correction"),
        (["--reward_models", '{"honesty": MODEL}', "--max_length", "0"], "max_length"),
        (["--reward_models", '{"honesty": MODEL}', "--max_length", "3", "--on_long", "error"], "longer than 3 tokens"),
    ],
)
def test_score_refuses_arguments(command, sources, tiny_models, tmp_path, arguments, words):
    given = [argument.replace("MODEL", json.dumps(tiny_models["reward"])) for argument in arguments]
    command("score", "--dataset_name", sources["scored"], "--output_dir", tmp_path / "a" / "b", *given).refused(words)
    assert not list(tmp_path.rglob("*.parquet"))


TRAINING_ROWS = [
    ("chosen", put("chosen", None)), ("chosen", put("chosen", "")), ("chosen", drop("chosen")),
    ("chosen", put("chosen", 3, None)), ("identical", lambda rows: rows[3].update(chosen=rows[3]["rejected"])),
    ("unique", put("pair_id", "pair002")), ("mixed", put("chosen", [{"role": "assistant", "content": "x"}], None)),
]  # fmt: skip


@pytest.mark.parametrize("stage", ["reward", "dpo"])
@pytest.mark.parametrize(("words", "spoil"), TRAINING_ROWS)
def test_training_refuses_rows(command, write, tiny_models, tmp_path, stage, words, spoil):
    rows = make_scored()
    spoil(rows)
    places = [
        "--dataset_name",
        write(rows),
        "--model_name_or_path",
        tiny_models["causal"],
        "--output_dir",
        tmp_path / "out",
    ]
    command(stage, *places, "--max_steps", 1).refused(words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stage", "arguments", "words"),
    [
        *(("reward", [f"--length_balance_temperature={tau}"], "length_balance_temperature") for tau in ("0", "-1", "nan")),
        ("reward", ["--length_penalty=-1"], "length_penalty"),
        ("reward", ["--train_share", "0"], "train_share"),
        ("reward", ["--heldout", "1"], "heldout"),
        ("reward", ["--aspects", "honest"], "honest"),
        *(("dpo", [f"--pd_budget={budget}"], "budget") for budget in ("0", "-0.1", "1.5", "31", "x")),
        ("dpo", ["--pd_budget", "0.5", "--pd_column", "prompt"], "prompt"),
        ("dpo", ["--pd_loss", "x"], "pd_loss"),
        *((stage, ["--max_length", "0"], "max_length") for stage in ("reward", "dpo")),
        *((stage, ["--max_length", "1"], "max_length") for stage in ("reward", "dpo")),
        *((stage, ["--model_name_or_path", m], m) for stage in ("reward", "dpo") for m in ("/nowhere/model", "me/none")),
        *((stage, ["--model_name_or_path", "BAD:" + m], m) for stage in ("reward", "dpo") for m in ("corrupt", "three", "empty")),
    ],
)  # fmt: skip
def test_training_refuses_arguments(command, sources, tiny_models, bad_models, tmp_path, stage, arguments, words):
    given = [bad_models[a[4:]] if a.startswith("BAD:") else a for a in arguments]
    places = ["--dataset_name", sources["scored"], "--model_name_or_path", tiny_models["causal"]]
    command(stage, *places, "--output_dir", tmp_path / "out", "--max_steps", 1, *given).refused(words)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_chat_data_need_a_chat_template(command, sources, tiny_models, tmp_path, stage):
    shutil.copytree(tiny_models["causal"], tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink(missing_ok=True)
    tiny_tokenizer(chat_template=None).save_pretrained(tmp_path / "model")
    places = ["--dataset_name", sources["chat"], "--model_name_or_path", tmp_path / "model"]
    command(stage, *places, "--output_dir", tmp_path / "out", "--max_steps", 1).refused("chat template")


def test_names_cannot_steer_the_terminal(command, write, tmp_path):
    rows = [{name.replace("honesty", ESCAPE): value for name, value in row.items()} for row in make_pairs()]
    outcome = command("prepare", "--dataset_name", write(rows), "--output_dir", Path(tmp_path / "out"))
    assert printable(outcome.out + outcome.err)


@pytest.mark.parametrize("stage", [["dpo"], ["reward"], ["reward", "--heads", "true"]])
def test_training_does_not_start_from_an_adapter(command, tiny_models, tmp_path, stage):
    get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_models["causal"]), LoraConfig(task_type="CAUSAL_LM", r=2)
    ).save_pretrained(tmp_path / "lora")
    tiny_preferences(8).to_json(tmp_path / "rows.jsonl")
    start = [*stage, "--dataset_name", tmp_path / "rows.jsonl", "--model_name_or_path", tmp_path / "lora"]
    command(*start, "--output_dir", tmp_path / "out").refused("LoRA adapter", "pd-trl merge --model_name_or_path")
    assert not (tmp_path / "out").exists()
