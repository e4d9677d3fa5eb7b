"""Stage `dpo`: a policy trained on the kept pairs."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data import is_chat
from ...data.validation import check_training_rows
from ...runs.artifacts import Manifest
from ...runs.checkpoints import last_checkpoint
from ...runs.identity import data_key
from ...runs.launch import is_main_process
from ...runs.model_identity import model_key, peft_settings
from ...runs.provenance import trained_on
from ...runs.stage_folders import StageResult, dry_result, held_folder, owned_folder, skip_if_done, timed
from ...runs.training_fields import training_identity
from ...selection.filter_file import FILTER_NAME, read_filter
from ...trainers.dpo.config import PDDPOConfig
from ...trainers.dpo.trainer import PDDPOTrainer, select_for_training
from .arguments import OVERWRITE, argument
from .inputs import rows_of
from .models import begin_training, check_model, check_pushes, num_steps


@dataclass
class DPOArguments:
    """Arguments of `pd-trl dpo`, beside those of [`PDDPOConfig`] and TRL's `ModelConfig`."""

    dataset_name: str | None = argument(
        None, "The folder of `pd-trl select`, or scored pairs with `--pd_budget`: a folder, a file, or a Hub id."
    )
    dry_run: bool = argument(False, "Show the plan and train nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_dpo(arguments: DPOArguments, training_args: PDDPOConfig, model_args: Any) -> None:
    """Raises `InputError` if the policy is to be pushed and the Hub would refuse it."""
    check_pushes(training_args, [None])


@held_folder
def run_dpo(arguments: DPOArguments, training_args: PDDPOConfig, model_args: Any) -> StageResult:
    """Trains a policy into `output_dir`, going on from the last checkpoint of an interrupted run."""
    check_dpo(arguments, training_args, model_args)
    model, peft_config = begin_training("dpo", arguments, training_args, model_args)
    dataset = _training_rows(arguments.dataset_name, all_pairs=training_args.pd_budget is not None)
    check_training_rows(dataset)
    check_model(
        model, task="dpo", chat=is_chat(dataset), revision=model_args.model_revision,
        trust_remote_code=training_args.trust_remote_code,
    )  # fmt: skip
    folder = training_args.output_dir
    manifest = Manifest(
        "dpo",
        inputs={"pairs": data_key(dataset), "model": model_key(model, model_args.model_revision)},
        arguments={"peft": peft_settings(peft_config), "training": training_identity(training_args)},
    )  # fmt: skip
    selection = None
    if training_args.pd_budget is not None:
        _, selection = select_for_training(dataset, training_args.pd_budget, training_args.pd_column)
    count = selection["kept"] if selection else len(dataset)
    if arguments.dry_run:
        lines = [f"{count} of {len(dataset)} pairs, {num_steps(count, training_args)} steps, from {model}"]
        return dry_result(manifest, folder, {"pairs": count}, lines)
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        return done
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        with timed(manifest):
            checkpoint = last_checkpoint(root, manifest, is_main_process())
            own_args = copy.copy(training_args)
            own_args.output_dir = str(root)
            trainer = PDDPOTrainer(model=model, args=own_args, train_dataset=dataset, peft_config=peft_config)
            trainer.selection_ = trainer.selection_ or _selection_of(arguments.dataset_name)
            trainer.datasets_ = trained_on(arguments.dataset_name)
            trainer.train(resume_from_checkpoint=checkpoint)
            trainer.save_model()
        manifest.counts = {"given": len(dataset), "trained on": len(trainer.train_dataset)}
        steps = trainer.state.global_step
        manifest.results = {"selection": trainer.selection_, "steps": steps, "base_model": model}
        if is_main_process():
            trainer.create_model_card()
            manifest.save(root)
    return StageResult("dpo", folder, manifest.counts)


def _selection_of(name: str | None) -> dict[str, Any] | None:
    """The report of `pd-trl select` for the model card, if the data is its folder."""
    folder = Path(name).expanduser() if name else None
    manifest = Manifest.load(folder) if folder is not None and folder.is_dir() else None
    if folder is None or manifest is None or manifest.stage != "select":
        return None
    thresholds = read_filter(folder / FILTER_NAME)["statistics"]["thresholds"]
    highest = max(threshold["score"] for threshold in thresholds.values())
    selector = manifest.arguments.get("selector", "pd")
    return {**manifest.counts, "selector": selector, "column": "pd", "threshold": highest}


def _training_rows(name: str | None, all_pairs: bool) -> Any:
    """The kept pairs of a selection, or all scored pairs if there is none or `pd_budget` selects."""
    folder = Path(name).expanduser() if name else Path()
    if folder.is_dir():
        part = next((part for part in ("preferences", "scored") if name and (folder / part).is_dir()), "selected")
    else:
        part = "scored" if all_pairs else "selected"
    return rows_of(name, part)
