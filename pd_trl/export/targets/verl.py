"""verl: plain texts in parquet, for its data set of preferences."""

from typing import Any

from ...errors import InputError
from ..pairs import Pair
from .base import Target, Written


def _row(pair: Pair) -> dict[str, Any]:
    return pair.identified(prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)


def _check_tokenizer(texts: Any) -> None:
    if texts.begins:
        raise InputError(
            "verl's reader tokenizes prompt and response apart, and this tokenizer would put a BOS token before each response. "
            "Export to another trainer, or take a tokenizer that adds none."
        )


def _files(written: Written) -> dict[str, str]:
    found = {}
    for part in written.files:
        name = "verl.py" if part == "kept" else f"verl_{part}.py"
        found[name] = (
            "from transformers import AutoTokenizer\n"
            "from verl.utils.dataset.rm_dataset import RMDataset\n\n"
            f"tokenizer = AutoTokenizer.from_pretrained({written.model or 'MODEL'!r})\n"
            "# The special tokens stand in the texts. Longer conversations are cut.\n"
            f"data = RMDataset({written.path(part)!r}, tokenizer, add_eos=False, max_length={written.limit()})\n"
        )
    return found


VERL = Target(
    "verl", _row, lambda pair: None, _files, reads_chat=False, bare=True, renders=True, parquet=True,
    check_tokenizer=_check_tokenizer,
)  # fmt: skip
