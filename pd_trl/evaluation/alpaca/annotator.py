"""alpaca_eval's annotators: their prompts, order of outputs and parsers, with our own requests."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...runs.row_log import RowLog
from ...servers.answers import unreadable_text
from ...servers.client import OpenAIClient
from ...servers.questions import request_key
from ...servers.requests import RequestPool, UselessAnswers, known_answers
from ...servers.settings import RequestSettings
from .completions import (
    LOCAL_DECODERS,
    check_kept,
    completions_of,
    decode_locally,
    openai_request,
    send_to_decoder,
    text_and_choice,
)
from .config import OFFICIAL_CONFIG, OFFICIAL_MODEL, config_path, decoder_of, read_config, read_template
from .parsers import WHAT_PARSERS_WANT, SafeParser, nothing_to_read
from .session import alpaca_eval_session

# The leaderboard's seed, which decides which output is shown first.
_SEED = 0


@dataclass
class JudgeSettings:
    """
    An annotator of alpaca_eval, and the server of its model.

    Args:
        config (`str`):
            Name of an annotator of alpaca_eval, or a folder or file with your own configuration.
        model (`str`, *optional*):
            Model to ask instead of that in the configuration.
        base_url (`str`, *optional*):
            Address of an OpenAI-compatible server.
        api_key_env (`str`, *optional*, defaults to `"OPENAI_API_KEY"`):
            Environment variable with the key.
        client_config (`str`, *optional*):
            File with alpaca_eval's client settings.
        arguments (`dict`, *optional*):
            Arguments of each request that differ from the configuration. The value `None` removes one, such as
            `{"max_tokens": None, "max_completion_tokens": 16}`.
        requests ([`RequestSettings`], *optional*):
            Retries and concurrency.
    """

    config: str
    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    client_config: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    requests: RequestSettings = field(default_factory=RequestSettings)


class Annotator:
    """
    One of alpaca_eval's pairwise annotators. `requests` makes its requests, and `annotate` turns the answers into
    preferences. The requests are sent by pd_trl, so that nothing is asked twice.

    Args:
        settings ([`JudgeSettings`]): Which annotator, and its model.
        switch_order (`bool`, *optional*, defaults to `True`): Whether the order of outputs is drawn by instruction, as
            alpaca_eval does.

    Raises:
        InputError: If there is no such annotator, or its prompt has no place for the outputs.
    """

    def __init__(self, settings: JudgeSettings, switch_order: bool = True):
        self.settings = settings
        self.num_unparsable = 0
        with alpaca_eval_session():
            path = config_path(settings.config)
            config = read_config(path)
            self._annotator = _build(path, config, switch_order)
        self.singles: dict[str, Any] = {}
        self._decoders: dict[str, str] = {}
        for name, single in self._annotator.annotators.items():
            own_model = single.completions_kwargs.get("model_name")
            single.prompt_template = read_template(config[name], path, name)
            model = {"model_name": settings.model} if settings.model else {}
            single.completions_kwargs = {**single.completions_kwargs, **settings.arguments, **model}
            single.fn_completion_parser = SafeParser(single.fn_completion_parser, single.batch_size)
            # With another model it is another judge, and the annotations say so.
            shown = f"{name}@{settings.model}" if settings.model not in (None, own_model) else name
            self.singles[shown], self._decoders[shown] = single, decoder_of(config[name])
        self._annotator.annotators = self.singles
        self.models = sorted({str(s.completions_kwargs.get("model_name", "")) for s in self.singles.values()} - {""})
        self.name = ", ".join(self.singles)
        is_packaged = Path(settings.config).name == settings.config and not Path(settings.config).exists()
        self.is_official = (
            is_packaged and self.name == OFFICIAL_CONFIG and self.models == [OFFICIAL_MODEL] and not settings.arguments
        )

    def requests(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Requests by their digests. There is none for equal outputs, which are tied."""
        with alpaca_eval_session():
            import pandas as pd

            frame = self._annotator._preprocess(pd.DataFrame(list(rows)))
            found: dict[str, dict[str, Any]] = {}
            for name, single in self.singles.items():
                own = frame[(frame[self._annotator.annotator_column] == name) & frame["preference"].isna()]
                if len(own):
                    columns = self._annotator.available_fields_to_format
                    prompts, _ = single._make_prompts(single._preprocess(own[columns]))
                    found.update((request_key(r), r) for r in (self._request(name, prompt) for prompt in prompts))
        return found

    def _request(self, name: str, prompt: str) -> dict[str, Any]:
        arguments = self.singles[name].completions_kwargs
        if self._decoders[name] == "openai_completions":
            return openai_request(prompt, arguments)
        known = {key: value for key, value in arguments.items() if value is not None}
        return {"decoder": self._decoders[name], "prompt": prompt, "arguments": known}

    def answers(self, requests: Mapping[str, dict[str, Any]], log: RowLog) -> tuple[dict[str, Any], dict[str, str]]:
        """
        Sends the requests for which `log` has no answer with a preference, and adds the answers to it.

        Returns:
            `tuple`: the answer to each request (`None` if there is none), and the reason if there is no answer or no
            preference in it.
        """
        groups: dict[str, dict[str, dict[str, Any]]] = {}
        for key, request in requests.items():
            groups.setdefault(request.get("decoder", "openai_completions"), {})[key] = request
        failures: dict[str, str] = {}
        for decoder, group in groups.items():
            if decoder in LOCAL_DECODERS:
                known_answers(log, group, self.settings.requests, self.unreadable)
                with alpaca_eval_session():
                    decode_locally({key: request for key, request in group.items() if key not in log}, log)
            else:
                failures |= self._send(decoder, group, log)
        return {key: log.rows.get(key) for key in requests}, failures

    def _send(self, decoder: str, requests: Mapping[str, Any], log: RowLog) -> dict[str, str]:
        limits = self.settings.requests
        # These clients retry by themselves, so they get the time of all tries.
        send: Callable[[Any], Any] = partial(send_to_decoder, timeout=limits.timeout * (limits.max_retries + 1))
        # If everything is known, no key is needed.
        if decoder == "openai_completions" and self.num_open(requests, log):
            send = self.client().send
        pool = RequestPool(send, log, self.settings.requests, self.unreadable)
        # Decoders and parsers are alpaca_eval's.
        with alpaca_eval_session():
            try:
                for _ in pool.answers(requests, self.name):
                    pass
            except UselessAnswers as error:
                raise InputError(f"{error} {WHAT_PARSERS_WANT}") from None
        return pool.failures

    def num_open(self, requests: Iterable[str], log: RowLog) -> int:
        """Number of requests that [`Annotator.answers`] would send."""
        keys = list(requests)
        return len(keys) - len(known_answers(log, keys, self.settings.requests, self.unreadable))

    def unreadable(self, answer: Any) -> str | None:
        """
        The reason why no annotator can read a preference from an answer; `None` if one can.

        Raises:
            RequestFailed: If it does not have the form of an answer.
        """
        check_kept(answer)
        text, everything = text_and_choice(answer)
        for single in self.singles.values():
            if single.fn_completion_parser.can_read(text if single.completion_key == "completions" else everything):
                return None
        return unreadable_text(text)

    def client(self) -> OpenAIClient:
        """Connections to the server that the settings name."""
        s = self.settings
        model = self.models[0] if self.models else None
        return OpenAIClient(s.base_url, s.api_key_env, s.client_config, model, s.requests)

    def annotate(self, rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Any]) -> list[dict[str, Any]]:
        """
        Annotations of alpaca_eval for each row, in order: `preference` from 1 (`output_1`) to 2 (`output_2`), NaN if
        there is no answer or the parser cannot read it. `num_unparsable` counts the answers that cannot be read.

        Raises:
            InputError: If no answer can be read.
        """
        parsers = [single.fn_completion_parser for single in self.singles.values()]
        for (name, single), parser in zip(self.singles.items(), parsers, strict=True):
            single.fn_completions = self._lookup(name, answers)
            parser.num_unparsable = 0
        with alpaca_eval_session():
            import pandas as pd

            annotated = self._annotator.annotate_pairs(pd.DataFrame(list(rows)), chunksize=None)
        self.num_unparsable = sum(parser.num_unparsable for parser in parsers)
        found = {tuple(row[key] for key in self._annotator.primary_keys): row for row in annotated}
        result = []
        for row in rows:
            annotation = found[tuple(row[key] for key in self._annotator.primary_keys)]
            preference = annotation.get("preference")
            result.append({**annotation, **row, "preference": math.nan if preference is None else float(preference)})
        return result

    def _lookup(self, name: str, answers: Mapping[str, Any]) -> Any:
        single = self.singles[name]

        def completions(prompts: Sequence[str], **arguments: Any) -> dict[str, list[Any]]:
            found = [answers.get(request_key(self._request(name, prompt))) for prompt in prompts]
            columns = completions_of(found, arguments)
            # Without any preference, alpaca_eval fails with an error of pandas.
            if not any(single.fn_completion_parser.can_read(text) for text in columns[single.completion_key]):
                sample = next((str(text) for text in columns["completions"] if text is not None), None)
                raise InputError(nothing_to_read(name, len(found), sample))
            return columns

        return completions


def _build(path: Path, config: Mapping[str, Mapping[str, Any]], switch_order: bool) -> Any:
    from alpaca_eval.annotators import PairwiseAnnotator

    class Configured(PairwiseAnnotator):
        """Uses entries that were read before. Each needs a file for its prompt; the prompt is set afterwards."""

        def _initialize_annotators(self, **kwargs: Any) -> dict[str, Any]:
            return {
                name: self.SingleAnnotator(
                    seed=self.seed,
                    base_dir=path.parent,
                    annotation_column=self.annotation_key,
                    completion_column=self.completion_key,
                    **{**entry, "prompt_template": path.name},
                    **kwargs,
                )
                for name, entry in config.items()
            }

    arguments = {} if switch_order else {"is_randomize_output_order": False}
    try:
        return Configured(annotators_config=path, caching_path=None, seed=_SEED, **arguments)
    except (TypeError, AttributeError, KeyError, ImportError, ValueError) as error:
        raise InputError(f"The annotator in {path} cannot be used: {' '.join(str(error).split())}.") from None
