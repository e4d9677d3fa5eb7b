"""A tiny causal language model of the simulated world: the policy before alignment, and what proxies start from."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...runs.progress import Bar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


logger = logging.getLogger(__name__)

PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"

# Chat messages become exactly the tokens that `prompt + response` becomes, so one model serves standard and chat data.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


def build_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """
    A tokenizer with one token per word and punctuation mark, whose decoding gives the text back.

    Args:
        texts (`Iterable[str]`): texts that hold every word there is.

    Returns:
        `PreTrainedTokenizerFast` with distinct pad, bos, eos and unknown tokens, a bos in front of every text, and a
        chat template.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.train_from_iterator(
        sorted(set(texts)), trainers.WordLevelTrainer(special_tokens=[PAD, BOS, EOS, UNK], show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )


def build_model(
    tokenizer: "PreTrainedTokenizerFast",
    *,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    seed: int = 42,
) -> "PreTrainedModel":
    """A small Llama with random weights; the global random state of torch is left as it was."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if hidden_size % (2 * num_heads):
        raise InputError(
            f"`hidden_size` must be a multiple of twice `num_heads`, but got "
            f"hidden_size={hidden_size} and num_heads={num_heads}."
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def pretrain(
    corpus: Sequence[dict[str, str]],
    output_dir: str | Path,
    *,
    seed: int = 42,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    num_epochs: int = 1,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
) -> dict[str, float]:
    """
    Trains a tokenizer and a tiny causal language model on the corpus and saves both.

    Args:
        corpus (`Sequence[dict[str, str]]`): texts with the keys `"prompt"` and `"completion"`, see `simulate_corpus`.
        output_dir (`str` or `Path`): folder for model and tokenizer, readable by `from_pretrained`.
        seed (`int`, *optional*, defaults to `42`): seed of the weights and of the order.
        hidden_size, num_layers, num_heads (`int`, *optional*, default to `64`, `2`, `4`): size of the model.
        num_epochs (`int`, *optional*, defaults to `1`): passes over the corpus.
        batch_size (`int`, *optional*, defaults to `64`): texts per step.
        learning_rate (`float`, *optional*, defaults to `3e-3`): the highest learning rate of a one-cycle schedule.

    Returns:
        `dict[str, float]`: `initial_loss` and `final_loss` (nats per token, first and last tenth of the steps),
        `num_steps`, `num_parameters`, `num_tokens`, `seconds`.

    Raises:
        `InputError`: if the corpus is empty or has other keys.
    """
    if not corpus or not all(
        isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str) for row in corpus
    ):
        raise InputError(
            "`pretrain` expects a list, not empty, of dicts with the texts 'prompt' and 'completion', as "
            f"`simulate_corpus` makes it, but got {len(corpus)} rows"
            + (f", the first with the keys {sorted(corpus[0])}." if corpus else ".")
        )
    start = time.perf_counter()
    texts = [row["prompt"] + row["completion"] for row in corpus]
    tokenizer = build_tokenizer([part for row in corpus for part in (row["prompt"], row["completion"])])
    model = build_model(tokenizer, hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads, seed=seed)
    ids = [[*row, tokenizer.eos_token_id] for row in tokenizer(texts)["input_ids"]]
    batches = _batches([len(row) for row in ids], batch_size, num_epochs, seed)
    logger.info(
        "Pretraining a model of %s parameters on %s texts, %s steps.",
        f"{model.num_parameters():,}", f"{len(corpus):,}", f"{len(batches):,}",
    )  # fmt: skip
    losses = _train(model, ids, batches, tokenizer.pad_token_id, learning_rate)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    tenth = max(1, len(losses) // 10)
    result = {
        "initial_loss": float(np.mean(losses[:tenth])),
        "final_loss": float(np.mean(losses[-tenth:])),
        "num_steps": len(losses),
        "num_parameters": model.num_parameters(),
        "num_tokens": num_epochs * sum(map(len, ids)),
        "seconds": time.perf_counter() - start,
    }
    logger.info(
        "Pretrained in %.0f s: the loss fell from %.2f to %.2f nats per token.",
        result["seconds"], result["initial_loss"], result["final_loss"],
    )  # fmt: skip
    return result


def _batches(lengths: list[int], batch_size: int, num_epochs: int, seed: int) -> list[np.ndarray]:
    """Batches of texts of similar length, in random order."""
    batches: list[np.ndarray] = []
    for epoch in range(num_epochs):
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(lengths))
        # Sorted within groups of 50 batches: little padding, and yet other batches in every epoch.
        for group in np.split(order, range(50 * batch_size, len(order), 50 * batch_size)):
            ordered = group[np.argsort(np.asarray(lengths)[group], kind="stable")]
            parts = np.split(ordered, range(batch_size, len(ordered), batch_size))
            batches.extend(parts[i] for i in rng.permutation(len(parts)))
    return batches


def _train(
    model: "PreTrainedModel", ids: list[list[int]], batches: list[np.ndarray], pad_token_id: int, learning_rate: float
) -> list[float]:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_then_linear(len(batches)))
    losses = []
    model.train()
    for batch in Bar(batches, desc="pretraining", unit="step", disable=None):
        input_ids, attention_mask = pad_right([ids[i] for i in batch], pad_token_id)
        labels = input_ids.masked_fill(attention_mask == 0, -100)
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


def _warmup_then_linear(num_steps: int, warmup_share: float = 0.05) -> Callable[[int], float]:
    warmup = max(1, int(num_steps * warmup_share))
    return lambda step: min((step + 1) / warmup, (num_steps - step) / max(1, num_steps - warmup))


def pad_right(rows: list[list[int]], pad_token_id: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and attention mask of a batch, both of shape `(batch_size, longest)`."""
    import torch

    longest = max(map(len, rows))
    input_ids = torch.tensor([row + [pad_token_id] * (longest - len(row)) for row in rows])
    attention_mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return input_ids, attention_mask
