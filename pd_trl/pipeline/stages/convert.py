"""Stage `convert`: a published reward model as one of ours."""

from dataclasses import dataclass

from ...errors import InputError
from ...runs.artifacts import Manifest
from ...runs.model_identity import model_key
from ...runs.stage_folders import StageResult, held_folder
from .arguments import OVERWRITE, argument
from .written_model import dtype_argument, written_model


@dataclass
class ConvertArguments:
    """Arguments of `pd-trl convert`, see [`convert_reward_model`]."""

    model_name_or_path: str | None = argument(None, "The published reward model: a folder or a Hub id.")
    output_dir: str = argument("converted", "Folder of the result.")
    model_revision: str | None = argument(None, "Branch, tag or commit of the model on the Hub.")
    tokenizer: str | None = argument(
        None, "Folder or Hub id of the tokenizer, where the model's own needs code of its own."
    )
    dtype: str | None = dtype_argument("the one that they are stored in")
    dry_run: bool = argument(False, "Show the outputs and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_convert(arguments: ConvertArguments) -> None:
    """Raises `InputError` where no model is named."""
    if not arguments.model_name_or_path:
        raise InputError("No model: name one with --model_name_or_path (a folder or a Hub id).")


@held_folder
def run_convert(arguments: ConvertArguments) -> StageResult:
    """Writes the model, its tokenizer, `pd_reward.json` and the manifest."""
    from ...hub import local_model_folder
    from ...models.published.conversion import convert_reward_model, convertible
    from ...models.published.families import head_of

    check_convert(arguments)
    name = str(arguments.model_name_or_path)
    folder = local_model_folder(name, revision=arguments.model_revision, what="model")
    checkpoint, family = convertible(folder, name)
    inputs = {"model": model_key(folder)}
    if arguments.tokenizer is not None:
        inputs["tokenizer"] = model_key(local_model_folder(arguments.tokenizer, what="tokenizer"))
    manifest = Manifest("convert", inputs=inputs, arguments={"dtype": arguments.dtype})
    names = head_of(family, checkpoint).names
    count = f"{len(names)} output{'s' if len(names) != 1 else ''}"
    lines = [f"{name} is read as {family.name}.", f"{count}: {', '.join(names)}"]
    return written_model(
        manifest, arguments, [name, arguments.tokenizer], {"outputs": len(names)}, lines,
        lambda root: convert_reward_model(folder, root, tokenizer=arguments.tokenizer, dtype=arguments.dtype),
    )  # fmt: skip
