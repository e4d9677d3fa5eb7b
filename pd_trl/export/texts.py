"""What the tokenizer of the model to train says of pairs: their texts, their lengths, and what its template refuses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError
from ..hub import local_model_folder
from ..models.inputs import TEMPLATE_FAULTS, check_eos
from ..models.loading import load_tokenizer
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
        named = not hasattr(tokenizer, "apply_chat_template")
        self.tokenizer: Any = (
            load_tokenizer(local_model_folder(tokenizer, what="tokenizer"), f"the model {tokenizer}")
            if named
            else tokenizer
        )
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
        from ..runs.identity import tokenizer_key

        return tokenizer_key(self.tokenizer)

    def with_special_tokens(self, pair: Pair) -> Pair:
        """A pair of strings with the special tokens that TRL puts around them, for a reader that adds none."""
        prompt = f"{self.tokenizer.bos_token}{pair.prompt}" if self.begins else pair.prompt
        return replace(pair, prompt=prompt, chosen=self._ended(pair.chosen), rejected=self._ended(pair.rejected))

    def _ended(self, text: Any) -> str:
        eos = self.tokenizer.eos_token
        return text if text.endswith(eos) else text + eos

    def refusal(self, pair: Pair) -> str | None:
        """Why the chat template does not take a pair; `None` where it does."""
        if not pair.is_chat:
            return None
        if not self.tokenizer.chat_template:
            return "messages, and the tokenizer has no chat template"
        try:
            self.rendered(pair)
        except TEMPLATE_FAULTS as error:
            return f"messages that the chat template refuses ({' '.join(str(error).split())[:80]})"
        return None

    def rendered(self, pair: Pair) -> Pair:
        """
        A pair of messages as the text of the chat template.

        Raises:
            ValueError: Where prompt and response do not begin with the prompt, as the template writes it.
        """
        prompt = self._written(pair.prompt, pair, add_generation_prompt=True)
        sides = []
        for side in (pair.chosen, pair.rejected):
            whole = self._written([*pair.prompt, *side], pair)
            if not whole.startswith(prompt):
                raise ValueError("it writes a prompt otherwise once there is a response")
            sides.append(whole[len(prompt) :])
        return replace(pair, prompt=prompt, chosen=sides[0], rejected=sides[1], tools=[], template_kwargs={})

    def _written(self, messages: Any, pair: Pair, **options: Any) -> str:
        known: Mapping[str, Any] = {**pair.template_kwargs, **({"tools": pair.tools} if pair.tools else {})}
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options, **known))

    def length(self, pair: Pair) -> int:
        """Tokens of the longer of both conversations, with special tokens."""
        texts = self.rendered(pair) if pair.is_chat else self.with_special_tokens(pair)
        return max(
            len(self.tokenizer(f"{texts.prompt}{side}", add_special_tokens=False, verbose=False)["input_ids"])
            for side in (texts.chosen, texts.rejected)
        )
