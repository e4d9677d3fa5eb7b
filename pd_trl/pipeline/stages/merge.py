"""Stage `merge`: an adapter and its base as one model."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import Manifest
from ...runs.model_identity import model_key
from ...runs.stage_folders import StageResult, held_folder
from .arguments import OVERWRITE, argument
from .written_model import dtype_argument, written_model

# Names that tables of words, and the layers that may have the same weights, have in language models.
_EMBEDDINGS = ("lm_head", "model.embed_tokens", "transformer.wte", "embed_out", "gpt_neox.embed_in")


@dataclass
class MergeArguments:
    """Arguments of `pd-trl merge`: a LoRA adapter of a policy or of a reward model becomes a model without one."""

    model_name_or_path: str | None = argument(None, "The adapter: a folder or a Hub id.")
    output_dir: str = argument("merged", "Folder of the result.")
    model_revision: str | None = argument(None, "Branch, tag or commit of the adapter on the Hub.")
    dtype: str | None = dtype_argument("the one that the base is stored in")
    trust_remote_code: bool = argument(False, "Run code that comes with the base model.")
    dry_run: bool = argument(False, "Say what would be merged and write nothing.")
    overwrite: bool = argument(False, OVERWRITE)


def check_merge(arguments: MergeArguments) -> None:
    """Raises `InputError` where no adapter is named."""
    if not arguments.model_name_or_path:
        raise InputError("No adapter: name one with --model_name_or_path (a folder or a Hub id).")


@held_folder
def run_merge(arguments: MergeArguments) -> StageResult:
    """Writes the model as safetensors, its tokenizer, `pd_reward.json` of a reward model, and the manifest."""
    from ...hub import local_model_folder
    from ...models.adapters import base_folder, is_adapter

    check_merge(arguments)
    name = str(arguments.model_name_or_path)
    folder = local_model_folder(name, revision=arguments.model_revision, what="adapter")
    if not is_adapter(folder):
        raise InputError(f"{name} is no adapter (it has no adapter_config.json): there is nothing to merge.")
    base = base_folder(folder, f"the adapter {name}")
    kind, modules = _described(folder, base)
    # The key of an adapter holds that of its base.
    manifest = Manifest("merge", inputs={"model": model_key(folder)}, arguments={"dtype": arguments.dtype})
    lines = [f"{name} is a LoRA adapter of {base.name}, {kind}.", f"adapted: {', '.join(modules)}"]
    return written_model(
        manifest, arguments, [name, str(base)], {"adapted": len(modules)}, lines,
        lambda root: merge_adapter(
            folder, root, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code
        ),
    )  # fmt: skip


def _adapts(name: str, targets: str | Iterable[str]) -> bool:
    """Whether a module is among those of an adapter: a pattern of whole names, or ends of names."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _described(folder: Path, base: Path) -> tuple[str, list[str]]:
    """What the adapter makes of its base, and the modules that it changes or holds. Raises `InputError` where merging would be wrong."""
    from peft import PeftConfig

    from ...models.adapters import adapter_config, is_reward_adapter, read_config
    from ...models.loading import foreign
    from ...models.outputs import HEADS, outputs_of

    with foreign(f"The configuration of the adapter in {folder}"):
        config: Any = PeftConfig.from_pretrained(str(folder))
    if getattr(config.peft_type, "value", config.peft_type) != "LORA":
        raise InputError(f"The adapter in {folder} is of type {config.peft_type}: only LoRA can be merged here.")
    targets = config.target_modules or []
    modules = sorted({targets} if isinstance(targets, str) else {*targets, *(config.modules_to_save or [])})
    outputs = outputs_of(folder)
    if outputs.kind == HEADS:
        return f"with heads for {', '.join(outputs.names)}", modules
    if is_reward_adapter(adapter_config(folder)):
        return "a reward model", modules
    names = [name for name in _EMBEDDINGS if _adapts(name, targets) or _adapts(name, config.modules_to_save or [])]
    shared = {name.split(".")[-1] for name in names}
    if shared and read_config(base / "config.json").get("tie_word_embeddings", True):
        raise InputError(
            f"The adapter in {folder} changes {', '.join(sorted(shared))}, and {base} may have the same weights for input and output: merged, "
            "the change of one would be one of both. Keep the adapter, or untie the base (`tie_word_embeddings: false`)."
        )
    return "a policy", modules


def merge_adapter(
    folder: Path, output_dir: Path, *, dtype: str | None = None, trust_remote_code: bool = False
) -> None:
    """
    Writes an adapter and its base as one model: `W + α/r · BA` of each adapted matrix (arXiv 2106.09685), and the modules that the
    adapter holds whole, such as a reward head. The tokenizer is the adapter's, where it has one, and the pad token the one that it was
    trained with.

    Args:
        folder (`Path`): The adapter.
        output_dir (`Path`): Folder of the result.
        dtype (`str`, *optional*): Type of the weights. `None` is the one that the base is stored in.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with the base.

    Raises:
        InputError: When the adapter or its base cannot be loaded, or merging gives values that are not finite.
    """
    import torch
    from transformers import AutoConfig

    from ...generation.policies import PolicySource
    from ...models.adapters import adapter_config, base_folder, is_reward_adapter
    from ...models.loading import foreign
    from ...models.sidecar import RewardSidecar
    from ...scoring import load_scorers

    base = base_folder(folder, f"the adapter {folder}")
    with foreign(f"The configuration of {base}"):
        stored = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code).dtype
    kept = getattr(torch, dtype) if dtype else stored or torch.float32
    sidecar = RewardSidecar.load(folder)
    with foreign(f"The adapter in {folder}"):
        if sidecar.heads or is_reward_adapter(adapter_config(folder)):
            aspects = list(sidecar.heads) or [sidecar.aspect or "reward"]
            (scorer,) = load_scorers(
                dict.fromkeys(aspects, str(folder)), dtype=kept, trust_remote_code=trust_remote_code
            )
            adapted, tokenizer, pad_token_id = scorer.model, scorer.tokenizer, scorer.pad_token_id
        else:
            source = PolicySource(str(folder), dtype=kept, trust_remote_code=trust_remote_code)
            adapted, tokenizer, pad_token_id = source.loaded, source.tokenizer, None
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise InputError(f"The adapter in {folder} cannot be merged: {error}") from None
    if pad_token_id is not None:
        merged.config.get_text_config().pad_token_id = pad_token_id
    merged.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    if (folder / "pd_reward.json").is_file():
        sidecar.save(output_dir)
