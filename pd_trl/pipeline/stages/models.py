"""From TRL's `ModelConfig` to a trainer's model, with checks before anything is written."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ...errors import InputError
from ...hub import local_model_folder
from ...publishing.trained import serve_trainers
from ...runs.stage_folders import check_folder
from ...trainers.push import check_push


def check_pushes(training_args: Any, repo_ids: Iterable[str | None]) -> None:
    """Raises `InputError` if trained models are to be pushed and the Hub would refuse them. `None` is `hub_model_id`."""
    if training_args.push_to_hub and (training_args.hub_model_id or training_args.output_dir):
        serve_trainers()
        for repo_id in repo_ids:
            check_push(training_args, repo_id)


def begin_training(stage: str, arguments: Any, training_args: Any, model_args: Any) -> tuple[str, Any]:
    """
    The model's path or id and the PEFT configuration (or `None`) of a stage that trains.

    Checks the stage's folder, and fills `training_args.model_init_kwargs` as TRL's scripts do.
    """
    from trl import get_peft_config, get_quantization_config

    serve_trainers()
    if not training_args.output_dir:
        raise InputError(f"`pd-trl {stage}` needs --output_dir.")
    if not model_args.model_name_or_path:
        raise InputError("No model: name one with --model_name_or_path (a folder or a Hub id).")
    if not arguments.dry_run:
        check_folder(stage, training_args.output_dir, [arguments.dataset_name, model_args.model_name_or_path])
    settings = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype or "float32",
    }
    quantization = get_quantization_config(model_args)
    if quantization is not None:
        settings["quantization_config"] = quantization
    training_args.model_init_kwargs = {**settings, **(training_args.model_init_kwargs or {})}
    return model_args.model_name_or_path, get_peft_config(model_args)


def num_steps(num_pairs: int, args: Any) -> int:
    """Number of training steps on `num_pairs` pairs."""
    if args.max_steps > 0:
        return int(args.max_steps)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
    return int(np.ceil(num_pairs / batch) * args.num_train_epochs)


def check_model(name: str, *, task: str, chat: bool, revision: str | None, trust_remote_code: bool) -> None:
    """
    Raises `InputError` unless a model can be the start of training.

    Args:
        name (`str`): Folder or Hub id.
        task (`str`): `"reward"`, `"heads"` (a reward model with several) or `"dpo"`.
        chat (`bool`): Whether the data is conversational, so that a chat template is needed.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        trust_remote_code (`bool`): Whether to run code that comes with the model.
    """
    from transformers import AutoConfig, AutoTokenizer

    from ...models.adapters import is_adapter
    from ...models.heads.configuration import MultiAspectRewardConfig, pooling_of
    from ...models.loading import foreign

    folder = local_model_folder(name, revision=revision, what="model")
    what = f"The model {name}"
    if is_adapter(folder):
        raise InputError(
            f"{what} is a LoRA adapter, and training starts from a whole model. Make one of the adapter and its base: `pd-trl merge "
            f"--model_name_or_path {name} --output_dir merged`."
        )
    with foreign(f"The config.json of {what[0].lower()}{what[1:]}"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    architecture = next(iter(config.architectures or []), "")
    if isinstance(config, MultiAspectRewardConfig):
        if task != "heads":
            raise InputError(
                f"{what} is a reward model with heads for {', '.join(config.aspects)}: start from its backbone."
            )
    elif task == "heads":
        pooling_of(config, name)
    if task == "reward" and "SequenceClassification" in architecture and config.num_labels != 1:
        raise InputError(
            f"{what} is a classifier with {config.num_labels} outputs, but a reward model has one (`num_labels=1`). Start from "
            "a language model, or from a reward model."
        )
    if task == "dpo" and architecture and "SequenceClassification" in architecture:
        raise InputError(f"{what} is a {architecture}, but DPO needs a language model (…ForCausalLM).")
    _check_weights(folder, what)
    with foreign(f"The tokenizer of {what[0].lower()}{what[1:]}"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if chat and not tokenizer.chat_template:
        raise InputError(
            f"The data is conversational, but the tokenizer of {name} has no chat template. Add one to it, set "
            "`chat_template_path` (reward), or use a model that has one."
        )


def _check_weights(folder: Path, what: str) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{what} has no weights: there is no *.safetensors file in {folder}.")
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(f"{what} is damaged: {path} cannot be read ({error}).") from None
