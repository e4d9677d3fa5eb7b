"""What LLaMA-Factory reads of exports: its arguments, its template, its data sets and its processor of pairs."""

import sys
import types
from collections.abc import Iterator

import transformers.utils.import_utils
import yaml
from common import Job, Tokens, run, split
from transformers import AutoTokenizer

# It is imported for sounds alone, and its build for the CPU is not on PyPI. transformers has been told that there is none.
transformers.utils.import_utils.is_torchaudio_available()
sys.modules["torchaudio"] = types.ModuleType("torchaudio")

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402

_NO_LABEL = -100


def read(job: Job) -> Iterator[Tokens]:
    settings = yaml.safe_load(job.text("llama_factory.yaml"))
    settings |= {"model_name_or_path": job.tokenizer, "output_dir": f"{job.tokens}.out"}
    if settings["template"] != "empty":
        settings["template"] = job.template
    # Each export is read afresh, and nothing is trained.
    settings |= {"overwrite_cache": True, "use_cpu": True, "report_to": "none", "finetuning_type": "lora"}
    model_args, data_args, training_args, _, _ = get_train_args(settings)
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    data = get_dataset(template, model_args, data_args, training_args, stage="rm", tokenizer=tokenizer)
    for row in data["train_dataset"]:
        start = sum(label == _NO_LABEL for label in row["chosen_labels"])
        yield split(row["chosen_input_ids"], row["rejected_input_ids"], start)


if __name__ == "__main__":
    run(read)
