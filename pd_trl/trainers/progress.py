"""A bar for the steps of a training, in place of the dictionaries that trainers print."""

from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState

from ..runs.progress import Bar, shown


class StepsBar(TrainerCallback):
    """Shows the steps of a training and the last loss."""

    def __init__(self) -> None:
        self.bar: Bar | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.bar = Bar(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", disable=None
            )

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def show_steps(trainer: Any) -> None:
    """Gives the trainer a bar in place of its dictionaries, where the command line asks for it."""
    if not shown.quiet_trainers:
        return
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(StepsBar())
