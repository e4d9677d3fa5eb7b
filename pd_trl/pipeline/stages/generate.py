"""Stage `generate`: a model's outputs to a set of instructions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import Manifest, digest_of
from ...runs.stage_folders import (
    StageResult,
    check_folder,
    dry_result,
    holding_output_dir,
    owned_folder,
    skip_if_done,
    timed,
)
from ...safety.schema import anything, integer, mapping, read_document, record
from .inputs import mapping_of

_SUMMARY = record({"counts": mapping(integer(0))}, required=("counts",), others=anything)


@dataclass
class GenerateArguments:
    """
    Arguments of `pd-trl generate`, see [`generate_outputs`].

    Args:
        model_name_or_path (`str`, *optional*):
            The model: a folder, a Hub id, or the folder of a LoRA adapter.
        instructions (`str` or `dict`, *optional*, defaults to `"alpaca_eval"`):
            AlpacaEval's 805, a file, a Hub id; or a mapping of name to these for several sets.
        instruction_column (`str`, *optional*):
            Column of the instruction, where it is not `instruction`, `prompt` or `messages`.
        instruction_split (`str`, *optional*, defaults to `"train"`):
            Split of an instruction set on the Hub.
        output_dir (`str`, *optional*, defaults to `"outputs"`):
            Folder of the result. A run that was killed goes on there.
        generator (`str`, *optional*):
            Name of the model in the outputs. The last part of its folder or id where unset.
        max_new_tokens (`int`, *optional*, defaults to `2048`):
            Longest output, in tokens.
        temperature (`float`, *optional*, defaults to `0.0`):
            0 takes the likeliest token.
        top_p (`float`, *optional*, defaults to `1.0`):
            Draw from the smallest set of likeliest tokens with this probability.
        top_k (`int`, *optional*, defaults to `0`):
            Draw from this many likeliest tokens; 0 is all.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the draws.
        system_prompt (`str`, *optional*):
            System message before each instruction.
        use_chat_template (`bool`, *optional*):
            Whether instructions are wrapped by the chat template. Yes where the tokenizer has one, if unset.
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template (YAML, or json).
        batch_size (`int`, *optional*, defaults to `32`):
            Prompts per batch, with transformers.
        backend (`str`, *optional*, defaults to `"transformers"`):
            transformers or vllm.
        engine_kwargs (`dict`, *optional*):
            Further arguments of `vllm.LLM` (YAML, or json).
        model_revision (`str`, *optional*):
            Revision of the model on the Hub.
        dtype (`str`, *optional*):
            Type of the weights. bfloat16 on a GPU that has it, float32 elsewhere, if unset.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with the model.
        dry_run (`bool`, *optional*, defaults to `False`):
            Show the plan and generate nothing.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
    """

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A folder, a Hub id, or the folder of a LoRA adapter."}
    )
    instructions: dict[str, Any] | str | None = field(
        default="alpaca_eval",
        metadata={"help": "alpaca_eval (its 805), a file, a Hub id; or a mapping of name to these for several sets."},
    )
    instruction_column: str | None = field(
        default=None, metadata={"help": "Column of the instruction, if not instruction, prompt or messages."}
    )
    instruction_split: str = field(default="train", metadata={"help": "Split of an instruction set on the Hub."})
    output_dir: str = field(default="outputs", metadata={"help": "Folder of the result. A killed run goes on there."})
    generator: str | None = field(
        default=None,
        metadata={"help": "Name of the model in the outputs. The last part of its folder or id if unset."},
    )
    max_new_tokens: int = field(default=2048, metadata={"help": "Longest output, in tokens."})
    temperature: float = field(default=0.0, metadata={"help": "0 takes the likeliest token."})
    top_p: float = field(default=1.0, metadata={"help": "Draw from the smallest set of tokens with this probability."})
    top_k: int = field(default=0, metadata={"help": "Draw from this many likeliest tokens; 0 is all."})
    seed: int = field(default=42, metadata={"help": "Seed of the draws."})
    system_prompt: str | None = field(default=None, metadata={"help": "System message before each instruction."})
    use_chat_template: bool | None = field(
        default=None, metadata={"help": "Whether to use the chat template. Where the tokenizer has one, if unset."}
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of the chat template (YAML, or json)."}
    )
    batch_size: int = field(default=32, metadata={"help": "Prompts per batch, with transformers."})
    backend: str = field(
        default="transformers", metadata={"help": "transformers or vllm.", "choices": ["transformers", "vllm"]}
    )
    engine_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Further arguments of vllm.LLM (YAML, or json)."}
    )
    model_revision: str | None = field(default=None, metadata={"help": "Revision of the model on the Hub."})
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "bfloat16 on a GPU that has it, float32 elsewhere, if unset.",
            "choices": ["float32", "bfloat16", "float16"],
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Whether to run code that comes with a model."})
    dry_run: bool = field(default=False, metadata={"help": "Show the plan and generate nothing."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another run's result in `output_dir`."})


_DECODING = ("max_new_tokens", "temperature", "top_p", "top_k", "seed", "system_prompt", "use_chat_template")


def check_generate(arguments: GenerateArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    decoding_of(arguments)
    if arguments.batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {arguments.batch_size}.")


def decoding_of(arguments: GenerateArguments) -> Any:
    """The decoding settings among the arguments."""
    from ...generation import DecodingConfig

    kwargs = mapping_of(arguments.chat_template_kwargs, "chat_template_kwargs")
    return DecodingConfig(**{name: getattr(arguments, name) for name in _DECODING}, chat_template_kwargs=kwargs)


@holding_output_dir
def run_generate(arguments: GenerateArguments) -> StageResult:
    """Writes `model_outputs.json` (in a subfolder for each of several sets), the decoding settings and the manifest."""
    import torch

    from ...generation import generate_outputs
    from ...generation.policies import PolicySource

    check_generate(arguments)
    name = arguments.model_name_or_path
    if not name:
        raise InputError("No model: name one with --model_name_or_path (a folder or a Hub id).")
    folder, config = Path(arguments.output_dir).expanduser(), decoding_of(arguments)
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    source = PolicySource(name, arguments.model_revision, dtype, arguments.trust_remote_code)
    source.check()
    sets = load_sets(arguments)
    settings = {**asdict(config), "dtype": str(source.resolved_dtype), "backend": arguments.backend}
    manifest = Manifest(
        "generate",
        inputs={
            "model": source.digest,
            **{f"instructions {k}": digest_of([asdict(item) for item in items]) for k, items in sets.items()},
        },
        arguments={**settings, "generator": arguments.generator or source.name},
    )
    total = sum(map(len, sets.values()))
    if arguments.dry_run:
        decoding = f"temperature {config.temperature}" if config.temperature else "greedy"
        line = f"{total} instructions ({', '.join(sets)}), {decoding}, at most {config.max_new_tokens} tokens each"
        return dry_result(manifest, arguments.output_dir, {"instructions": total}, [line])
    check_folder("generate", folder, [name, *_sources(arguments.instructions).values()])
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        return done
    manifest.counts = {"instructions": total}
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        with timed(manifest):
            for key, items in sets.items():
                place = root if len(sets) == 1 else root / key
                generate_outputs(
                    source,
                    items,
                    output_dir=place,
                    generator=arguments.generator,
                    config=config,
                    batch_size=arguments.batch_size,
                    backend=arguments.backend,
                    engine_kwargs=mapping_of(arguments.engine_kwargs, "engine_kwargs"),
                )
                summary = read_document(place / "decoding.json", _SUMMARY, "what `pd-trl generate` writes")
                for count, value in summary["counts"].items():
                    manifest.counts[count] = manifest.counts.get(count, 0) + value
        manifest.save(root)
    return StageResult("generate", arguments.output_dir, manifest.counts)


def _sources(instructions: str | Mapping[str, Any] | None) -> dict[str, str]:
    if isinstance(instructions, str) and not instructions.lstrip().startswith("{"):
        return {"instructions": instructions}
    return {str(k): str(v) for k, v in mapping_of(instructions, "instructions").items()}


def load_sets(arguments: GenerateArguments) -> dict[str, list[Any]]:
    """The instruction sets that the arguments name."""
    from ...generation import load_instructions

    sources = _sources(arguments.instructions)
    if not sources:
        raise InputError("`instructions` names no set: give a file, a Hub id, or a mapping of name to these.")
    for name in sources:
        if "/" in name or name.startswith("."):
            raise InputError(f"The set {name!r} in `instructions` cannot name a folder. Choose another name.")
    options: dict[str, Any] = {"split": arguments.instruction_split, "column": arguments.instruction_column}
    loaded = {name: load_instructions(source, **options) for name, source in sources.items()}
    if len(loaded) == 1 and "instructions" in loaded:
        items = loaded.pop("instructions")
        loaded[items[0].dataset] = items
    return loaded
