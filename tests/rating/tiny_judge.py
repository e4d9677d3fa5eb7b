"""A tiny language model whose tokenizer has digits and letters, so that it can judge."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.tiny import tiny_config

WORDS = ["<pad>", "<unk>", "</s>", *"12345ABT", "rate", "this", "good", "bad", "Answer", ":"]


def tiny_judge(positions: int = 512) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model and its tokenizer."""
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")
    torch.manual_seed(0)
    config = tiny_config(
        vocab_size=len(WORDS), pad_token_id=0, bos_token_id=2, eos_token_id=2, max_position_embeddings=positions
    )
    return LlamaForCausalLM(config).eval(), tokenizer
