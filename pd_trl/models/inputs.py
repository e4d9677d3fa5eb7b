"""What a model can read: rows that its tokenizer writes out, and tokens that have an embedding."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import ArrayLike

from ..errors import InputError

# What a chat template raises on messages that it does not take: by itself, or where content is null or of another type.
TEMPLATE_FAULTS = (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)

_PAD_ADVICE = (
    "The tokenizer has no pad token in its vocabulary, and no EOS token in its place. Set `tokenizer.pad_token` (the argument "
    "`pad_token` of a training) to a token that it has and texts have not."
)

# A conversation: what to call it, its messages, and arguments of the template.
Conversation = tuple[str, Any, Mapping[str, Any]]


def with_eos(tokenizer: Any, response: str) -> str:
    """A plain response, ended by EOS, as TRL's trainers end it."""
    check_eos(tokenizer)
    return response if response.endswith(tokenizer.eos_token) else response + tokenizer.eos_token


def check_eos(tokenizer: Any) -> None:
    """Raises `InputError` where the tokenizer has no EOS token, which ends every plain text."""
    if tokenizer.eos_token is None:
        advice = f" Its `sep_token` is {tokenizer.sep_token!r}." if getattr(tokenizer, "sep_token", None) else ""
        raise InputError(
            "The tokenizer has no EOS token, which ends every response of plain text. Set `tokenizer.eos_token` (the argument "
            f"`eos_token` of a reward training) to the token that ends a text.{advice}"
        )


@contextmanager
def naming_missing_pad() -> Iterator[None]:
    """A block in which TRL makes a trainer. Where it finds no pad token, an `InputError` says what to set."""
    try:
        yield
    except ValueError as error:
        if "`pad_token`" not in str(error):
            raise
        raise InputError(_PAD_ADVICE) from None


def check_pad(tokenizer: Any) -> None:
    """Raises `InputError` where nothing can fill up a batch: the tokenizer has neither a pad nor an EOS token."""
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise InputError(_PAD_ADVICE)


@contextmanager
def naming_refused_rows(tokenizer: Any, conversations: Callable[[], Iterable[Conversation]]) -> Iterator[None]:
    """
    A block that applies a chat template. Where it fails, and a conversation fails by itself too, an `InputError` names that
    conversation.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The tokenizer.
        conversations (callable): Gives what the block reads. Called after a failure only.
    """
    try:
        yield
    except InputError:
        raise
    except TEMPLATE_FAULTS:
        for conversation in conversations():
            check_template(tokenizer, *conversation)
        raise


def check_template(tokenizer: Any, name: str, messages: Any, options: Mapping[str, Any]) -> None:
    """Raises `InputError` where the chat template does not take these messages."""
    try:
        tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except TEMPLATE_FAULTS as error:
        roles = ", ".join(str(m.get("role")) for m in messages if isinstance(m, Mapping))
        raise InputError(
            f"The model's chat template refuses {name} (roles: {roles or 'none'}): {' '.join(str(error).split())}. Change its "
            "messages, or leave the row out."
        ) from None


def check_token_ids(
    ids: ArrayLike, lengths: ArrayLike, size: int | None, tokenizer: Any, name: Callable[[int], str]
) -> None:
    """
    Raises `InputError`, naming the sequence, where a token has no embedding.

    Args:
        ids (array of shape `(num_tokens,)`): Tokens of all sequences.
        lengths (array of shape `(num_sequences,)`): Tokens of each.
        size (`int`, *optional*): Embeddings of the model, see [`num_embeddings`]. `None` checks nothing.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): Its tokenizer.
        name (callable): What to call the sequence at a position.
    """
    ids = np.asarray(ids)
    if size is None or not ids.size or int(ids.max()) < size:
        return
    place = int(np.argmax(ids >= size))
    row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
    raise InputError(
        f"{capitalised(name(row))} has the token {tokenizer.convert_ids_to_tokens(int(ids[place]))!r} with the id {int(ids[place])}, but the "
        f"model has {size} embeddings (ids 0 to {size - 1}). Use the tokenizer that the model was trained with, or call "
        "`model.resize_token_embeddings(len(tokenizer))` and train it."
    )


def num_embeddings(model: Any) -> int | None:
    """Rows of the model's table of token embeddings; `None` where it has none."""
    size = getattr(token_table(model), "num_embeddings", None)
    return size if isinstance(size, int) and size > 0 else None


def token_table(model: Any) -> Any:
    """The model's table of token embeddings; `None` where it has none."""
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
