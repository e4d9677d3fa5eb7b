"""What verl's data set of preferences reads of exports."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

from common import Job, Tokens, run, split
from transformers import AutoTokenizer


def read(job: Job) -> Iterator[Tokens]:
    space: dict[str, Any] = {}
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    with mock.patch.object(AutoTokenizer, "from_pretrained", return_value=tokenizer):
        exec(job.text("verl.py"), space)  # the snippet that the export wrote
    data = space["data"]
    for i in range(len(data)):
        item = data[i]
        start = len(tokenizer(data.prompts[i])["input_ids"])
        masked = zip(item["input_ids"], item["attention_mask"], strict=True)
        yield split(*(ids[: int(mask.sum())].tolist() for ids, mask in masked), start)


if __name__ == "__main__":
    run(read)
