"""[`HubPushes`]: how both trainers push: checked before training, and in one commit."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from ..errors import InputError
from ..hub import HubError, check_access, check_card, check_training_push, hub_api
from .publisher import needed_publisher, publisher

logger = logging.getLogger(__name__)

_CHECKPOINTS = (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS)


class HubPushes:
    """
    Mixin of a trainer, before TRL's class. In transformers' own pushes a card replaces the one on the Hub, a large model is
    several commits, and `training_args.bin`, a pickle that holds `hub_token`, goes up too.
    """

    args: Any
    hub_model_id: str | None
    push_in_progress: Any

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        with _without_token(self.args):
            super().save_model(output_dir, _internal_call=True)  # type: ignore[misc]
        self._save_beside(output_dir or self.args.output_dir)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_beside(self, folder: str) -> None:
        """Saves what belongs beside the weights."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """
        Checks that the push will be accepted. Unlike transformers', it makes no repository: the first commit does, so that a
        run that fails leaves none behind.
        """
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return
        private = private if private is not None else self.args.hub_private_repo
        if self.args.hub_strategy in _CHECKPOINTS:
            # transformers' own pushes of checkpoints need the repository.
            super().init_hf_repo(token=token)  # type: ignore[misc]
            return
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        self.hub_model_id = check_access(name, "model", private=private, token=token or self.args.hub_token).repo_id
        self.push_in_progress = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Saves the model and publishes it with its card, in one commit. See [`publish_model`] for what is published.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`):
                Title of the commit.
            blocking (`bool`, *optional*, defaults to `True`):
                Whether to wait for it. Otherwise a future is returned.
            token (`str`, *optional*):
                Token. `None` is `hub_token`, or the one of the log-in.
            revision (`str`, *optional*):
                Branch. `None` is `hub_revision`, or the main one.
            private (`bool`, *optional*):
                Visibility of a new repository. `None` is `hub_private_repo`.
            kwargs:
                Further arguments of `create_model_card`.

        Returns:
            [`~huggingface_hub.CommitInfo`], a future of it, or `None` in other processes than the first.

        Raises:
            HubError: When the Hub refuses it or stays out of reach; the message says what that leaves there.
        """
        trainer: Any = self
        needed_publisher()
        trainer.callback_handler.on_push_begin(self.args, trainer.state, trainer.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not trainer.is_world_process_zero():
            return None
        tags = kwargs.pop("tags", None) or []
        tags = [*([tags] if isinstance(tags, str) else tags), *(getattr(trainer.model, "model_tags", None) or [])]
        name = kwargs.pop("model_name", None) or str(self.hub_model_id).split("/")[-1]
        trainer.create_model_card(model_name=name, tags=tags, **kwargs)
        self._wait_for_push()
        push = partial(self._push_folder, self.args.output_dir, commit_message, token, revision, private)
        return push() if blocking else hub_api().run_as_future(push)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes the model of a checkpoint while training goes on."""
        trainer: Any = self
        strategy = self.args.hub_strategy
        if not trainer.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if strategy in _CHECKPOINTS:
            # Optimiser states are what was asked for: transformers' push of the whole folder.
            super()._push_from_checkpoint(checkpoint_folder)  # type: ignore[misc]
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if running and not self.args.hub_always_push:
            return
        trainer.callback_handler.on_push_begin(self.args, trainer.state, trainer.control)
        if running:
            self._wait_for_push()
        folder = _staged(Path(checkpoint_folder), Path(self.args.output_dir))
        message = f"Training in progress, step {trainer.state.global_step}"

        def push() -> None:
            try:
                self._push_folder(str(folder), message, None, None, None)
            except (HubError, InputError, OSError) as error:
                logger.warning("The push of step %d failed, training goes on. %s", trainer.state.global_step, error)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        self.push_in_progress = PushInProgress([hub_api().run_as_future(push)])

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
    ) -> None:
        trainer: Any = self
        cards = publisher() if trainer.is_world_process_zero() else None
        old = cards.existing_card(self.args.output_dir) if cards else None
        super().create_model_card(model_name=model_name, dataset_name=dataset_name, tags=tags)  # type: ignore[misc]
        if cards:
            cards.write_card(self, model_name, old, **self._card_facts())

    def _card_facts(self) -> dict[str, Any]:
        """Facts for the card that this kind of trainer knows."""
        return {}

    def _check_planned_card(self) -> None:
        """Raises `HubError` where the Hub would refuse the metadata of the card that this trainer is going to write."""
        trainer: Any = self
        if self.args.push_to_hub and trainer.is_world_process_zero() and self.hub_model_id is not None:
            card = needed_publisher().planned_card(self, **self._card_facts())
            check_card(card, "model", f"model {self.hub_model_id}", token=self.args.hub_token)

    def _push_folder(
        self, folder: str, message: str | None, token: str | None, revision: str | None, private: bool | None
    ) -> CommitInfo:
        return needed_publisher().push(
            folder,
            self.args.output_dir,
            str(self.hub_model_id),
            message,
            private=private if private is not None else self.args.hub_private_repo,
            branch=revision or self.args.hub_revision,
            token=token or self.args.hub_token,
        )

    def _wait_for_push(self) -> None:
        if getattr(self, "push_in_progress", None) is not None:
            self.push_in_progress.wait_until_done()


def check_push(args: Any, repo_id: str | None = None) -> None:
    """
    Raises `InputError` where a trainer with these arguments could not push, before its model is loaded.

    Args:
        args ([`~transformers.TrainingArguments`]): The arguments.
        repo_id (`str`, *optional*): Where to, instead of their `hub_model_id`.

    Raises:
        InputError: Where nothing is registered to push with, or for a strategy that would publish the token.
        HubError: When the Hub would refuse the push.
    """
    if not args.push_to_hub:
        return
    needed_publisher()
    if args.hub_token and args.hub_strategy in _CHECKPOINTS:
        raise InputError(
            f"hub_strategy={args.hub_strategy.value!r} publishes `training_args.bin`, which would hold your `hub_token`. Log in "
            "with `hf auth login` or set HF_TOKEN instead of passing the token, or use hub_strategy='every_save'."
        )
    if int(os.environ.get("RANK", 0)) == 0:
        if repo_id is None:
            check_training_push(args)
        else:
            check_access(repo_id, "model", private=args.hub_private_repo, token=args.hub_token)


@contextmanager
def _without_token(args: Any) -> Iterator[None]:
    """Hides tokens from `training_args.bin`, which transformers pickles beside each model."""
    hidden = {"hub_token": args.hub_token, "model_init_kwargs": getattr(args, "model_init_kwargs", None)}
    args.hub_token = None
    if isinstance(hidden["model_init_kwargs"], dict):
        args.model_init_kwargs = {k: v for k, v in hidden["model_init_kwargs"].items() if not k.endswith("token")}
    try:
        yield
    finally:
        args.hub_token = hidden["hub_token"]
        if isinstance(hidden["model_init_kwargs"], dict):
            args.model_init_kwargs = hidden["model_init_kwargs"]


def _staged(checkpoint: Path, output_dir: Path) -> Path:
    """A folder with the model of a checkpoint, which may be removed while it is uploaded: links where possible."""
    folder = Path(tempfile.mkdtemp(prefix=".pd_push-", dir=output_dir))
    for name, path in needed_publisher().model_files(checkpoint).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copy2(path, target)
    card = output_dir / "README.md"
    if card.is_file():
        shutil.copy2(card, folder / "README.md")
    return folder
