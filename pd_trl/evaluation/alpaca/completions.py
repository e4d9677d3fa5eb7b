"""Requests and answers in the form of alpaca_eval's decoders."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, TimeoutError
from typing import Any

import numpy as np

from ...errors import InputError
from ...runs.artifacts import digest_of
from ...runs.row_log import RowLog
from ...safety.secrets import known_secrets, masked_text
from ...servers.answers import CHAT, COMPLETION, check_answer, check_decoded
from ...servers.requests import RequestFailed
from ...text.tables import printable

# They run on this machine, so all prompts are sent at once.
LOCAL_DECODERS = ("huggingface_local_completions", "vllm_local_completions", "test_completions")
# Our client asks OpenAI's; alpaca_eval's own clients ask the others.
DECODERS = (
    "openai_completions",
    "anthropic_completions",
    "bedrock_anthropic_completions",
    "cohere_completions",
    "google_completions",
    "huggingface_api_completions",
    "jina_chat_completions",
    "replicate_completions",
    *LOCAL_DECODERS,
)

# Arguments of alpaca_eval's decoder, not of the request.
_OWN = {
    "model_name", "tokens_to_favor", "tokens_to_avoid", "is_skip_multi_tokens_to_avoid", "is_strip", "num_procs", "batch_size",
    "price_per_token", "requires_chatml", "is_chat", "sleep_time", "client_config_path", "openai_organization_ids",
    "openai_api_keys", "openai_api_base", "client_kwargs", "n_retries",
}  # fmt: skip


def openai_request(prompt: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    The request that `openai_completions` of alpaca_eval sends for a prompt. The prompt, or `requires_chatml`, decides
    whether it goes to the chat endpoint; the model's name does not.
    """
    if "model_name" not in arguments:
        raise InputError("The annotator names no model: give one with `judge_model`.")
    is_chat = arguments.get("requires_chatml", prompt.strip().startswith("<|im_start|>"))
    request = {
        "endpoint": CHAT if is_chat else COMPLETION,
        "model": arguments["model_name"],
        "max_tokens": 2048,
        "top_p": 1.0,
        "temperature": 0.7,
        **{name: value for name, value in arguments.items() if name not in _OWN},
    }
    request = {name: value for name, value in request.items() if value is not None}
    bias = _logit_bias(arguments)
    if bias:
        request["logit_bias"] = {**bias, **request.get("logit_bias", {})}
    text = prompt.strip() if arguments.get("is_strip", True) else prompt
    return {**request, **({"messages": _messages(text)} if is_chat else {"prompt": text})}


def _messages(prompt: str) -> list[dict[str, Any]]:
    from alpaca_eval import utils

    if not (prompt.startswith("<|im_start|>") and prompt.endswith("<|im_end|>")):
        return [{"role": "user", "content": prompt}]
    messages: list[dict[str, Any]] = utils.prompt_to_chatml(prompt)
    return messages


def _logit_bias(arguments: Mapping[str, Any]) -> dict[str, int]:
    wanted = {7: arguments.get("tokens_to_favor") or (), -100: arguments.get("tokens_to_avoid") or ()}
    if not any(wanted.values()):
        return {}
    import tiktoken

    try:
        encoding = tiktoken.encoding_for_model(arguments["model_name"])
    except Exception as error:  # no such model, or its vocabulary cannot be fetched
        raise InputError(
            f"The annotator favours or avoids tokens, but tiktoken has no vocabulary for {arguments['model_name']!r} "
            f"({type(error).__name__}). Use another annotator, or remove `tokens_to_favor` and `tokens_to_avoid`."
        ) from None
    bias = {}
    for value in (-100, 7):
        for text in wanted[value]:
            tokens = encoding.encode(text)
            if value == 7 or len(tokens) == 1 or not arguments.get("is_skip_multi_tokens_to_avoid", True):
                bias.update({str(token): value for token in tokens})
    return bias


def send_to_decoder(request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Answer of one of alpaca_eval's clients to one prompt, which must come within `timeout` seconds."""
    arguments = {k: v for k, v in request["arguments"].items() if k not in ("num_procs", "batch_size")}
    answers: Future[Any] = Future()

    def ask() -> None:
        try:
            answers.set_result(_decoder(request["decoder"])(prompts=[request["prompt"]], num_procs=1, **arguments))
        except BaseException as error:
            answers.set_exception(error)

    try:
        # The clients have no time limit. One that hangs is abandoned and does not keep the process alive.
        threading.Thread(target=ask, name="pd_trl-decoder", daemon=True).start()
        result = answers.result(timeout)
        answer = _decoded(request["decoder"], result, 0)
    except ImportError as error:
        raise RequestFailed(f"{request['decoder']} needs the package {error.name}", fatal=True) from None
    except TimeoutError:
        raise RequestFailed(f"{request['decoder']}: no answer within {timeout:g} s") from None
    except Exception as error:  # anything that the provider's client raises after its retries, or returns
        reason = printable(masked_text(str(error), known_secrets()))[:200]
        raise RequestFailed(f"{type(error).__name__}: {reason}") from None
    return answer


def decode_locally(requests: Mapping[str, Mapping[str, Any]], log: RowLog) -> None:
    """
    Adds the answers of a model on this machine to a log.

    Raises:
        InputError: If its decoder needs a package that is not installed.
    """
    groups: dict[str, list[str]] = {}
    for key, request in requests.items():
        groups.setdefault(digest_of([request["decoder"], request["arguments"]]), []).append(key)
    for keys in groups.values():
        decoder, arguments = requests[keys[0]]["decoder"], requests[keys[0]]["arguments"]
        try:
            result = _decoder(decoder)(prompts=[requests[key]["prompt"] for key in keys], **arguments)
        except ImportError as error:
            raise InputError(f"The annotator's {decoder} needs the package {error.name}: install it.") from None
        for i, key in enumerate(keys):
            log.add(key, _decoded(decoder, result, i))


def _decoder(name: str) -> Any:
    from alpaca_eval.decoders import get_fn_completions

    return get_fn_completions(name)


def _decoded(decoder: str, result: Mapping[str, Any], position: int) -> dict[str, Any]:
    keys = {"completions": "text", "completions_all": "all", "price_per_example": "price"}
    return {"decoder": decoder, **{keys[key]: result[key][position] for key in keys if key in result}}


def completions_of(answers: Sequence[Mapping[str, Any] | None], arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Answers as the columns that a decoder returns; `None` if there is no answer."""
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for answer in answers:
        for name, value in _columns(answer, arguments).items():
            columns[name].append(value)
    return columns


_COLUMNS = ("completions", "completions_all", "price_per_example", "time_per_example")


def _columns(answer: Mapping[str, Any] | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    if answer is None:
        return dict(zip(_COLUMNS, (None, None, np.nan, np.nan), strict=True))
    text, everything = text_and_choice(answer)
    if "decoder" in answer:
        price = answer.get("price")
        cost = float(price) if isinstance(price, (int, float)) else np.nan
        return dict(zip(_COLUMNS, (text, everything, cost, np.nan), strict=True))
    price, tokens = price_per_token(arguments), answer.get("total_tokens")
    cost = np.nan if price is None or tokens is None else price * tokens
    return dict(zip(_COLUMNS, (text, everything, cost, answer.get("seconds", np.nan)), strict=True))


def text_and_choice(answer: Mapping[str, Any]) -> tuple[str | None, Any]:
    """An answer's text, and everything else that a parser may read."""
    if "decoder" in answer:
        return answer.get("text"), answer.get("all", answer.get("text"))
    choice = dict(answer["choices"][0])
    choice["text"] = choice_text(choice)
    choice["total_tokens"] = answer.get("total_tokens")
    return choice["text"], choice


def check_kept(answer: Any) -> None:
    """
    Checks an answer of either kind in its stored form.

    Raises:
        RequestFailed: If its form is wrong.
    """
    if isinstance(answer, Mapping) and "decoder" in answer:
        check_decoded(answer)
    else:
        check_answer(answer, COMPLETION)


def choice_text(choice: Mapping[str, Any]) -> str:
    """Text of a choice: its content, or the arguments of its function call."""
    message = choice.get("message")
    if message is None:
        return choice.get("text") or " "
    tool = (message.get("tool_calls") or [None])[0] or {}
    called = tool.get("function") or message.get("function_call") or {}
    return str(called.get("arguments") or message.get("content") or " ")


def price_per_token(arguments: Mapping[str, Any]) -> float | None:
    """Dollars per token: from the configuration, or from alpaca_eval's list of models. `None` if unknown."""
    if arguments.get("price_per_token") is not None:
        return float(arguments["price_per_token"])
    from alpaca_eval.decoders.openai import _get_price_per_token

    price = float(_get_price_per_token(str(arguments.get("model_name", ""))))
    return None if np.isnan(price) else price
