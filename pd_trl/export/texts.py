"""What the tokenizer of the model to train says of pairs: their texts, their lengths, and what its template refuses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..hub import local_model_folder
from ..models.inputs import TEMPLATE_FAULTS, check_eos
from ..runs.model_identity import tokenizer_key
from ..text.names import display_name
from .pairs import Pair

# A text of which a tokenizer makes tokens of its own.
_PROBE = "a"


class Texts:
    """
    A tokenizer, as a writer of texts.

    Args:
        tokenizer (`str` or [`~transformers.PreTrainedTokenizerBase`]): The tokenizer: a folder, a Hub id, or itself.
    """

    def __init__(self, tokenizer: Any):
        if not hasattr(tokenizer, "apply_chat_template"):
            # Imports torch, which an export without a tokenizer has no need of.
            from ..models.loading import load_tokenizer

            tokenizer = load_tokenizer(local_model_folder(tokenizer, what="tokenizer"), f"the model {tokenizer}")
        self.tokenizer: Any = tokenizer
        check_eos(self.tokenizer)
        ids = self.tokenizer(_PROBE)["input_ids"]
        bare = self.tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        self.begins = self.tokenizer.bos_token_id is not None and ids[:1] == [self.tokenizer.bos_token_id] != bare[:1]
        if ids[1:] != bare if self.begins else ids != bare:
            raise InputError(
                "The tokenizer puts special tokens of its own around a text, beside a BOS token before it, which the other "
                "trainers would not do. Export without it."
            )

    @property
    def key(self) -> str:
        """Digest of the tokenizer."""
        return tokenizer_key(self.tokenizer)

    def with_special_tokens(self, pair: Pair) -> Pair:
        """A pair of strings with the special tokens that TRL puts around them, for a reader that adds none."""
        prompt = f"{self.tokenizer.bos_token}{pair.prompt}" if self.begins else pair.prompt
        return replace(pair, prompt=prompt, chosen=self._ended(pair.chosen), rejected=self._ended(pair.rejected))

    def ended(self, pair: Pair) -> Pair:
        """Rendered texts with EOS after those whose last turn does not end by it."""
        eos = self.tokenizer.eos_token
        chosen, rejected = (
            side if str(side).rstrip("\n").endswith(eos) else f"{side}{eos}" for side in (pair.chosen, pair.rejected)
        )
        return replace(pair, chosen=chosen, rejected=rejected)

    def _ended(self, text: Any) -> str:
        eos = self.tokenizer.eos_token
        return text if text.endswith(eos) else text + eos

    def refusal(self, pair: Pair, apart: bool) -> str | None:
        """
        Why the chat template does not take a pair; `None` where it does.

        Args:
            pair ([`Pair`]): The pair.
            apart (`bool`): Whether the response must be what follows the text of the prompt.
        """
        if not pair.is_chat:
            return None
        if not self.tokenizer.chat_template:
            return "messages, and the tokenizer has no chat template"
        try:
            if apart:
                self.rendered(pair)
            else:
                self._wholes(pair)
        except TEMPLATE_FAULTS as error:
            return f"messages that the chat template refuses ({display_name(error)})"
        return None

    def rendered(self, pair: Pair) -> Pair:
        """
        A pair of messages as the text of the chat template.

        Raises:
            ValueError: Where prompt and response do not begin with the prompt, as the template writes it.
        """
        prompt = self._written(pair.prompt, pair, add_generation_prompt=True)
        wholes = self._wholes(pair)
        if not all(whole.startswith(prompt) for whole in wholes):
            raise ValueError("it writes a prompt otherwise once there is a response")
        chosen, rejected = (whole[len(prompt) :] for whole in wholes)
        return replace(pair, prompt=prompt, chosen=chosen, rejected=rejected, tools=[], template_kwargs={})

    def _wholes(self, pair: Pair) -> list[str]:
        """Both conversations as the template writes them."""
        return [self._written([*pair.prompt, *side], pair) for side in (pair.chosen, pair.rejected)]

    def _written(self, messages: Any, pair: Pair, **options: Any) -> str:
        known: Mapping[str, Any] = {**pair.template_kwargs, **({"tools": pair.tools} if pair.tools else {})}
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options, **known))

    def length(self, pair: Pair) -> int:
        """Tokens of the longer of both conversations, with special tokens."""
        if pair.is_chat:
            wholes = self._wholes(pair)
        else:
            texts = self.with_special_tokens(pair)
            wholes = [f"{texts.prompt}{side}" for side in (texts.chosen, texts.rejected)]
        return max(len(self.tokenizer(w, add_special_tokens=False, verbose=False)["input_ids"]) for w in wholes)
