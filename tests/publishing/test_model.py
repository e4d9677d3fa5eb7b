"""Models on a Hub: real clients over HTTP, each in a process of its own."""

import json
import shutil
import struct
from pathlib import Path

import huggingface_hub
import pytest
import torch

from pd_trl.cards import BEGIN, END, ModelFacts, split_readme
from pd_trl.errors import InputError
from pd_trl.publishing.model_files import model_files, without_local_names
from pd_trl.publishing.model_push import _renamed, _unknown_facts, preferred_card
from pd_trl.runs.results import EvalResult, save_results
from tests.hub.local import ME, ME_EXPIRED, ME_READ_ONLY, NEWCOMER, OTHER, LocalHub
from tests.publishing import model_clients as clients
from tests.publishing.selections import kept_ids, scored_rows, select_into
from tests.tiny import ASPECTS

BASE_FILES = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def policy(tiny_models, tmp_path) -> Path:
    """A policy's folder with all that training leaves beside a model."""
    folder = tmp_path / "policy"
    shutil.copytree(tiny_models["causal"], folder)
    for name in ("training_args.bin", "optimizer.pt", "pytorch_model.bin", "pd_card.json.tmp", "manifest.json"):
        (folder / name).write_bytes(b"left over " + ME.encode())
    for name in ("checkpoint-1/model.safetensors", "runs/events.tfevents.0"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"left over")
    return folder


def test_a_model_comes_back_with_the_same_logits(hub: LocalHub, policy, tiny_models):
    done = hub.run(clients.publish, str(policy), "me/policy-logits", tag="v1")
    assert done["added"] == sorted(["README.md", *BASE_FILES, "generation_config.json"])
    assert set(hub.tree("models", "me/policy-logits")) == {".gitattributes", *done["added"]}
    there = hub.run(clients.logits, "me/policy-logits", "policy", user="other", token=None, revision="v1")
    assert there == clients.logits(tiny_models["causal"], "policy")
    again = hub.run(clients.publish, str(policy), "me/policy-logits")
    assert (again["added"], again["deleted"]) == ([], []) and hub.num_commits("models", "me/policy-logits") == 2


def test_an_adapter_comes_back_with_the_same_logits_and_its_length_term(hub: LocalHub, tiny_models, tmp_path):
    hub.run(clients.publish, tiny_models["reward"], "me/base")
    folder = str(tmp_path / "adapter")
    hub.run(clients.adapter_on, "me/base", folder)
    done = hub.run(clients.publish, folder, "me/rm-adapter")
    assert {"adapter_config.json", "adapter_model.safetensors", "pd_reward.json"} <= set(done["added"])
    metadata, _ = split_readme(done["card"])
    assert (metadata["library_name"], metadata["base_model"], metadata["base_model_relation"]) == (
        "peft",
        "me/base",
        "adapter",
    )
    reader = {"user": "other", "token": None}
    assert hub.run(clients.logits, "me/rm-adapter", "adapter", **reader) == hub.run(clients.logits, folder, "adapter")
    plain = hub.run(clients.logits, "me/base", "reward", **reader)
    assert not torch.allclose(torch.tensor(plain), torch.tensor(hub.run(clients.logits, folder, "adapter")))
    published = hub.run(clients.scored_by, {"honesty": "me/rm-adapter"}, **reader)
    assert published == hub.run(clients.scored_by, {"honesty": folder})
    Path(folder, "pd_reward.json").unlink()
    assert published != hub.run(clients.scored_by, {"honesty": folder}), "the sidecar must matter"


def test_a_republished_card_keeps_the_users_words_and_gets_the_results(plain_hub: LocalHub, policy, tmp_path):
    if not hasattr(huggingface_hub, "EvalResultEntry"):
        pytest.skip("this huggingface_hub knows no .eval_results")
    plain_hub.run(clients.set_card, "me/mine", "---\nlicense: mit\nmy_key: 1\n---\n# Mine\n\nMy words.\n")
    plain_hub.run(clients.publish, str(policy), "me/mine")
    result = EvalResult("AlpacaEval 2", "win_rate", 21.0, 805, 1.3, judge="judge-a", dataset="tatsu-lab/alpaca_eval")
    save_results([result], tmp_path)
    done = plain_hub.run(
        clients.publish, str(policy), "me/mine", results=[str(tmp_path)], eval_results=True, datasets=["me/uf-scored"],
        base_model="me/base",
    )  # fmt: skip
    text = plain_hub.text("models", "me/mine", "README.md")
    metadata, body = split_readme(text)
    assert text == done["card"] and body.startswith("\n# Mine\n\nMy words.\n\n" + BEGIN) and body.count(END) == 1
    assert (metadata["license"], metadata["my_key"], metadata["datasets"], metadata["base_model"]) == (
        "mit",
        1,
        ["me/uf-scored"],
        "me/base",
    )
    assert "| AlpacaEval 2 | win rate | 21.00 ± 1.30 % | 805 |" in body
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["args"]["standard_error"] == 1.3
    assert sorted(done["added"]) == [".eval_results/tatsu-lab--alpaca_eval.yaml", "README.md", "eval_results.json"]
    assert "value: 21.0" in plain_hub.text("models", "me/mine", ".eval_results/tatsu-lab--alpaca_eval.yaml")


def test_what_an_earlier_push_left_is_gone_and_what_is_the_users_is_not(plain_hub: LocalHub, policy):
    plain_hub.run(clients.set_card, "me/old", "# x")
    for name in ("pytorch_model.bin", "model-00002-of-00002.safetensors", "model.safetensors.index.json", "adapter_config.json",
                 "training_args.bin"):  # fmt: skip
        plain_hub.run(clients.put_file, "me/old", name, b"old")
    for name in ("notes.md", "eval/model.safetensors"):
        plain_hub.run(clients.put_file, "me/old", name, b"the user's")
    done = plain_hub.run(clients.publish, str(policy), "me/old")
    assert len(done["deleted"]) == 5
    assert {"notes.md", "eval/model.safetensors", "model.safetensors"} <= set(plain_hub.tree("models", "me/old"))
    assert plain_hub.run(clients.logits, "me/old", "policy") == clients.logits(str(policy), "policy")


def test_a_dry_run_shows_everything_and_does_nothing(plain_hub: LocalHub, policy):
    done = plain_hub.run(clients.publish, str(policy), "me/nothing", dry_run=True)
    assert plain_hub.repo("models", "me/nothing") is None and "model.safetensors" in done["added"]
    assert "+ model.safetensors" in done["text"] and "# nothing" in done["text"] and "dry run" in done["text"]
    assert not [
        entry for entry in plain_hub.log() if entry["method"] in ("PUT", "DELETE") or "commit" in entry["path"]
    ]


def test_a_pull_request_leaves_the_branch_alone(plain_hub: LocalHub, policy):
    plain_hub.run(clients.set_card, "me/open", "# x")
    before = plain_hub.tree("models", "me/open")
    done = plain_hub.run(clients.publish, str(policy), "me/open", create_pr=True, token=OTHER, user="other")
    assert "/discussions/" in done["pr_url"] and plain_hub.tree("models", "me/open") == before


@pytest.mark.parametrize(
    "token, name, arguments, words",
    [
        (ME_READ_ONLY, "me/x", {}, ["can only read"]),
        (ME_EXPIRED, "me/x", {}, ["token"]),
        (None, "me/x", {}, ["hf auth login"]),
        (NEWCOMER, "nobody/x", {}, ["not a member"]),
        (ME, "bad name", {}, ["no name for a repository"]),
        (ME, "me/public", {"private": True}, ["is public", "Nothing was uploaded"]),
        (ME, "me/public", {"license": "no-such-thing"}, []),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before_anything_goes_up(
    plain_hub: LocalHub, policy, token, name, arguments, words
):
    plain_hub.run(clients.set_card, "me/public", "# x")
    plain_hub.reset()
    outcome = plain_hub.call(clients.publish, str(policy), name, token=token, **arguments)
    if words:
        outcome.refused(*words)
        assert not [
            e for e in plain_hub.log() if any(part in e["path"] for part in ("preupload", "/commit/", "repos/create"))
        ]
    else:
        metadata, _ = split_readme(outcome.value["card"])
        assert (metadata["license"], metadata["license_name"]) == ("other", "no-such-thing")


def test_a_card_that_the_hub_refuses_leaves_no_repository(plain_hub: LocalHub, policy):
    (policy / "README.md").write_text("---\nlanguage: klingonish!\n---\n# Mine\n")
    plain_hub.call(clients.publish, str(policy), "me/refused-card").refused("Nothing was uploaded")
    assert plain_hub.repo("models", "me/refused-card") is None


def test_a_stated_base_model_brings_its_licence(plain_hub: LocalHub, policy):
    plain_hub.run(clients.set_card, "me/licensed-base", "---\nlicense: apache-2.0\n---\n# Base\n")
    done = plain_hub.run(clients.publish, str(policy), "me/on-a-base", base_model="me/licensed-base", dry_run=True)
    metadata, body = split_readme(done["card"])
    assert (metadata["license"], metadata["base_model"]) == ("apache-2.0", "me/licensed-base")
    for arguments in ({"base_model": "../../x"}, {"datasets": ["not valid!!"]}):
        plain_hub.call(clients.publish, str(policy), "me/on-a-base", dry_run=True, **arguments).refused("no name for")


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "times": 1},
        {"status": 500, "after": True, "times": 1},
        {"drop": True, "after": True, "times": 1},
    ],
)
def test_a_fault_ends_with_one_whole_commit(plain_hub: LocalHub, policy, fault):
    name = f"me/fault-{'-'.join(map(str, fault.values()))}"
    plain_hub.fault("/commit/", **fault)
    done = plain_hub.run(clients.publish, str(policy), name)
    assert plain_hub.num_commits("models", name) == 2 and set(done["added"]) <= set(plain_hub.tree("models", name))


def test_a_policy_trained_with_push_to_hub(plain_hub: LocalHub, tiny_models, tmp_path):
    plain_hub.run(clients.set_card, "me/pushed", "---\nlicense: mit\n---\n# Pushed\n\nMy words.\n")
    folder = tmp_path / "out"
    settings = {"hub_model_id": "pushed", "hub_token": ME, "save_strategy": "steps", "save_steps": 1}
    done = plain_hub.run(clients.train_policy, tiny_models["causal"], str(folder), **settings)
    assert done["repo"] == "me/pushed" and done["url"].endswith(f"/commit/{done['oid']}")
    assert set(plain_hub.tree("models", "me/pushed")) == {
        ".gitattributes",
        "README.md",
        *BASE_FILES,
        "generation_config.json",
    }
    metadata, body = split_readme(plain_hub.text("models", "me/pushed", "README.md"))
    assert "My words." in body and "**5 of 20** preference pairs" in body and metadata["license"] == "mit"
    assert clients.holds(str(folder), ME) == [], "the token must be in no file"
    assert not list(folder.glob(".pd_push-*"))
    assert plain_hub.run(clients.logits, "me/pushed", "policy") == clients.logits(str(folder), "policy")


def test_a_reward_model_pushed_by_save_model_has_its_sidecar(plain_hub: LocalHub, tiny_models, tmp_path):
    name = plain_hub.run(clients.train_reward, tiny_models["reward"], str(tmp_path / "rm"), length_penalty=0.01)
    assert name == "me/rm" and set(plain_hub.tree("models", name)) == {
        ".gitattributes",
        "README.md",
        "pd_reward.json",
        *BASE_FILES,
    }
    assert json.loads(plain_hub.text("models", name, "pd_reward.json"))["length_penalty"] == 0.01
    assert "penalty, 0.01 per token" in plain_hub.text("models", name, "README.md")


def test_a_policy_selects_from_a_published_set_and_its_card_links_to_it(plain_hub: LocalHub, tiny_models, tmp_path):
    folder = select_into(tmp_path / "select", budget=0.3)
    plain_hub.run(clients.publish_selection, str(folder), "me/scored-for-training")
    done = plain_hub.run(
        clients.train_policy, tiny_models["causal"], str(tmp_path / "out"), data="me/scored-for-training", push=False, pd_budget=0.5
    )  # fmt: skip
    expected = kept_ids(scored_rows(), budget=0.5)
    assert (done["kept"], done["ids"]) == (30, expected)
    metadata, body = split_readme((tmp_path / "out" / "README.md").read_text())
    sha = plain_hub.repo("datasets", "me/scored-for-training")["branches"]["main"]
    assert metadata["datasets"] == ["me/scored-for-training"] and f"datasets/me/scored-for-training/tree/{sha}" in body
    kept = plain_hub.run(
        clients.train_policy,
        tiny_models["causal"],
        str(tmp_path / "kept"),
        data="me/scored-for-training",
        push=False,
        pd_budget=None,
    )
    assert (kept["kept"], kept["num_train"]) == (None, 18), "without a budget, the kept pairs are trained on"


def test_each_aspects_reward_model_has_a_repository_of_its_own(plain_hub: LocalHub, tiny_models, tmp_path):
    plain_hub.run(clients.train_rewards, tiny_models["reward"], str(tmp_path / "rm"), hub_model_id="me/proxy")
    for aspect in ASPECTS:
        sidecar = json.loads(plain_hub.text("models", f"me/proxy-{aspect}", "pd_reward.json"))
        assert sidecar["aspect"] == aspect and "pair_accuracy" in sidecar["metrics"] and sidecar["num_train"] > 0
        text = plain_hub.text("models", f"me/proxy-{aspect}", "README.md")
        metadata, body = split_readme(text)
        assert f"for the aspect **{aspect}**" in body and body.startswith(f"\n# proxy-{aspect}\n")
        assert [entry["name"] for entry in metadata["model-index"]] == [f"proxy-{aspect}"]
    outcome = plain_hub.call(clients.train_rewards, tiny_models["reward"], str(tmp_path / "no"), token=ME_READ_ONLY)
    outcome.refused("can only read")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("token, words", [(ME_READ_ONLY, "can only read"), (ME_EXPIRED, "token")])
def test_a_push_that_would_fail_fails_before_the_model_is_loaded(plain_hub: LocalHub, tmp_path, token, words):
    outcome = plain_hub.call(clients.train_policy, str(tmp_path / "no-such-model"), str(tmp_path / "out"), token=token)
    outcome.refused(words)
    assert not (tmp_path / "out").exists()


def test_a_token_is_not_published_with_checkpoints(plain_hub: LocalHub, tiny_models, tmp_path):
    settings = {"hub_token": ME, "hub_strategy": "checkpoint"}
    outcome = plain_hub.call(clients.train_policy, tiny_models["causal"], str(tmp_path / "out"), **settings)
    outcome.refused("training_args.bin", "hf auth login")


def test_only_whole_safetensors_are_published(policy):
    files = model_files(policy)
    assert sorted(files) == sorted([*BASE_FILES, "generation_config.json"])
    assert "notes.txt" not in files
    (policy / "notes.txt").write_text("x")
    assert "notes.txt" in model_files(policy, ["*.txt"])
    weights = policy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="cut short"):
        model_files(policy)
    for broken in (b"", b"x", struct.pack("<Q", 5) + b"{}x..", struct.pack("<Q", 1 << 60)):
        weights.write_bytes(broken)
        with pytest.raises(InputError, match="not a safetensors file|cut short"):
            model_files(policy)
    weights.unlink()
    with pytest.raises(InputError, match="only pytorch_model.bin.*Pickles are not published"):
        model_files(policy)
    (policy / "model-00001-of-00002.safetensors").write_bytes(whole)
    (policy / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}})
    )
    with pytest.raises(InputError, match="model-00002-of-00002.safetensors, which is not there"):
        model_files(policy)
    with pytest.raises(InputError, match="neither config.json nor adapter_config.json"):
        model_files(policy / "runs")
    with pytest.raises(InputError, match="must be a folder"):
        model_files(policy / "nowhere")


def adapter(tiny_models, tmp_path, base: object, **config) -> Path:
    """An adapter's folder whose configuration names `base`."""
    folder = tmp_path / "adapter"
    clients.adapter_on(tiny_models["reward"], str(folder))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base, **config}))
    return folder


def named_base(folder: Path, base_model: str | None = None) -> object:
    """Base model in the `adapter_config.json` that would be published."""
    files = without_local_names(model_files(folder), folder, ModelFacts("reward", "x", base_model=base_model))
    content = files["adapter_config.json"]
    config = json.loads(content if isinstance(content, bytes) else content.read_text())
    return config["base_model_name_or_path"], config.get("revision")


def test_no_path_of_a_base_model_goes_out(tiny_models, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    for base in (
        "/home/me/base",
        "~/base",
        "./base",
        "../base",
        "file:///home/me/base",
        "local",
        "C:\\\\base",
        "",
        None,
    ):
        folder = adapter(tiny_models, tmp_path, base)
        caplog.clear()
        assert named_base(folder) == (None, None) and "Publish the base too" in caplog.text
        assert named_base(folder, "org/base") == ("org/base", None)
        assert named_base(folder, "org/base@v2") == ("org/base", "v2")
    caplog.clear()
    assert named_base(adapter(tiny_models, tmp_path, "org/known", revision="abc")) == ("org/known", "abc")
    assert named_base(adapter(tiny_models, tmp_path, "gpt2")) == ("gpt2", None) and not caplog.text


def test_a_folder_beside_a_configuration_goes(policy, tmp_path):
    path = policy / "config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "_name_or_path": str(tmp_path), "part": {"_name_or_path": "~/a"}})
    )
    files = without_local_names(model_files(policy), policy, ModelFacts("policy", "x"))
    assert b"_name_or_path" not in files["config.json"] and json.loads(files["config.json"])["part"] == {}


@pytest.mark.parametrize(
    "task, sidecar, saved, expected",
    [
        ("SEQ_CLS", False, ["score"], "reward"), ("CAUSAL_LM", False, None, "policy"), (None, True, None, "reward"),
        (None, False, ["classifier"], "reward"), (None, False, ["model.score"], "reward"), (None, False, ["embed"], "policy"),
        (None, False, None, "policy"), ("TOKEN_CLS", False, ["classifier", "score"], None), ("SEQ_2_SEQ_LM", False, None, None),
    ],
)  # fmt: skip
def test_kind_of_an_adapter(tiny_models, tmp_path, task, sidecar, saved, expected):
    folder = adapter(tiny_models, tmp_path, "org/base", task_type=task, modules_to_save=saved)
    if not sidecar:
        (folder / "pd_reward.json").unlink()
    if expected is None:
        with pytest.raises(InputError, match=f"is an adapter for {task}"):
            _unknown_facts(folder, "me/x")
    else:
        assert _unknown_facts(folder, "me/x").kind == expected


def test_models_of_other_kinds_are_not_published(policy):
    path = policy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["BertForTokenClassification"]}))
    with pytest.raises(InputError, match="is a BertForTokenClassification"):
        _unknown_facts(policy, "me/x")


def test_an_adapter_on_a_local_base_comes_back_on_the_published_one(hub: LocalHub, tiny_models, tmp_path):
    hub.run(clients.publish, tiny_models["reward"], "me/base-of-local")
    folder = adapter(tiny_models, tmp_path, tiny_models["reward"])
    alone = hub.run(clients.publish, str(folder), "me/alone")
    assert "Its base model is not on the Hub" in alone["card"] and "score_pairs" not in alone["card"]
    done = hub.run(clients.publish, str(folder), "me/with-base", base_model="me/base-of-local")
    assert "score_pairs" in done["card"]
    reader = {"user": "other", "token": None}
    assert hub.run(clients.scored_by, {"honesty": "me/with-base"}, **reader) == clients.scored_by(
        {"honesty": str(folder)}
    )


def test_a_local_card_takes_the_name_of_its_repository():
    card = "---\nmodel-index:\n- name: dpo\n- name: other\nmine: 1\n---\n\n# dpo\n\ntext\n"
    assert _renamed(card, "dpo", "policy") == "---\nmodel-index:\n- name: other\nmine: 1\n---\n\n# policy\n\ntext\n"
    assert _renamed("# My own title\n", "dpo", "policy").endswith("# My own title\n")


@pytest.mark.parametrize(
    "remote, local, expected",
    [
        (None, None, None),
        ("# a", None, "# a"),
        (None, "# a", "# a"),
        ("# a", "# b\n\nmine", "# b\n\nmine"),
        ("# a\n\ntheirs", "# b\n\nmine", "# a\n\ntheirs"),
        ("# a\n\ntheirs", "# b", "# a\n\ntheirs"),
    ],
)
def test_whose_words_are_kept(remote, local, expected):
    assert preferred_card(remote, local) == expected
