"""The bar of a training, in place of the trainer's dictionaries, where the command line asks for it."""

from pd_trl import PDDPOConfig, PDDPOTrainer
from pd_trl.runs import progress
from tests.cli.test_terminal import Watcher
from tests.tiny import tiny_preferences


def test_steps_are_told_and_no_dictionary_is_printed(tiny_models, tmp_path, capsys, monkeypatch):
    args = PDDPOConfig(
        str(tmp_path), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=4, logging_steps=1,
        save_strategy="no", max_steps=2, gradient_checkpointing=False,
    )  # fmt: skip
    watcher = Watcher()
    for quiet in (True, False):
        monkeypatch.setattr(progress.shown, "quiet_trainers", quiet)
        trainer = PDDPOTrainer(model=tiny_models["causal"], args=args, train_dataset=tiny_preferences(8))
        with progress.watched(watcher):
            trainer.train()
        printed = capsys.readouterr()
        assert ("'loss'" not in printed.out + printed.err) == quiet
    assert watcher.told == [("begin", "training", 2, 0), ("move", "training", 2, 1), ("move", "training", 2, 2), ("end", "training", 2, 2)]  # fmt: skip
