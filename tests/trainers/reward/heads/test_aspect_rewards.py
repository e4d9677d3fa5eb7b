import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pd_trl import PDFilter, PDRewardConfig, evaluate_rewards, score_pairs, train_aspect_rewards
from pd_trl.errors import InputError
from pd_trl.evaluation.judges import load_judge
from pd_trl.evaluation.judges.reward_model import RewardModelJudge
from pd_trl.models.heads import MultiAspectRewardModel
from pd_trl.models.sidecar import RewardSidecar, proxy_metrics_of
from pd_trl.runs.artifacts import write_json
from pd_trl.scoring import load_scorers
from pd_trl.scoring.tokens import TokenRows
from tests.tiny import ASPECTS, WORDS, tiny_tokenizer
from tests.trainers.reward.test_aspects import CPU, learnable

ASKED = sorted(ASPECTS)


def train(model, folder, **kwargs):
    settings = {"args": PDRewardConfig("unused", **CPU), "heldout": 0.25, "heads": True, **kwargs}
    return train_aspect_rewards(learnable(), model, folder, **settings)


@pytest.fixture(scope="module")
def trained(tiny_models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewards")
    return folder, train(tiny_models["causal"], folder)


@pytest.fixture(scope="module")
def adapted(tiny_models, tmp_path_factory):
    from peft import LoraConfig

    folder = tmp_path_factory.mktemp("adapted")
    return train(tiny_models["causal"], folder, peft_config=LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8))


def models_of(rewards) -> dict[str, str]:
    return {aspect: reward.path for aspect, reward in rewards.items()}


def by_hand(model, aspect: str, data) -> np.ndarray:
    """Reward gaps of one head, sequence by sequence, without its length term."""
    tokenizer, head = tiny_tokenizer(), sorted(ASPECTS).index(aspect)
    gaps = []
    for row in data:
        sides = [
            torch.tensor([tokenizer(row["prompt"] + row[s] + "<eos>")["input_ids"]]) for s in ("chosen", "rejected")
        ]
        with torch.no_grad():
            chosen, rejected = (model.eval()(ids).logits[0, head].item() for ids in sides)
        gaps.append(chosen - rejected)
    return np.array(gaps)


def test_one_model_learns_every_aspect(trained):
    folder, rewards = trained
    assert list(rewards) == ASKED and {reward.path for reward in rewards.values()} == {str(folder / "heads")}
    for aspect in ("helpfulness", "honesty"):
        assert rewards[aspect].metrics["pair_accuracy"] > 0.9
    assert rewards["truthfulness"].metrics["pair_accuracy"] < 0.8
    # The accuracy of a head is that on the pairs of half of its held-out prompts.
    assert all(0 < reward.metrics["num_pairs"] < 80 - reward.num_train for reward in rewards.values())
    sidecar = RewardSidecar.load(folder / "heads")
    assert list(sidecar.heads) == ASKED and sidecar.num_train == 180
    assert sidecar.metrics["num_pairs"] == sum(reward.metrics["num_pairs"] for reward in rewards.values())
    for aspect in ASKED:
        own = RewardSidecar.load(folder / "heads", aspect)
        assert own.aspect == aspect and own.metrics == rewards[aspect].metrics
        assert own.length_penalty == rewards[aspect].metrics["length_penalty"]
    assert proxy_metrics_of(models_of(rewards)) == {aspect: reward.metrics for aspect, reward in rewards.items()}


def test_a_second_call_trains_nothing_again(trained, tiny_models, monkeypatch):
    folder, rewards = trained
    monkeypatch.setattr("pd_trl.trainers.reward.aspects.PDRewardTrainer", lambda **k: pytest.fail("trained again"))
    assert train(tiny_models["causal"], folder) == rewards


def test_interrupted_training_goes_on(tiny_models, tmp_path, monkeypatch):
    from pd_trl.trainers.reward.trainer import PDRewardTrainer

    args = PDRewardConfig("unused", **{**CPU, "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 20})
    whole = train(tiny_models["causal"], tmp_path / "whole", args=args)
    step = PDRewardTrainer.training_step

    def stop(self, *positional, **named):
        if self.state.global_step == 50:
            raise KeyboardInterrupt
        return step(self, *positional, **named)

    monkeypatch.setattr(PDRewardTrainer, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_models["causal"], tmp_path / "cut", args=args)
    steps = []
    monkeypatch.setattr(
        PDRewardTrainer,
        "training_step",
        lambda self, *p, **n: steps.append(self.state.global_step) or step(self, *p, **n),
    )
    cut = train(tiny_models["causal"], tmp_path / "cut", args=args)
    assert steps[0] == 40
    for aspect in ASKED:
        assert cut[aspect].metrics["pair_accuracy"] == whole[aspect].metrics["pair_accuracy"]
    weights = [MultiAspectRewardModel.from_pretrained(r["honesty"].path).score.weight for r in (whole, cut)]
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["full", "adapter", "memory"])
def test_gaps_are_those_of_each_head(kind, trained, adapted, tiny_models):
    data = learnable(18, seed=9)
    rewards = adapted if kind == "adapter" else trained[1]
    path = rewards["honesty"].path
    if kind == "adapter":
        from peft import PeftModel

        base = MultiAspectRewardModel.from_backbone(tiny_models["causal"], ASKED)
        model = PeftModel.from_pretrained(base, path)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(path)
    source = (model, tiny_tokenizer()) if kind == "memory" else path
    raw = score_pairs(data, dict.fromkeys(ASPECTS, source), length_penalty=0.0)
    for aspect in ASPECTS:
        expected = by_hand(model, aspect, data)
        np.testing.assert_allclose(raw[f"reward_gap_{aspect}"], expected, atol=1e-5)
        assert np.abs(expected).max() > 0.01
    if kind != "memory":
        scored = score_pairs(data, models_of(rewards))
        for aspect in ASPECTS:
            rho = RewardSidecar.load(path, aspect).length_penalty
            adjusted = np.array(raw[f"reward_gap_{aspect}"]) - rho * np.array(raw["delta_length"])
            np.testing.assert_allclose(scored[f"reward_gap_{aspect}"], adjusted, atol=1e-5)


def test_all_heads_are_scored_in_one_pass_in_any_order(trained):
    path = trained[1]["honesty"].path
    calls = []
    columns = {}
    texts = ("the cat .", "a big red bird sleeps .", "dog")
    rows = TokenRows.of([tiny_tokenizer()(text)["input_ids"] for text in texts])
    for names in (ASKED, ASKED[::-1], ["truthfulness", "helpfulness"], ["honesty"]):
        scorers = list(load_scorers(dict.fromkeys(names, path)))
        assert len(scorers) == 1 and scorers[0].aspects == names
        scorers[0](rows)
        calls.clear()
        scorers[0].model.model.register_forward_hook(lambda *a: calls.append(1))
        rewards = scorers[0](rows).numpy()
        assert len(calls) == 1 and rewards.shape == (3, len(names))
        for k, name in enumerate(names):
            np.testing.assert_allclose(rewards[:, k], columns.setdefault(name, rewards[:, k]), atol=1e-6)
    assert not np.allclose(columns["honesty"], columns["helpfulness"], atol=1e-3)


def test_heads_and_single_models_go_together(trained, tiny_models):
    path = trained[1]["honesty"].path
    models = {"honesty": path, "helpfulness": tiny_models["reward"], "truthfulness": path}
    assert [scorer.aspects for scorer in load_scorers(models)] == [["honesty", "truthfulness"], ["helpfulness"]]


def test_filter_and_evaluations_take_a_folder_with_heads(trained, tmp_path):
    rewards = trained[1]
    path = rewards["honesty"].path
    kept = PDFilter(budget=0.5, reward_models=models_of(rewards), min_proxy_accuracy=0.8)(learnable(36, seed=2))
    assert len(kept) == 18
    preferences = learnable(30, seed=4).filter(lambda row: row["aspect"] == "honesty")
    evaluation = evaluate_rewards({"honesty": path}, preferences)
    assert evaluation.entries[0].accuracy > 0.9
    with pytest.raises(InputError, match="heads for helpfulness, honesty, truthfulness, but none for mine"):
        evaluate_rewards({"mine": path}, preferences)
    judge = load_judge(f"reward:{path}#honesty")
    chosen, rejected = (
        judge.score([(row["prompt"], row[side]) for row in preferences]) for side in ("chosen", "rejected")
    )
    assert np.mean(np.asarray(chosen) > np.asarray(rejected)) == evaluation.entries[0].accuracy
    with pytest.raises(InputError, match="FOLDER#helpfulness"):
        RewardModelJudge(path)


def test_unusable_heads_are_refused(trained, tiny_models, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    path = trained[1]["honesty"].path
    data = learnable(9)
    with pytest.raises(InputError, match="none for style"):
        list(load_scorers({"style": path, "honesty": path}))
    model = MultiAspectRewardModel.from_pretrained(path)
    with pytest.raises(InputError, match="none for style"):
        list(load_scorers({"style": (model, tiny_tokenizer())}))
    broken = shutil.copytree(path, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="score.weight"):
        list(load_scorers({"honesty": str(broken)}))
    with pytest.raises(InputError, match="style"):
        train(tiny_models["causal"], tmp_path / "a", aspects=["style"])
    with pytest.raises(InputError, match="has heads for helpfulness, honesty, truthfulness, not for honesty"):
        train(path, tmp_path / "b", aspects=["honesty"])
    long = data.map(lambda row: {"prompt": row["prompt"] * (40 if row["aspect"] == "honesty" else 1)})
    args = PDRewardConfig("unused", **CPU, max_length=40)
    with pytest.raises(InputError, match="No pair of honesty is left"):
        train_aspect_rewards(long, tiny_models["causal"], tmp_path / "c", args=args, heldout=0.0, heads=True)


def test_command_line_from_preferences_to_kept_pairs(command, tiny_models, tmp_path):
    data = tmp_path / "preferences.jsonl"
    rows = learnable().to_list()
    random.Random(0).shuffle(rows)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    small = {k: str(v) for k, v in CPU.items()}
    options = [
        part
        for name, value in {**small, "model_name_or_path": tiny_models["causal"]}.items()
        for part in (f"--{name}", value)
    ]
    reward = (
        "reward",
        "--dataset_name",
        data,
        "--output_dir",
        tmp_path / "reward",
        "--heldout",
        0.25,
        "--heads",
        "true",
        *options,
    )
    dry = command(*reward, "--dry_run", "true")
    assert dry.code == 0 and "helpfulness + honesty + truthfulness" in dry.out, dry
    done = command(*reward)
    assert done.code == 0 and "truthfulness" in done.out, done.err
    card = (tmp_path / "reward" / "heads" / "README.md").read_text(encoding="utf-8")
    assert "score_pairs" in card
    found = []
    for k, models in enumerate((tmp_path / "reward", tmp_path / "reward" / "heads")):
        scored = command(
            "score", "--dataset_name", data, "--reward_models", models, "--output_dir", tmp_path / f"scored{k}"
        )
        assert scored.code == 0, scored.err
        manifest = json.loads((tmp_path / f"scored{k}" / "manifest.json").read_text(encoding="utf-8"))
        found.append(manifest["results"]["proxy_metrics"])
        assert set(manifest["results"]["models"].values()) == {str(tmp_path / "reward" / "heads")}
    assert found[0] == found[1] and set(found[0]) == set(ASPECTS)
    kept = command(
        "select",
        "--dataset_name",
        tmp_path / "scored0",
        "--budget",
        0.3,
        "--output_dir",
        tmp_path / "kept",
        "--min_proxy_accuracy",
        0.8,
    )
    assert kept.code == 0, kept.err
    command(
        "evaluate",
        "rewards",
        "--reward_models",
        tmp_path / "reward",
        "--dataset_name",
        data,
        "--output_dir",
        tmp_path / "e",
    )
    accuracies = json.loads((tmp_path / "e" / "eval_results.json").read_text(encoding="utf-8"))
    assert {entry["model"] for entry in accuracies} == set(ASPECTS)


def test_command_line_refuses(command, trained, tiny_models, tmp_path):
    folder, rewards = trained
    data = tmp_path / "preferences.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in learnable(12).to_list()), encoding="utf-8")
    start = ("--dataset_name", data, "--output_dir", tmp_path / "out", "--model_name_or_path", rewards["honesty"].path)
    command("reward", *start).refused("heads for helpfulness, honesty, truthfulness", "start from its backbone")
    command("dpo", *start).refused("heads for helpfulness, honesty, truthfulness")
    both = tmp_path / "both"
    for name in ("heads", "more"):
        (both / name).mkdir(parents=True)
        (both / name / "pd_reward.json").write_text((folder / "heads" / "pd_reward.json").read_text())
    command("score", "--dataset_name", data, "--reward_models", both).refused("hold a reward model for 'helpfulness'")


def test_card_says_what_each_head_is(trained, adapted):
    for rewards in (trained[1], adapted):
        card = (Path(rewards["honesty"].path) / "README.md").read_text(encoding="utf-8")
        assert "with a head for each of the aspects **helpfulness**, **honesty**, **truthfulness**" in card
        assert "**No better than a coin** (by two standard errors): truthfulness" in card
        # Others cannot load an adapter whose base is a folder of this machine.
        snippet = 'score_pairs(preferences, dict.fromkeys(["helpfulness", "honesty", "truthfulness"], "'
        assert (snippet in card) == (rewards is trained[1])
        metrics = rewards["honesty"].metrics
        held_out = f"{metrics['num_pairs']} | **{100 * metrics['pair_accuracy']:.1f} ±"
        assert f"| honesty | {rewards['honesty'].num_train} | {held_out}" in card
        assert "| length correction | penalty, per token and head as above |" in card
        assert "held-out pairs of helpfulness" in card and ".logits.item()" not in card


def test_a_head_judges_on_the_command_line(trained, command, tmp_path):
    path = next(iter(trained[1].values())).path
    for name, words in (("a", WORDS[:6]), ("b", WORDS[6:12])):
        rows = zip(WORDS[:6], words, strict=True)
        write_json(tmp_path / f"{name}.json", [{"instruction": i, "output": o, "generator": name} for i, o in rows])
    flags = ["evaluate", "pairwise", "--outputs", tmp_path / "a.json", "--reference_outputs", tmp_path / "b.json"]
    outcome = command(*flags, "--judge", f"reward:{path}#honesty", "--output_dir", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "(honesty)" in outcome.out
    other = command(*flags, "--judge", f"reward:{path}#kindness", "--output_dir", tmp_path / "other")
    other.refused("kindness")
