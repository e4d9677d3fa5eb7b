"""[`publish_model`]: a reward model, an aligned model or an adapter on the Hub, with its card."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..cards import ModelFacts
from ..hub import check_name, split_revision
from ..runs.provenance import repo_facts
from ..runs.results import RESULTS_NAME, EvalResult, load_results
from .model_push import push_model, read_results
from .privacy import published_json, published_value
from .publication import Publication


def publish_model(
    path: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    message: str | None = None,
    license: str | None = None,
    datasets: Sequence[str] | None = None,
    base_model: str | None = None,
    results: Sequence[EvalResult | str | os.PathLike] | None = None,
    eval_results: bool = False,
    include: Sequence[str] = (),
    token: str | None = None,
) -> Publication:
    """
    Publishes a model that `pd-trl reward`, `pd-trl dpo` or any trainer left in a folder: in one commit, or not at all.

    Weights are published as safetensors, with configuration, tokenizer and, for a reward model, `pd_reward.json`.
    Pickles, optimiser states, checkpoints and logs are not published. The card is rendered again with the newest
    evaluations and merged into the one on the Hub, whose text outside our markers is kept. Files of an earlier push
    that would be loaded instead of the new ones are deleted in the same commit. Afterwards the files on the Hub are
    compared with the local ones.

    Example:

    ```python
    >>> from pd_trl import publish_model

    >>> publish_model("runs/quickstart/dpo", "me/policy-pd", datasets=["me/uf-scored"], dry_run=True).commit.added
    ```

    Args:
        path (`str`):
            Folder of the model.
        repo_id (`str`):
            `"name"` or `"namespace/name"`. Made where it does not exist.
        private, create_pr, branch, tag, dry_run, token:
            As in [`publish_dataset`].
        message (`str`, *optional*):
            Title of the commit.
        license (`str`, *optional*):
            Licence. `None` is that of the existing card, or the base model's.
        datasets (sequence of `str`, *optional*):
            Hub ids of the data it was trained on, such as the published selection. `None` is what the trainer knew.
        base_model (`str`, *optional*):
            Hub id of the model it was trained from. `None` is what the trainer knew. An adapter's `adapter_config.json` is
            published with this name, and without one where the base is a folder of this machine.
        results (sequence of [`EvalResult`] or `str`, *optional*):
            Evaluations: records, or folders of `pd-trl evaluate`. `None` reads `eval_results.json` in the model's folder.
        eval_results (`bool`, *optional*, defaults to `False`):
            Whether to write `.eval_results/*.yaml` too, which the Hub shows for its registered benchmarks.
        include (sequence of `str`):
            Patterns of further files of the folder to publish.

    Returns:
        [`Publication`]

    Raises:
        InputError: If the folder holds no model in safetensors, an incomplete one, or a model of another kind.
            HubError: If the Hub refuses it or cannot be reached. The message says what state the repository is in.
    """

    for name in (*(datasets or ()), *([base_model] if base_model is not None else [])):
        check_name(split_revision(name)[0])

    def change(facts: ModelFacts) -> ModelFacts:
        chosen: dict[str, Any] = {
            "license": license,
            "base_model": base_model,
            "datasets": list(datasets) if datasets is not None else None,
        }
        changed = {name: value for name, value in chosen.items() if value is not None}
        if "datasets" in changed and changed["datasets"][:1] != facts.datasets[:1]:
            changed["dataset_revision"] = None
        if base_model is not None and base_model != facts.base_model:
            known = repo_facts(base_model, "model")
            changed["base_revision"] = known.get("revision")
            changed |= {f"base_{key}": known.get(key) for key in ("license", "license_name", "license_link")}
        return replace(facts, **changed)

    records = _published_results(path, results)
    beside = {RESULTS_NAME: published_json([asdict(record) for record in records])} if records else {}
    return push_model(
        path, repo_id, change_facts=change, results=records, eval_results=eval_results, message=message, private=private,
        create_pr=create_pr, branch=branch, tag=tag, extra=include, beside=beside, token=token, dry_run=dry_run,
    )  # fmt: skip


def _published_results(
    folder: str | os.PathLike, results: Sequence[EvalResult | str | os.PathLike] | None
) -> list[EvalResult]:
    """The given records or those in given files, else those in the model's folder; without tokens and local paths."""
    found: list[EvalResult] = [] if results is not None else read_results(folder)
    for entry in results or ():
        found += [entry] if isinstance(entry, EvalResult) else load_results(Path(entry).expanduser())
    return [EvalResult(**published_value(asdict(record))) for record in found]
