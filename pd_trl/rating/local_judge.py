"""A language model on this machine as a judge: its probabilities of the answers, without writing any."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import GenerationConfig

from ..errors import InputError
from ..generation.decoding import end_tokens
from ..generation.padding import batches_for, left_padded
from ..generation.policies import PolicySource
from ..models.memory import in_halves
from ..models.positions import positions_of
from ..runs.artifacts import digest_of
from ..runs.row_log import RowLog
from .answers import kept_scale
from .judges import Answer
from .questions import Question


class LocalJudge:
    """
    A causal language model that is read for the probability of each answer. See [`local_judge`].

    Args:
        source ([`~pd_trl.generation.policies.PolicySource`]): The model and its tokenizer.
        batch_size (`int`): Questions in a batch.
    """

    def __init__(self, source: PolicySource, batch_size: int = 8):
        if batch_size < 1:
            raise InputError(f"`batch_size` must be at least 1, got {batch_size}.")
        source.check()
        self.source, self.batch_size = source, batch_size
        self.name = source.name
        self.description = f"the model {source.name} on this machine"
        self.identity = {"kind": "local", "model": source.digest, "dtype": str(source.resolved_dtype)}
        self._tokens: dict[str, list[int]] = {}
        # Why questions cannot be asked, by their keys.
        self.unfit: dict[str, str] = {}

    def key(self, question: Question) -> str:
        """See [`RatingJudge.key`]."""
        return digest_of([self.identity, question.text, dict(question.scale)])

    def known(self, keys: Sequence[str], log: RowLog) -> set[str]:
        """See [`RatingJudge.known`]."""
        return {key for key in keys if key in log and _is_answer(log[key])}

    def num_tokens(self, question: Question) -> int:
        """Tokens of a question."""
        return len(self._prompt(question))

    def answers(self, questions: Mapping[str, Question], log: RowLog) -> Iterator[tuple[str, Answer]]:
        """See [`RatingJudge.answers`]."""
        known = self.known(list(questions), log)
        yield from ((key, _read(log[key], questions[key])) for key in known)
        prompts = {
            key: self._prompt(questions[key]) for key in questions if key not in known and key not in self.unfit
        }
        if prompts and (limit := positions_of(self._model)) is not None:
            reason = f"a question longer than the {limit} positions of the model"
            self.unfit |= {key: reason for key, prompt in prompts.items() if len(prompt) >= limit}
        yield from ((key, Answer(None, reason=self.unfit[key])) for key in questions if key in self.unfit)
        fitting = [key for key in prompts if key not in self.unfit]
        for rows in self._batches(fitting, prompts):

            def forward(part: Sequence[int], rows: Sequence[str] = rows) -> list[tuple[str, dict[str, Any]]]:
                return self._forward([rows[i] for i in part], prompts, questions)

            def too_large(part: Sequence[int], reason: str, rows: Sequence[str] = rows) -> str:
                return f"A question of {len(prompts[rows[part[0]]])} tokens does not fit in memory ({reason})."

            for outputs in in_halves(list(range(len(rows))), forward, too_large):
                for key, row in outputs:
                    log.add(key, row)
                    yield key, _read(row, questions[key])

    @cached_property
    def _model(self) -> Any:
        model = self.source.loaded
        model.eval()
        return model

    @cached_property
    def _special(self) -> tuple[list[int], int]:
        tokenizer = self.source.tokenizer
        ends = end_tokens(getattr(getattr(self._model, "generation_config", None), "eos_token_id", None), tokenizer)
        pad = tokenizer.pad_token_id
        return ends, pad if pad is not None else (ends or [0])[0]

    @cached_property
    def _kind(self) -> str:
        return batches_for(self._model, *self._special) if self.batch_size > 1 else "alone"

    def _batches(self, keys: Sequence[str], prompts: Mapping[str, list[int]]) -> Iterator[list[str]]:
        """Questions of similar length together, longest first, as far as the model takes padding."""
        order = sorted(keys, key=lambda key: (-len(prompts[key]), key))
        start = 0
        while start < len(order):
            rows = order[start : start + (1 if self._kind == "alone" else self.batch_size)]
            if self._kind == "alike":
                rows = [key for key in rows if len(prompts[key]) == len(prompts[rows[0]])]
            yield rows
            start += len(rows)

    def _prompt(self, question: Question) -> list[int]:
        tokenizer = self.source.tokenizer
        if getattr(tokenizer, "chat_template", None):
            messages = [{"role": "user", "content": question.text}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(tokenizer(f"{question.text}\n\nAnswer:")["input_ids"])

    def _answer_tokens(self, label: str) -> list[int]:
        """The tokens that write an answer, with and without a space before it."""
        if label not in self._tokens:
            tokenizer = self.source.tokenizer
            encoded = [tokenizer.encode(text, add_special_tokens=False) for text in (label, f" {label}")]
            found = {ids[-1] for ids in encoded if ids and tokenizer.decode([ids[-1]]).strip() == label}
            if not found:
                raise InputError(
                    f"The judge {self.name} has no token of its own for the answer {label!r}. Use levels of one digit, or a judge "
                    "behind a server."
                )
            self._tokens[label] = sorted(found)
        return self._tokens[label]

    @torch.no_grad()
    def _forward(
        self, keys: Sequence[str], prompts: Mapping[str, list[int]], questions: Mapping[str, Question]
    ) -> list[tuple[str, dict[str, Any]]]:
        ends, pad = self._special
        config = GenerationConfig(
            do_sample=False, num_beams=1, max_new_tokens=1, eos_token_id=ends or None, pad_token_id=pad,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        inputs = left_padded([prompts[key] for key in keys], pad, self._model.device)
        logits = self._model.generate(**inputs, generation_config=config).logits[0]
        shares = torch.softmax(logits.float(), dim=-1).cpu()
        rows = []
        for key, share in zip(keys, shares, strict=True):
            question = questions[key]
            found = {label: float(share[self._answer_tokens(label)].sum()) for label in question.scale}
            row = {"probabilities": found, "about": question.about, "scale": kept_scale(question.scale)}
            rows.append((key, {**row, "tokens": len(prompts[key])}))
        return rows


def _is_answer(row: Any) -> bool:
    shares = row.get("probabilities") if isinstance(row, dict) else None
    return isinstance(shares, dict) and all(isinstance(v, float) and 0 <= v <= 1 for v in shares.values())


def _read(row: Mapping[str, Any], question: Question) -> Answer:
    shares = {label: row["probabilities"].get(label, 0.0) for label in question.scale}
    mass = sum(shares.values())
    tokens = (int(row.get("tokens") or 0), 0)
    if not mass > 0:
        return Answer(None, reason="no probability on any of the answers", tokens=tokens)
    return Answer(sum(question.scale[label] * share for label, share in shares.items()) / mass, True, None, tokens)


def local_judge(
    model: Any,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    batch_size: int = 8,
    trust_remote_code: bool = False,
) -> LocalJudge:
    """
    A judge for [`rate_pairs`] on this machine: a causal language model whose probabilities of the levels give the rating.

    Args:
        model (`str`, path, or tuple of model and tokenizer):
            Folder or Hub id of the model, or a LoRA adapter's.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        dtype (`torch.dtype` or `str`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere; `"auto"` is bfloat16 on a CPU that computes in it, too.
        batch_size (`int`, *optional*, defaults to `8`):
            Questions in a batch; a batch that does not fit in memory is halved.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with the model.
    """
    name = model if isinstance(model, (str, os.PathLike, tuple)) else None
    if name is None:
        raise InputError(f"`judge` must be a folder, a Hub id or a judge, got {type(model).__name__}.")
    return LocalJudge(PolicySource(name, revision, dtype, trust_remote_code), batch_size)
