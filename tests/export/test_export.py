"""Exports: the form of each target, what is refused, and what lies in the folder."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

from pd_trl import export_preferences
from pd_trl.cli.main import main
from pd_trl.errors import InputError
from pd_trl.export import TARGETS
from pd_trl.export.texts import Texts
from pd_trl.runs.artifacts import Manifest, write_rows
from tests.tiny import tiny_preferences, tiny_tokenizer

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}


def said(role, text, **fields):
    return {"role": role, "content": text, **fields}


def row(prompt=None, chosen=None, rejected=None, **columns):
    sides = (
        prompt or [said("user", "hi")],
        chosen or [said("assistant", "yes")],
        rejected or [said("assistant", "no")],
    )
    return dict(zip(("prompt", "chosen", "rejected"), sides, strict=True), **columns)


def data(*rows):
    return Dataset.from_list([{**entry, "pair_id": f"id{i}"} for i, entry in enumerate(rows)])


def written(folder, name="kept.jsonl"):
    return [json.loads(line) for line in Path(folder, name).read_text(encoding="utf-8").splitlines()]


STRINGS = {"prompt": "q: ", "chosen": "yes", "rejected": "no"}


def test_every_target_holds_a_plain_conversation_or_says_what_it_reads(tmp_path):
    for name, target in TARGETS.items():
        if not target.reads_chat:
            with pytest.raises(
                InputError, match=f"{target.title} cannot hold 1 of 1 rows: 1 with messages. .*`render`"
            ):
                export_preferences(data(row()), name, tmp_path / name)
            assert not (tmp_path / name).exists()
            continue
        result = export_preferences(data(row()), name, tmp_path / name)
        assert result.counts == {"kept": 1, "written": 1, "left out": 0}
        assert sorted(result.files) == sorted(
            path.name for path in (tmp_path / name).iterdir() if path.name != "manifest.json"
        )


def test_trl_and_axolotl_get_trls_columns(tmp_path):
    rows = data(row(chosen=[said("assistant", None, tool_calls=[CALL])], tools=[TOOL]))
    for name in ("trl", "axolotl"):
        export_preferences(rows, name, tmp_path / name)
        (found,) = written(tmp_path / name)
        assert json.loads(found["tools"]) == [TOOL] and found["pair_id"] == "id0"
        assert found["chosen"] == [said("assistant", None, tool_calls=[CALL])]
        assert found["rejected"] == [said("assistant", "no")]
    settings = yaml.safe_load((tmp_path / "axolotl" / "axolotl.yaml").read_text())
    assert settings["rl"] == "dpo" and settings["skip_prepare_dataset"] is True
    assert settings["datasets"][0]["path"] == str(tmp_path / "axolotl" / "kept.jsonl")


def test_trls_own_loader_reads_its_configuration(tmp_path, monkeypatch):
    from trl.scripts.utils import DatasetConfig, DatasetMixtureConfig, get_dataset

    rows = data(*(row(chosen=[said("assistant", f"yes {i}")], tools=[TOOL]) for i in range(5)))
    export_preferences(rows, "trl", tmp_path / "out")
    settings = yaml.safe_load((tmp_path / "out" / "trl.yaml").read_text())
    mixture = DatasetMixtureConfig(datasets=[DatasetConfig(**entry) for entry in settings["datasets"]])
    found = get_dataset(mixture)["train"]
    assert found["chosen"][:] == rows["chosen"][:] and found["prompt"][:] == rows["prompt"][:]
    assert [json.loads(tools) for tools in found["tools"]] == rows["tools"][:]


def test_llama_factory_gets_sharegpt_with_calls_and_tools(tmp_path):
    prompt = [said("system", "be"), said("user", "hi"), said("assistant", "", tool_calls=[CALL]), said("tool", "7")]
    export_preferences(data(row(prompt, tools=json.dumps([TOOL])), row()), "llama-factory", tmp_path / "out")
    first, second = written(tmp_path / "out")
    assert first["system"] == "be" and json.loads(first["tools"]) == [TOOL]
    assert [turn["role"] for turn in first["conversations"]] == ["user", "function_call", "tool"]
    assert json.loads(first["conversations"][1]["content"]) == [{"name": "f", "arguments": {"a": "é"}}]
    assert second["system"] == "" and second["tools"] == "" and second["chosen"] == said("assistant", "yes")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["pd_kept"]
    assert info["ranking"] is True and info["formatting"] == "sharegpt" and info["file_name"] == "kept.jsonl"
    settings = yaml.safe_load((tmp_path / "out" / "llama_factory.yaml").read_text())
    assert settings["dataset_dir"] == str(tmp_path / "out") and settings["dataset"] == "pd_kept"


def test_nemo_rl_gets_ranked_completions(tmp_path):
    export_preferences(data(row()), "nemo-rl", tmp_path / "out")
    (found,) = written(tmp_path / "out")
    assert found["context"] == [said("user", "hi")]
    assert found["completions"] == [
        {"rank": 0, "completion": [said("assistant", "yes")]},
        {"rank": 1, "completion": [said("assistant", "no")]},
    ]


def test_plain_texts_get_the_special_tokens_that_trl_would_put(tmp_path):
    tokenizer = tiny_tokenizer()
    for name in ("llama-factory", "openrlhf"):
        with pytest.raises(InputError, match="special tokens it does not add. .*`tokenizer`"):
            export_preferences(data(STRINGS), name, tmp_path / name)
        export_preferences(
            data(STRINGS, {**STRINGS, "chosen": "yes<eos>"}), name, tmp_path / name, tokenizer=tokenizer
        )
        first, second = written(tmp_path / name)
        prompt = first.get("instruction", first.get("prompt"))
        assert (prompt, first["chosen"], first["rejected"]) == ("<bos>q: ", "yes<eos>", "no<eos>")
        assert second["chosen"] == "yes<eos>"
    for name in ("trl", "axolotl"):
        export_preferences(data(STRINGS), name, tmp_path / name, tokenizer=tokenizer)
        assert written(tmp_path / name)[0] | STRINGS == written(tmp_path / name)[0]
    with pytest.raises(InputError, match="plain texts.*`as_chat`"):
        export_preferences(data(STRINGS), "nemo-rl", tmp_path / "nemo-rl")
    export_preferences(data(STRINGS), "nemo-rl", tmp_path / "nemo-rl", as_chat=True)
    assert written(tmp_path / "nemo-rl")[0]["context"] == [said("user", "q: ")]


def test_a_rendered_conversation_is_the_text_of_the_template(tmp_path):
    tokenizer = tiny_tokenizer()
    export_preferences(data(row()), "openrlhf", tmp_path / "out", tokenizer=tokenizer, render=True)
    (found,) = written(tmp_path / "out")
    assert found["prompt"] == "<bos><user> hi <eos><assistant> " and found["chosen"] == "yes <eos>"
    assert "--data.apply_chat_template" not in (tmp_path / "out" / "openrlhf.sh").read_text()


def test_a_reader_that_ends_by_eos_gets_it_without_a_space(tmp_path):
    template = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {{ end }}\n{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
    for end, text in (("<eos>", "yes <eos>\n"), ("stop", "yes stop\n<eos>")):
        tokenizer = tiny_tokenizer(chat_template=template.replace("{{ end }}", end))
        export_preferences(data(row()), "openrlhf", tmp_path / end, tokenizer=tokenizer, render=True)
        assert written(tmp_path / end)[0]["chosen"] == text


def test_verl_gets_parquet_and_no_tokenizer_that_adds_bos(tmp_path):
    tokenizer = tiny_tokenizer()
    with pytest.raises(InputError, match="BOS token before each response"):
        export_preferences(data(STRINGS), "verl", tmp_path / "out", tokenizer=tokenizer)
    plain = tiny_tokenizer()
    plain.backend_tokenizer.post_processor = None
    plain = type(plain)(tokenizer_object=plain.backend_tokenizer, eos_token="<eos>", pad_token="<pad>")
    export_preferences(data(STRINGS), "verl", tmp_path / "out", tokenizer=plain)
    found = Dataset.from_parquet(str(tmp_path / "out" / "kept.parquet"))[0]
    assert found == {"prompt": "q: ", "chosen": "yes<eos>", "rejected": "no<eos>", "pair_id": "id0"}


def test_lengths_are_set_so_that_nothing_is_cut(tmp_path):
    rows = data(STRINGS, {"prompt": "the cat " * 30, "chosen": "yes", "rejected": "the dog"})
    tokenizer = tiny_tokenizer()
    for name, key in (("trl", "max_length"), ("llama-factory", "cutoff_len"), ("axolotl", "sequence_len")):
        export_preferences(rows, name, tmp_path / name, tokenizer=tokenizer)
        file = tmp_path / name / f"{name.replace('-', '_')}.yaml"
        assert yaml.safe_load(file.read_text())[key] == 72  # <bos>, 60 words, 2 words, <eos>, and 8 more
        export_preferences(data(row()), name, tmp_path / f"{name}-free")
        assert key not in yaml.safe_load((tmp_path / f"{name}-free" / file.name).read_text())
    export_preferences(rows, "openrlhf", tmp_path / "o", tokenizer=tokenizer)
    assert "--data.max_len 72" in (tmp_path / "o" / "openrlhf.sh").read_text()
    chat = data(row([said("user", "the cat")]))
    export_preferences(chat, "llama-factory", tmp_path / "l", tokenizer=tokenizer)
    settings = yaml.safe_load((tmp_path / "l" / "llama_factory.yaml").read_text())
    assert settings["cutoff_len"] == 8 + 256  # its template may have a system message of its own
    assert "--data.max_samples 2" in (tmp_path / "o" / "openrlhf.sh").read_text()


REFUSED = {
    "openrlhf": [
        (row(tools=[TOOL]), "tools"),
        (row(chosen=[said("assistant", "x", tool_calls=[CALL])]), "messages with tool_calls"),
        (row(chat_template_kwargs={"enable_thinking": False}), "arguments of the chat template"),
        (row([said("user", "hi", name="ann")]), "messages with name"),
    ],
    "llama-factory": [
        (row(chat_template_kwargs={"a": 1}), "arguments of the chat template"),
        (row(chosen=[said("assistant", "a"), said("assistant", "b")]), "a chosen side of several messages"),
        (row(rejected=[said("user", "a")]), "a rejected side that is not the assistant's"),
        (row([said("system", ""), said("user", "a")]), "an empty system message"),
        (row([said("user", "a"), said("user", "b")]), "turns that do not alternate"),
        (row([said("user", "a"), said("system", "b"), said("user", "c")]), "turns that do not alternate"),
        (row([said("developer", "a"), said("user", "b")]), "turns that do not alternate"),
        (row(chosen=[said("assistant", "a", tool_calls=[CALL])]), "both a text and tool calls"),
        (row([said("user", "turn {{idx}}")]), "texts with {{idx}}"),
        (row(chosen=[said("assistant", "a", reasoning_content="b")]), "messages with reasoning_content"),
        (row([said("user", "a", name="bob")]), "messages with name"),
        (row([said("user", "a"), said("assistant", "", tool_calls=[CALL]), said("tool", "1"), said("tool", "2")]), "turns that do not alternate"),
    ],
    "nemo-rl": [(row(tools=[TOOL]), "tools"), (row(chosen=[said("assistant", "x", tool_calls=[CALL])]), "messages with tool_calls")],
    "trl": [(row([said("user", [{"type": "image", "text": None}])]), "messages of several parts"), (row(images=[b"x"]), "images, sounds or videos")],
}  # fmt: skip


@pytest.mark.parametrize("name, bad, reason", [(name, *case) for name, cases in REFUSED.items() for case in cases])
def test_what_a_target_cannot_hold_is_counted_and_nothing_is_written(name, bad, reason, tmp_path):
    kinds = {type(bad["prompt"][0]["content"])}
    good = row() if kinds == {str} else row([said("user", [{"type": "text", "text": "hi"}])])
    rows = data(bad, bad, good) if name != "trl" else data(bad, bad)
    with pytest.raises(InputError) as caught:
        export_preferences(rows, name, tmp_path / "out")
    count = 2
    assert f"cannot hold {count} of {len(rows)} rows: {count} with " in str(caught.value)
    assert reason in str(caught.value) and "Nothing was written" in str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    if name == "trl":
        return
    result = export_preferences(rows, name, tmp_path / "out", on_unsupported="drop")
    assert result.counts == {"kept": 3, "written": 1, "left out": 2} and list(result.left_out.values()) == [2]
    assert [entry["pair_id"] for entry in written(tmp_path / "out")] == ["id2"]
    assert Manifest.load(tmp_path / "out").results["left_out"] == result.left_out


def test_rows_that_the_template_refuses_are_found(tmp_path):
    tokenizer = tiny_tokenizer(
        chat_template="{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    rows = data(row(), row([said("system", "a"), said("user", "b")]))
    for name in ("trl", "axolotl", "openrlhf", "llama-factory", "nemo-rl"):
        with pytest.raises(
            InputError, match=r"1 of 2 rows: 1 with messages that the chat template refuses \(no system role\)"
        ):
            export_preferences(rows, name, tmp_path / name, tokenizer=tokenizer)
    with pytest.raises(InputError, match="no chat template"):
        export_preferences(rows, "trl", tmp_path / "x", tokenizer=tiny_tokenizer(chat_template=None))
    rewriting = "{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}"
    with pytest.raises(InputError, match="otherwise once there is a response"):
        export_preferences(data(row()), "openrlhf", tmp_path / "x", tokenizer=tiny_tokenizer(chat_template=rewriting))
    # TRL takes the longest beginning that both have.
    export_preferences(data(row()), "trl", tmp_path / "x", tokenizer=tiny_tokenizer(chat_template=rewriting))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"to": "llamafactory"}, "Did you mean 'llama-factory'"),
        ({"on_unsupported": "skip"}, "`on_unsupported` must be one of"),
        ({"render": True}, "name the model with `tokenizer`"),
        ({"render": True, "tokenizer": "tiny"}, "applies the chat template itself"),
        ({"render": True, "as_chat": True, "tokenizer": "tiny"}, "choose one"),
        ({"tokenizer": "./nowhere"}, "no folder ./nowhere"),
        ({"dropped": True}, "the folder of `pd-trl select`"),
    ],
)
def test_bad_arguments(options, words, tmp_path):
    options = {"to": "trl", **options}
    if options.get("tokenizer") == "tiny":
        options["tokenizer"] = tiny_tokenizer()
    with pytest.raises(InputError, match=words):
        export_preferences(data(row()), output_dir=tmp_path / "out", **options)


def test_a_path_that_openrlhf_would_cut_is_refused(tmp_path):
    with pytest.raises(InputError, match="takes '@' and ','"):
        export_preferences(data(row()), "openrlhf", tmp_path / "a,b")
    assert not (tmp_path / "a,b").exists()


def test_a_tokenizer_with_tokens_of_its_own_around_texts_is_refused():
    from tokenizers import processors

    odd = tiny_tokenizer()
    odd.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)]
    )
    with pytest.raises(InputError, match="special tokens of its own"):
        Texts(odd)


@pytest.fixture
def selection(tmp_path):
    """The folder of a selection, with kept and dropped rows."""
    folder = tmp_path / "selection"
    rows = tiny_preferences(12, chat=True)
    write_rows(rows.select(range(8)), folder / "selected")
    write_rows(rows.select(range(8, 12)), folder / "dropped")
    Manifest("select").save(folder)
    return folder


def test_the_command_writes_both_parts_skips_and_refuses_what_differs(selection, tmp_path, capsys):
    arguments = ["export", "--dataset_name", str(selection), "--output_dir", str(tmp_path / "out"), "--to", "openrlhf"]
    assert main([*arguments, "--dropped", "--dry_run"]) == 0
    assert "kept 8, dropped 4, written 12" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert main([*arguments, "--dropped"]) == 0
    shown = capsys.readouterr().out
    assert "openrlhf.sh, openrlhf.dropped.sh" in shown and "[export] done" in shown
    assert len(written(tmp_path / "out")) == 8 and len(written(tmp_path / "out", "dropped.jsonl")) == 4
    assert str(tmp_path / "out" / "dropped.jsonl") in (tmp_path / "out" / "openrlhf.dropped.sh").read_text()
    assert main([*arguments, "--dropped"]) == 0 and "already done" in capsys.readouterr().out
    assert main([*arguments, "--dropped", "--dry_run"]) == 0 and "already done" in capsys.readouterr().out
    assert main([*arguments, "--dry_run"]) == 0 and "refused unless --overwrite" in capsys.readouterr().out
    assert main(arguments) == 2 and "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert not (tmp_path / "out" / "dropped.jsonl").exists()
    capsys.readouterr()
    (tmp_path / "out" / "kept.jsonl").write_text("")
    assert main(arguments) == 2 and "no longer holds what was exported" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0 and len(written(tmp_path / "out")) == 8


def test_the_command_says_what_is_missing_and_keeps_what_is_not_its_own(selection, tmp_path, capsys):
    for arguments, words in (
        ([], "--dataset_name"),
        (["--dataset_name", str(selection)], "--to (trl,"),
        (["--dataset_name", str(selection), "--to", "trl", "--output_dir", str(selection)], "Choose another"),
        (["--dataset_name", str(tmp_path / "no.jsonl"), "--to", "trl"], "does not exist"),
        (["--dataset_name", str(selection), "--to", "verl"], "cannot hold 8 of 8 rows"),
    ):
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error
    assert (selection / "selected").is_dir()
