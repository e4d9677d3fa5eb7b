"""[`generate_outputs`]: a model's outputs to a set of instructions, kept row by row."""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..runs.artifacts import write_json
from ..runs.on_ray import ENGINES, NO_SERVER
from ..runs.progress import Bar
from ..runs.row_log import MemoryLog, RowLog
from ..safety.schema import Check, boolean, integer, record, text
from ..safety.secrets import masked
from ..servers.settings import RequestSettings, request_settings
from ..text.tables import printable
from .decoder import Decoder, Prompt
from .instructions import Instruction, load_instructions
from .policies import Policy, PolicySource
from .prompts import encode_prompts
from .server import DEFAULT_KEY, LOG_NAME, SERVER_ROW, ServerPolicy, describe_failures, raise_failures
from .settings import DecodingConfig

logger = logging.getLogger(__name__)

OUTPUTS_NAME = "model_outputs.json"
DECODING_NAME = "decoding.json"
BACKENDS = ("transformers", "vllm", "server")
# What is kept of an output.
_FIELDS = {"output": text(), "num_tokens": integer(0), "finished": boolean}
_ROW = record(_FIELDS, required=_FIELDS)


def generate_outputs(
    model: Policy | PolicySource | ServerPolicy,
    instructions: str | os.PathLike | Iterable[Any] = "alpaca_eval",
    *,
    output_dir: str | os.PathLike | None = None,
    generator: str | None = None,
    config: DecodingConfig | None = None,
    batch_size: int = 32,
    backend: str = "transformers",
    engine_kwargs: dict[str, Any] | None = None,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool = False,
    base_url: str | None = None,
    api_key_env: str = DEFAULT_KEY,
    request_arguments: Mapping[str, Any] | None = None,
    requests: RequestSettings | Mapping[str, Any] | None = None,
    skip_failed: bool = False,
    engine: str = "process",
    num_actors: int | None = None,
) -> list[dict[str, str]]:
    """
    Outputs of a language model to a set of instructions, in the format of AlpacaEval.

    Greedy decoding in float32 gives the same outputs for any batch size and order. Started again after a kill, it goes on with
    the instructions that have no output yet.

    Args:
        model (`str`, path, tuple, [`PolicySource`] or [`ServerPolicy`]):
            A folder or Hub id of a causal language model or of its LoRA adapter, or a tuple of a model and its tokenizer. A
            [`PolicySource`] is loaded once for several calls. With `base_url`, or `backend="server"`, the name of a model on an
            OpenAI-compatible server.
        instructions (`str`, path, or iterable, *optional*, defaults to `"alpaca_eval"`):
            What [`load_instructions`] takes, or what it returns.
        output_dir (`str`, *optional*):
            Folder for `model_outputs.json`, the decoding settings (`decoding.json`), and the finished rows with their number of
            tokens (`generated.jsonl`). `None` keeps nothing.
        generator (`str`, *optional*):
            Name of the model in the outputs. `None` is the last part of its folder or id.
        config ([`DecodingConfig`], *optional*):
            How to decode. `None` is greedy, up to 2,048 new tokens.
        batch_size (`int`, *optional*, defaults to `32`):
            Prompts per batch, with transformers.
        backend (`str`, *optional*, defaults to `"transformers"`):
            `"transformers"`, `"vllm"`, or `"server"` for a model behind an OpenAI-compatible server.
        engine_kwargs (`dict`, *optional*):
            Further arguments of `vllm.LLM`.
        revision (`str`, *optional*):
            Revision of the model on the Hub.
        dtype (`torch.dtype` or `str`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere; `"auto"` is bfloat16 on a CPU that computes in it, too.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with the model.
        base_url (`str`, *optional*):
            Address of an OpenAI-compatible server. `None` with `backend="server"` is `OPENAI_BASE_URL`, then OpenAI's own.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`):
            Environment variable with the server's key.
        request_arguments (`dict`, *optional*):
            Further arguments of each request to the server, see [`ServerPolicy`].
        requests ([`RequestSettings`] or `dict`, *optional*):
            Retries and concurrency, such as `{"max_retries": 2}`.
        skip_failed (`bool`, *optional*, defaults to `False`):
            Whether instructions that the server gives no output to are left out and counted, instead of an error.
        engine (`str`, *optional*, defaults to `"process"`):
            `"process"` is this process, `"ray"` a Ray cluster, whose actors have the model each. Outputs are the same.
        num_actors (`int`, *optional*):
            Actors on Ray. `None` is one for each GPU, or for each CPU where there is none.

    Returns:
        `list` of `dict`: records with the keys `dataset`, `instruction`, `output` and `generator`, in the order of the
        instructions.

    Raises:
        InputError: On unusable instructions or models, or when `output_dir` holds outputs made otherwise.
    """
    if backend not in BACKENDS:
        raise InputError(f"`backend` must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if engine not in ENGINES:
        raise InputError(f"`engine` must be one of {', '.join(ENGINES)}, got {engine!r}.")
    config = config or DecodingConfig()
    items = _as_instructions(instructions)
    if isinstance(model, ServerPolicy) or base_url is not None or backend == "server":
        if engine != "process":
            raise InputError(NO_SERVER)
        policy = model
        if not isinstance(policy, ServerPolicy):
            policy = ServerPolicy(
                str(model),
                base_url,
                api_key_env,
                request_settings(requests),
                request_arguments or {},
                skip_failed,
            )
        return _asked(policy, items, config, output_dir, generator or policy.name)
    source = model if isinstance(model, PolicySource) else PolicySource(model, revision, dtype, trust_remote_code)
    source.check()
    prompts = encode_prompts(source.tokenizer, items, config)
    settings = {
        "decoding": asdict(config),
        "model": source.digest,
        "dtype": str(source.resolved_dtype),
        "backend": backend,
    }
    keys = [_row_key(ids, item.text) for ids, item in zip(prompts, items, strict=True)]
    name = generator or source.name
    with _rows(output_dir, settings, _ROW) as rows:
        missing = [i for i, key in enumerate(keys) if key not in rows]
        left = [Prompt(i, prompts[i], items[i].text) for i in missing]
        decoder = Decoder(source, config, batch_size, backend, engine_kwargs)
        made = decoder.rows_on_ray(left, num_actors) if engine == "ray" else decoder.rows(left)
        with Bar(
            total=len(items), initial=len(items) - len(missing), desc=printable(name), unit="output", disable=None
        ) as bar:
            for number, row in made:
                rows.add(keys[number], row)
                bar.update()
        done = [rows[key] for key in keys]
    return _written(items, done, output_dir, name, settings, config, {})


def _asked(
    policy: ServerPolicy, items: list[Instruction], config: DecodingConfig, output_dir: Any, name: str
) -> list[dict[str, str]]:
    """Outputs of a server. Started again, it asks for those that have no answer yet."""
    requests, settings = policy.requests(items, config), policy.identity(config)
    with _rows(output_dir, settings, SERVER_ROW) as rows:
        done, failed = policy.answer(requests, rows)
    if failed and (not policy.skip_failed or len(failed) == len(items)):
        raise_failures(failed, len(items))
    if failed:
        logger.warning("%s They are left out.", describe_failures(failed, len(items)))
    return _written(items, done, output_dir, name, settings, config, failed)


def _written(
    items: Sequence[Instruction],
    done: Sequence[Any],
    output_dir: Any,
    name: str,
    settings: Any,
    config: Any,
    failed: Any,
) -> list[dict[str, str]]:
    """The records of the rows that are there, told of and, where there is a folder, kept."""
    outputs = [
        {"dataset": item.dataset, "instruction": item.text, "output": row["output"], "generator": name}
        for item, row in zip(items, done, strict=True)
        if row is not None
    ]
    rows = [row for row in done if row is not None]
    _tell(rows, config)
    if output_dir is not None:
        counts = counts_of(rows) | ({"failed": len(failed)} if failed else {})
        write_json(Path(output_dir) / DECODING_NAME, masked({"generator": name, **settings, "counts": counts}))
        write_json(Path(output_dir) / OUTPUTS_NAME, outputs)
    return outputs


def counts_of(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Numbers of outputs, of empty ones, of those cut off by `max_new_tokens`, and of all their tokens."""
    return {
        "outputs": len(rows),
        "empty": sum(not row["output"].strip() for row in rows),
        "cut_off": sum(not row["finished"] for row in rows),
        "tokens": sum(row["num_tokens"] for row in rows),
    }


def _as_instructions(instructions: Any) -> list[Instruction]:
    if isinstance(instructions, Sequence) and not isinstance(instructions, str) and len(instructions):
        if all(isinstance(item, Instruction) for item in instructions):
            return list(instructions)
    return load_instructions(instructions)


def _row_key(ids: list[int], text: str) -> str:
    return blake2b(json.dumps([ids, text]).encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def _rows(output_dir: str | os.PathLike | None, settings: dict[str, Any], form: Check) -> Iterator[RowLog]:
    if output_dir is None:
        yield MemoryLog()
        return
    with RowLog(Path(output_dir) / LOG_NAME, settings, form) as log:
        yield log


def _tell(rows: Sequence[dict[str, Any]], config: DecodingConfig) -> None:
    counts = counts_of(rows)
    if counts["cut_off"]:
        logger.warning(
            "%d of %d outputs did not end within %d tokens and are cut off there.",
            counts["cut_off"],
            counts["outputs"],
            config.max_new_tokens,
        )
    if counts["empty"]:
        # A few are usual, and in the counts.
        logger.log(
            logging.WARNING if 20 * counts["empty"] > counts["outputs"] else logging.INFO,
            "%d of %d outputs are empty. Read some before you judge: the model may have learned to end at once.",
            counts["empty"], counts["outputs"],
        )  # fmt: skip
