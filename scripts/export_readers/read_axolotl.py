"""What axolotl reads of exports: its configuration, its loader of preferences, and its trainer's preparation."""

from collections.abc import Iterator

import yaml
from axolotl.core.trainers.dpo import DPOStrategy
from axolotl.utils.config import normalize_config, validate_config
from axolotl.utils.data.rl import prepare_preference_datasets
from axolotl.utils.dict import DictDefault
from common import Job, Tokens, run
from transformers import AutoModelForCausalLM, AutoTokenizer


def read(job: Job) -> Iterator[Tokens]:
    settings = yaml.safe_load(job.text("axolotl.yaml"))
    output = f"{job.tokens}.out"
    settings |= {"base_model": job.model, "output_dir": output, "dataset_prepared_path": output}
    settings |= {"micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1, "learning_rate": 1e-5}
    # In the order of the file, to be compared row by row.
    settings |= {"shuffle_merged_datasets": False}
    cfg = validate_config(DictDefault(settings))
    normalize_config(cfg)
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    data, _ = prepare_preference_datasets(cfg, tokenizer)
    arguments = DPOStrategy.get_training_args_class()(
        output_dir=output, use_cpu=True, bf16=False, report_to="none", **DPOStrategy.set_training_args_kwargs(cfg)
    )
    trainer = DPOStrategy.get_trainer_class()(
        model=AutoModelForCausalLM.from_pretrained(job.model),
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
    )
    for row in trainer.train_dataset:
        yield row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]


if __name__ == "__main__":
    run(read)
