"""A reward model as a judge that needs no connection."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError
from ...hub import local_model_folder
from ...models.named import split_output
from ...models.outputs import HEADS, outputs_of
from ...scoring.responses import conversation, score_conversations
from ...scoring.reward_models import RewardModel, load_scorers
from .base import TIE, ScoreJudge

logger = logging.getLogger(__name__)


class RewardModelJudge(ScoreJudge):
    """
    Prefers the output of the higher reward. Such a judge shares its model's biases (length above all): its numbers say how a
    reward model sees the outputs, not how people do.

    Args:
        model (`str`, path, model, or tuple of model and tokenizer):
            The reward model, full or LoRA.
        aspect (`str`, *optional*):
            Aspect to judge by, of a model with a head for each of several.
        name (`str`, *optional*):
            Name shown beside every number. Defaults to `"reward model <folder or id>"`.
        chat (`bool`, *optional*):
            Whether instruction and output become chat messages. `None` is yes where the tokenizer has a chat template.
        max_length (`int`, *optional*):
            Most tokens; the start of a longer instruction is cut. `None` is what the model has positions for.
        tie (`float`, *optional*, defaults to `1e-9`):
            Largest difference of rewards that is a tie, in nats.
        tokens_per_batch (`int`, *optional*):
            Most tokens of a batch, padding counted.
        dtype (`torch.dtype` or `str`, *optional*):
            `None` is bfloat16 on a GPU that has it, float32 elsewhere; `"auto"` is bfloat16 on a CPU that computes in it, too.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether to run code that comes with the model.
    """

    def __init__(
        self,
        model: RewardModel,
        *,
        aspect: str | None = None,
        name: str | None = None,
        chat: bool | None = None,
        max_length: int | None = None,
        tie: float = TIE,
        tokens_per_batch: int | None = None,
        dtype: torch.dtype | str | None = None,
        trust_remote_code: bool = False,
    ):
        for setting, value in (("max_length", max_length), ("tokens_per_batch", tokens_per_batch)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"`{setting}` of the judge must be a whole number of at least 1, got {value!r}.")
        if not isinstance(trust_remote_code, bool):
            raise InputError(f"`trust_remote_code` of the judge must be true or false, got {trust_remote_code!r}.")
        # A model of one output goes by any name.
        scorers = load_scorers({aspect or "judge": model}, dtype=dtype, trust_remote_code=trust_remote_code)
        self.scorer = next(scorers)
        templated = bool(self.scorer.tokenizer.chat_template)
        if chat and not templated:
            raise InputError("The reward model's tokenizer has no chat template, which `chat` needs.")
        self.chat = templated if chat is None else chat
        self.max_length, self.tokens_per_batch = max_length, tokens_per_batch
        self._has_cut = False
        label = (
            name
            or f"reward model {model if isinstance(model, str) else 'in memory'}{f' ({aspect})' if aspect else ''}"
        )
        identity = {"reward_model": self.scorer.digest, "chat": self.chat, "max_length": max_length}
        if aspect is not None:
            identity["aspect"] = aspect
        super().__init__(label, "a local reward model, not an LLM judge", identity, tie)

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.floating]:
        """Rewards in nats."""
        texts = [conversation(self.scorer, *pair, chat=self.chat) for pair in pairs]
        rewards, cut = score_conversations(
            self.scorer, texts, max_length=self.max_length, tokens_per_batch=self.tokens_per_batch
        )
        if cut and not self._has_cut:
            self._has_cut = True
            logger.warning(
                "Some conversations are longer than the judge takes, and their start is cut: %d of the first %d.",
                cut,
                len(texts),
            )
        return rewards[:, 0]


def reward_model_judge(model: str, **settings: object) -> RewardModelJudge:
    """
    The judge of a folder or Hub id, or of one head of a model with several, as in `me/rm-heads#honesty`; settings are
    [`RewardModelJudge`]'s.
    """
    name, aspect = split_output(model)
    if aspect is not None and not _has_outputs(name):
        raise InputError(f"{name} has one output and no head for {aspect!r}: leave '#{aspect}' out.")
    return RewardModelJudge(name, aspect=aspect, **settings)  # type: ignore[arg-type]


def _has_outputs(name: str) -> bool:
    """Whether a model's outputs are named one by one: heads of ours, or several outputs."""
    outputs = outputs_of(local_model_folder(name, what="judge"))
    return outputs.kind == HEADS or len(outputs.names) > 1
