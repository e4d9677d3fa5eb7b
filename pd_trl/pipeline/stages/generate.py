"""Stage `generate`: a model's outputs to a set of instructions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.artifacts import Manifest, digest_of
from ...runs.on_ray import NO_SERVER, import_ray
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, owned_folder, skip_if_done, timed
from ...safety.schema import anything, integer, mapping, read_document, record
from ..mappings import mapping_of, path_or_mapping
from .arguments import (
    NUM_ACTORS,
    OVERWRITE_KEEPS_ANSWERS,
    REMOTE_CODE,
    RESUMED,
    argument,
    check_engine,
    engine_argument,
    weights_argument,
)

_SUMMARY = record({"counts": mapping(integer(0))}, required=("counts",), others=anything)


@dataclass
class GenerateArguments:
    """Arguments of `pd-trl generate`, see [`generate_outputs`]."""

    model_name_or_path: str | None = argument(None, "The model: a folder, a Hub id, or the folder of a LoRA adapter.")
    model: str | None = argument(
        None, "A model behind an OpenAI-compatible server, in place of `model_name_or_path`: its name there."
    )
    base_url: str | None = argument(
        None, "Address of that server. Where unset, the environment variable OPENAI_BASE_URL, then OpenAI's own."
    )
    api_key_env: str | None = argument(
        None, "Environment variable with the server's key. Where unset, OPENAI_API_KEY."
    )
    request_arguments: dict[str, Any] | str | None = argument(
        None,
        'Further arguments of each request to the server: a mapping (YAML or json), such as {"extra_body": {"top_k": 40}}; null takes one of ours away.',
    )
    requests: dict[str, Any] | str | None = argument(
        None, "Retries and concurrency of the requests, such as {max_concurrency: 4}: a mapping (YAML or json)."
    )
    skip_failed: bool = argument(
        False, "Leave out and count instructions that the server gives no output to, instead of an error."
    )
    instructions: dict[str, Any] | str | None = argument(
        "alpaca_eval",
        "Instructions: alpaca_eval (its 805), a file or a Hub id; for several sets, a mapping of name to these (YAML or json).",
    )
    instruction_column: str | None = argument(
        None, "Column of the instruction, where it is not `instruction`, `prompt` or `messages`."
    )
    instruction_split: str = argument("train", "Split of an instruction set on the Hub.")
    output_dir: str = argument("outputs", RESUMED)
    generator: str | None = argument(
        None, "Name of the model in the outputs. Where unset, the last part of its folder or id."
    )
    max_new_tokens: int = argument(2048, "Maximum number of tokens of an output.")
    temperature: float = argument(0.0, "Temperature of sampling; 0 takes the likeliest token.")
    top_p: float = argument(1.0, "Sample from the smallest set of tokens with this probability.")
    top_k: int = argument(0, "Sample from this many of the likeliest tokens; 0 is all.")
    seed: int = argument(42, "Seed of the sampling.")
    system_prompt: str | None = argument(None, "System message to put before each instruction.")
    use_chat_template: bool | None = argument(
        None, "Whether to use the chat template. Where unset, it is used if the tokenizer has one."
    )
    chat_template_kwargs: dict[str, Any] | str | None = argument(
        None, "Arguments of the chat template: a mapping (YAML or json)."
    )
    batch_size: int = argument(32, "Number of prompts in a batch (transformers only).")
    backend: str = argument(
        "transformers", "Library that generates: transformers or vllm.", choices=["transformers", "vllm"]
    )
    engine_kwargs: dict[str, Any] | str | None = argument(
        None, "Further arguments of vllm.LLM: a mapping (YAML or json)."
    )
    engine: str = engine_argument("this one")
    num_actors: int | None = argument(None, NUM_ACTORS)
    model_revision: str | None = argument(None, "Branch, tag or commit of the model on the Hub.")
    dtype: str | None = weights_argument()
    trust_remote_code: bool = argument(False, REMOTE_CODE)
    dry_run: bool = argument(False, "Show the plan and generate nothing.")
    overwrite: bool = argument(False, OVERWRITE_KEEPS_ANSWERS)


_DECODING = ("max_new_tokens", "temperature", "top_p", "top_k", "seed", "system_prompt", "use_chat_template")


def check_generate(arguments: GenerateArguments) -> None:
    """Raises `InputError` on arguments out of range."""
    from ...models.vllm import check_engine_kwargs

    config = decoding_of(arguments)
    check_engine(arguments)
    if arguments.engine == "ray":
        if arguments.model is not None:
            raise InputError(NO_SERVER)
        check_engine_kwargs(mapping_of(arguments.engine_kwargs, "engine_kwargs"))
    if arguments.model is not None:
        _server_policy(arguments).check(config)
    elif arguments.base_url is not None:
        raise InputError("`base_url` is the address of a server: name the model that it has with --model.")
    if arguments.batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1, got {arguments.batch_size}.")


def decoding_of(arguments: GenerateArguments) -> Any:
    """The decoding settings among the arguments."""
    from ...generation import DecodingConfig

    kwargs = mapping_of(arguments.chat_template_kwargs, "chat_template_kwargs")
    return DecodingConfig(**{name: getattr(arguments, name) for name in _DECODING}, chat_template_kwargs=kwargs)


@held_folder
def run_generate(arguments: GenerateArguments) -> StageResult:
    """Writes `model_outputs.json` (in a subfolder for each of several sets), the decoding settings and the manifest."""
    from ...generation import generate_outputs
    from ...generation.outputs import LOG_NAME
    from ...runs.row_log import carry_over

    check_generate(arguments)
    folder, config = Path(arguments.output_dir).expanduser(), decoding_of(arguments)
    if arguments.engine == "ray":
        import_ray()  # before a folder is made
    policy = _policy(arguments)
    sets = load_sets(arguments)
    server = arguments.model is not None
    settings = {
        **asdict(config),
        **(policy.settings_of_requests() if server else {"dtype": str(policy.resolved_dtype)}),
    }
    manifest = Manifest(
        "generate",
        inputs={
            "model": policy.model if server else policy.digest,
            **{f"instructions {k}": digest_of([asdict(item) for item in items]) for k, items in sets.items()},
        },
        arguments={"backend": arguments.backend, **settings, "generator": arguments.generator or policy.name},
    )
    total = sum(map(len, sets.values()))
    if arguments.dry_run and server:
        counts, lines = _planned(policy, sets, folder, config)
        return dry_result(manifest, arguments.output_dir, counts, lines)
    if server:
        policy.connect()
    if arguments.dry_run:
        decoding = f"temperature {config.temperature}" if config.temperature else "greedy"
        line = f"{total} instructions ({', '.join(sets)}), {decoding}, at most {config.max_new_tokens} tokens each"
        return dry_result(manifest, arguments.output_dir, {"instructions": total}, [line])
    check_folder("generate", folder, [arguments.model_name_or_path, *_sources(arguments.instructions).values()])
    done = skip_if_done(manifest, folder, arguments.overwrite)
    if done:
        return done
    manifest.counts = {"instructions": total}
    with owned_folder(manifest, folder, arguments.overwrite) as root:
        with timed(manifest):
            for key, items in sets.items():
                place = root if len(sets) == 1 else root / key
                if server:
                    earlier = folder if len(sets) == 1 else folder / key
                    carry_over(earlier / LOG_NAME, place / LOG_NAME, policy.identity(config))
                generate_outputs(
                    policy,
                    items,
                    output_dir=place,
                    generator=arguments.generator,
                    config=config,
                    batch_size=arguments.batch_size,
                    backend=arguments.backend,
                    engine_kwargs=mapping_of(arguments.engine_kwargs, "engine_kwargs"),
                    engine=arguments.engine,
                    num_actors=arguments.num_actors,
                )
                summary = read_document(place / "decoding.json", _SUMMARY, "what `pd-trl generate` writes")
                for count, value in summary["counts"].items():
                    manifest.counts[count] = manifest.counts.get(count, 0) + value
        manifest.save(root)
    return StageResult("generate", arguments.output_dir, manifest.counts)


def _policy(arguments: GenerateArguments) -> Any:
    """The model that the arguments name, here or behind a server."""
    if arguments.model is not None:
        return _server_policy(arguments)
    from ...generation.policies import PolicySource

    name = arguments.model_name_or_path
    if not name:
        raise InputError(
            "No model: name one with --model_name_or_path (a folder or a Hub id), or with --model one of a server."
        )
    source = PolicySource(name, arguments.model_revision, arguments.dtype, arguments.trust_remote_code)
    source.check()
    return source


def _server_policy(arguments: GenerateArguments) -> Any:
    from ...generation import ServerPolicy
    from ...generation.server import DEFAULT_KEY
    from ...servers import request_settings

    if arguments.model_name_or_path:
        raise InputError("Two models: give --model (of a server) or --model_name_or_path (a folder or a Hub id).")
    return ServerPolicy(
        str(arguments.model),
        arguments.base_url,
        arguments.api_key_env or DEFAULT_KEY,
        request_settings(mapping_of(arguments.requests, "requests")),
        mapping_of(arguments.request_arguments, "request_arguments"),
        arguments.skip_failed,
    )


def _planned(policy: Any, sets: Mapping[str, Any], folder: Path, config: Any) -> tuple[dict[str, int], list[str]]:
    """What a server would be asked, without what it answered before."""
    from ...generation.server import kept_answers

    counts: dict[str, int] = {}
    for key, items in sets.items():
        place = folder if len(sets) == 1 else folder / key
        planned = policy.plan(policy.requests(items, config), kept_answers(place, policy.identity(config)), config)
        for name, count in planned.items():
            counts[name] = counts.get(name, 0) + count
    line = (
        f"{counts['requests']} requests to {policy.address}, about {counts['prompt tokens']:,} prompt tokens and at most "
        f"{counts['output tokens']:,} output tokens; {counts['answered']} known answers"
    )
    return {"requests": counts["requests"]}, [line]


def _sources(instructions: str | Mapping[str, Any] | None) -> dict[str, str]:
    named = path_or_mapping(instructions, "instructions")
    return {"instructions": named} if isinstance(named, str) else {k: str(v) for k, v in named.items()}


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
