"""Stage `reward`: one proxy reward model for each aspect."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from ...data import OVERALL, RESERVED_ASPECTS, aspects_of, check_preferences, is_chat
from ...errors import InputError
from ...runs.artifacts import Manifest
from ...runs.identity import data_key
from ...runs.launch import is_main_process
from ...runs.model_identity import model_key, peft_settings
from ...runs.stage_folders import StageResult, dry_result, held_folder, owned_folder, skip_if_done, timed
from ...runs.training_fields import training_identity
from ...text.tables import number, table
from ...trainers.reward.aspects import HEADS_FOLDER, heldout_rows, hub_name, train_aspect_rewards
from ...trainers.reward.config import PDRewardConfig
from ...trainers.reward.results import AspectReward
from .arguments import OVERWRITE, argument
from .inputs import rows_of
from .models import begin_training, check_model, check_pushes, num_steps


@dataclass
class RewardArguments:
    """Arguments of `pd-trl reward`, beside those of [`PDRewardConfig`] and TRL's `ModelConfig`."""

    dataset_name: str | None = argument(None, "Preferences: the folder of `pd-trl prepare`, a file, or a Hub id.")
    aspects: list[str] | None = argument(None, "Aspects to train for. All where unset.")
    heldout: float = argument(0.1, "Share of the prompts on whose pairs the accuracy is measured.")
    heads: bool = argument(
        False,
        "Train one model with a head for each aspect, in place of a model for each aspect. It scores all aspects in one pass.",
    )
    unified: bool = argument(
        False, "Also train one model on the pairs of all aspects together, named 'overall' (RAF)."
    )
    dry_run: bool = argument(False, "Show the plan and train nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_reward(arguments: RewardArguments, training_args: PDRewardConfig, model_args: Any) -> None:
    """Raises `InputError` if the reward models are to be pushed and the Hub would refuse them."""
    aspects = [HEADS_FOLDER] if arguments.heads else arguments.aspects or ["aspect"]
    folder = Path(training_args.output_dir or ".")
    check_pushes(training_args, [hub_name(training_args, folder, aspect) for aspect in aspects])


@held_folder
def run_reward(arguments: RewardArguments, training_args: PDRewardConfig, model_args: Any) -> StageResult:
    """Trains the models into subfolders of `output_dir` and writes a manifest with their metrics."""
    check_reward(arguments, training_args, model_args)
    if model_args.lora_task_type == "CAUSAL_LM":
        model_args.lora_task_type = "SEQ_CLS"  # TRL's default is for policies
    model, peft_config = begin_training("reward", arguments, training_args, model_args)
    preferences = rows_of(arguments.dataset_name, "preferences")
    check_preferences(preferences)
    if arguments.aspects is None and set(preferences.unique("aspect")) <= set(RESERVED_ASPECTS):
        advice = "Prepare the data with labels='one' (`pd-trl prepare --labels one`)."
        if not aspects_of(preferences):
            advice = (
                "Reward models that you have can vote as the aspects: name them in `pd-trl score --reward_models`."
            )
        raise InputError(
            "No pair has the label of an aspect: all labels are overall ones, but each proxy is trained on its aspect's labels. "
            f"{advice}"
        )
    check_model(
        model, task="heads" if arguments.heads else "reward", chat=is_chat(preferences) and training_args.chat_template_path is None,
        revision=model_args.model_revision, trust_remote_code=training_args.trust_remote_code,
    )  # fmt: skip
    folder = training_args.output_dir
    manifest = Manifest(
        "reward",
        inputs={"preferences": data_key(preferences), "model": model_key(model, model_args.model_revision)},
        arguments={
            "aspects": arguments.aspects, "heldout": arguments.heldout, "unified": arguments.unified,
            "peft": peft_settings(peft_config), "training": training_identity(training_args),
            **({"heads": True} if arguments.heads else {}),
        },
    )  # fmt: skip
    if arguments.dry_run:
        return dry_result(manifest, folder, {}, _plan(preferences, arguments, training_args))
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        return done
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        with timed(manifest):
            settings: dict[str, Any] = {
                "args": training_args,
                "heldout": arguments.heldout,
                "peft_config": peft_config,
            }
            rewards = train_aspect_rewards(
                preferences, model, root, aspects=arguments.aspects, heads=arguments.heads, **settings
            )
            if arguments.unified:
                rewards |= train_aspect_rewards(_pooled(preferences), model, root, **settings)
        manifest.counts = {f"train {name}": reward.num_train for name, reward in rewards.items()}
        metrics = {name: reward.metrics for name, reward in rewards.items()}
        manifest.results = {"metrics": metrics, "base_model": model}
        if is_main_process():
            manifest.save(root)
    for reward in rewards.values():
        reward.path = str(Path(folder) / Path(reward.path).relative_to(root))
    return StageResult("reward", folder, manifest.counts, reward_table(rewards))


def _pooled(preferences: Dataset) -> Dataset:
    """All pairs, each with its own aspect's label, under one name."""
    position = preferences.column_names.index("aspect")
    pooled = preferences.remove_columns("aspect")
    names = pooled.column_names
    column = Dataset.from_dict({"aspect": [OVERALL] * len(preferences)})
    merged = concatenate_datasets([pooled, column], axis=1)
    return merged.select_columns([*names[:position], "aspect", *names[position:]])


def _plan(preferences: Dataset, arguments: RewardArguments, args: PDRewardConfig) -> list[str]:
    held = heldout_rows(preferences, arguments.heldout, args.seed)
    labels = np.asarray(preferences["aspect"][:])
    rows = [["aspect", "pairs to train on", "held out", "steps"]]
    aspects = arguments.aspects or sorted(set(labels))
    groups = {" + ".join(aspects): np.isin(labels, aspects)} if arguments.heads else {a: labels == a for a in aspects}
    for name, of in groups.items():
        train = int((of & ~held).sum() * args.train_share)
        rows.append([name, str(train), str(int((of & held).sum())), str(num_steps(train, args))])
    return table(rows)


def reward_table(rewards: dict[str, AspectReward]) -> list[str]:
    """Accuracy of each model as lines of a table."""
    rows = [
        ["reward model", "trained on", "held out", "accuracy", "longer wins", "if chosen longer", "if shorter", "path"]
    ]
    for name, reward in rewards.items():
        m = reward.metrics
        accuracy = f"{m['pair_accuracy']:.3f} ± {m['pair_accuracy_se']:.3f}" if "pair_accuracy" in m else "-"
        rows.append([
            name, str(reward.num_train), str(m.get("num_pairs", 0)), accuracy, number(m.get("length_accuracy")),
            number(m.get("pair_accuracy_chosen_longer")), number(m.get("pair_accuracy_chosen_shorter")),
            str(Path(reward.path)),
        ])  # fmt: skip
    return table(rows)
