"""What clients of the Hub do in tests of models: each runs in a process of its own."""

import random
from pathlib import Path

import torch

INPUT = torch.tensor([[2, 9, 12, 15, 8, 3], [2, 20, 11, 10, 7, 3]])


def publish(folder: str, repo_id: str, **arguments):
    """Publishes a model and returns what changed and the card."""
    from pd_trl import publish_model

    done = publish_model(folder, repo_id, **arguments)
    return {"sha": done.sha, "added": sorted(done.commit.added), "deleted": done.commit.deleted, "card": done.card,
            "unchanged": sorted(done.commit.unchanged), "pr_url": done.commit.pr_url, "text": str(done)}  # fmt: skip


def logits(name: str, kind: str, **arguments) -> list:
    """Logits of a model, from a folder or the Hub, by the library's own loader."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if kind == "adapter":
        from peft import PeftModel

        base = AutoModelForSequenceClassification.from_pretrained("me/base", num_labels=1)
        model = PeftModel.from_pretrained(base, name, **arguments).eval()
    else:
        loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
        model = loader.from_pretrained(name, **arguments).eval()
    with torch.no_grad():
        return model(input_ids=INPUT).logits.tolist()


def adapter_on(base: str, folder: str) -> None:
    """Saves a LoRA adapter with random weights and a reward head of its own for a base model on the Hub."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from pd_trl.models.sidecar import RewardSidecar

    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    model = get_peft_model(model, LoraConfig(r=2, task_type="SEQ_CLS", modules_to_save=["score"]))
    for name, parameter in model.named_parameters():
        if "lora" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    RewardSidecar(length_penalty=0.01, length_correction="penalty", aspect="honesty").save(folder)


def scored_by(models: dict[str, str], count: int = 6) -> list[float]:
    """Reward gaps of tiny pairs by models of the Hub."""
    from pd_trl.scoring import score_pairs
    from tests.tiny import tiny_preferences

    scored = score_pairs(tiny_preferences(count), models)
    return [scored[f"reward_gap_{aspect}"][:] for aspect in models]


def train_policy(model: str, output_dir: str, push: bool = True, data: str | None = None, **settings):
    """Trains a policy, with `push_to_hub` unless `push` is off; returns what a user sees of it."""
    from pd_trl import PDDPOConfig, PDDPOTrainer

    arguments = {"max_steps": 2, "per_device_train_batch_size": 4, "bf16": False, "use_cpu": True, "report_to": "none",
                 "save_strategy": "no", "push_to_hub": push, "pd_budget": 5, **settings}  # fmt: skip
    trainer = PDDPOTrainer(model=model, args=PDDPOConfig(output_dir, **arguments), train_dataset=data or _scored(20))
    trainer.train()
    info = trainer.push_to_hub() if push else trainer.create_model_card()
    rows = trainer.train_dataset
    return {
        "repo": trainer.hub_model_id, "oid": getattr(info, "oid", None), "url": getattr(info, "commit_url", None),
        "kept": (trainer.selection_ or {}).get("kept"), "num_train": len(rows),
        "ids": sorted(rows["pair_id"]) if "pair_id" in rows.column_names else None,
    }  # fmt: skip


def train_reward(model: str, output_dir: str, **settings):
    """Trains a reward model with `push_to_hub` by `save_model`, as scripts do."""
    from pd_trl import PDRewardConfig, PDRewardTrainer
    from tests.tiny import tiny_preferences

    arguments = {"max_steps": 2, "per_device_train_batch_size": 4, "bf16": False, "use_cpu": True, "report_to": "none",
                 "save_strategy": "no", "push_to_hub": True, **settings}  # fmt: skip
    trainer = PDRewardTrainer(
        model=model, args=PDRewardConfig(output_dir, **arguments), train_dataset=tiny_preferences(12)
    )
    trainer.train()
    trainer.save_model()
    return trainer.hub_model_id


def train_rewards(model: str, output_dir: str, **settings) -> None:
    """Trains and pushes a reward model for each aspect."""
    from pd_trl import PDRewardConfig, train_aspect_rewards
    from tests.tiny import tiny_preferences

    arguments = {"max_steps": 1, "per_device_train_batch_size": 4, "bf16": False, "use_cpu": True, "report_to": "none",
                 "save_strategy": "no", "push_to_hub": True, **settings}  # fmt: skip
    train_aspect_rewards(
        tiny_preferences(60), model, output_dir, args=PDRewardConfig(output_dir, **arguments), heldout=0.3
    )


def publish_selection(folder: str, repo_id: str) -> None:
    """Publishes the folder of `pd-trl select`."""
    from pd_trl.publishing.dataset import publish_dataset

    publish_dataset(folder, repo_id)


def _scored(count: int):
    from tests.tiny import tiny_preferences

    generator = random.Random(0)
    rows = tiny_preferences(count)
    return rows.add_column("pd", [generator.uniform(-1, 1) for _ in rows])


def set_card(repo_id: str, text: str) -> None:
    """Writes a README.md as a user does on the Hub's page."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, exist_ok=True)
    api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo_id)


def put_file(repo_id: str, path: str, content: bytes) -> None:
    """Puts a file there, as an earlier push of another tool."""
    from huggingface_hub import HfApi

    HfApi().upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo_id)


def holds(folder: str, secret: str) -> list[str]:
    """Files below a folder that hold a text."""
    return [str(path) for path in Path(folder).rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
