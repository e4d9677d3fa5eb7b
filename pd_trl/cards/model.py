"""The card of a reward model or of an aligned model."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..hub.names import is_repo_id
from ..hub.readme import join_readme, merge_metadata, merge_section, split_readme
from ..method.accuracy import verdict
from ..runs.results import EvalResult
from .evaluations import evaluation_tables, model_index
from .facts import ModelFacts
from .heads import heads_table, heads_verdict
from .licenses import license_metadata
from .text import Safe, accuracy, cell, code, count, literal, number, percent, render, repo_link, table

_TEMPLATES = {"reward": "reward_model_card", "policy": "aligned_model_card"}
# The Hub's task of each kind, and the tags that users filter by.
_TASKS = {"reward": "text-classification", "policy": "text-generation"}
_TAGS = {
    "reward": ["trl", "reward-trainer", "reward-model", "preference", "generated_from_trainer"],
    "policy": ["trl", "dpo", "preference", "generated_from_trainer"],
}


def model_card(facts: ModelFacts, existing: str | None = None) -> str:
    """
    The complete README.md of a model, with its YAML.

    Args:
        facts ([`ModelFacts`]): What to say.
        existing (`str`, *optional*): The current card. Its text and YAML outside the generated part are kept.

    Raises:
        InputError: If `existing` has broken YAML, or not exactly one pair of markers.
    """
    if facts.kind not in _TEMPLATES:
        raise InputError(f"`kind` must be one of {', '.join(_TEMPLATES)}, got {facts.kind!r}.")
    metadata, body = split_readme(existing or "")
    metadata.pop("licence", None)
    if not body.strip():
        body = f"# {cell(facts.name)}\n"
    forced = ["license", "license_name", "license_link"] if facts.license else []
    if metadata.get("library_name") in ("transformers", "peft"):
        forced.append("library_name")  # TRL writes transformers for adapters too
    merged = merge_metadata(metadata, model_metadata(facts), forced)
    return join_readme(merged, merge_section(body, render(_TEMPLATES[facts.kind], _record(facts))))


def model_metadata(facts: ModelFacts) -> dict[str, Any]:
    """The YAML of the card of a model."""
    inherited = (facts.base_license, facts.base_license_name, facts.base_license_link)
    base = facts.base_model if is_repo_id(facts.base_model, namespaced=False) else None
    return {
        **license_metadata(*((facts.license,) if facts.license else inherited)),
        "language": facts.languages,
        "base_model": base,
        "base_model_relation": ("adapter" if facts.peft else "finetune") if base else None,
        "datasets": [name for name in facts.datasets if is_repo_id(name)],
        "library_name": "peft" if facts.peft else "transformers",
        "pipeline_tag": _TASKS[facts.kind],
        "tags": sorted({"pd_trl", *(_TAGS[facts.kind] if facts.is_known else []), *facts.tags}),
        "model-index": model_index(facts.name, _all_results(facts), _TASKS[facts.kind]),
    }


def _all_results(facts: ModelFacts) -> list[EvalResult]:
    """The evaluations, and for a reward model its held-out accuracy."""
    measured: dict[str | None, Mapping[str, float]] = {facts.aspect: facts.metrics}
    measured |= {aspect: head.get("metrics", {}) for aspect, head in facts.heads.items()}
    held_out = [
        EvalResult(
            task=f"held-out pairs{f' of {aspect}' if aspect else ''}",
            metric="accuracy",
            value=metrics["pair_accuracy"],
            standard_error=metrics.get("pair_accuracy_se"),
            num_samples=int(metrics["num_pairs"]),
            unit="share",
            dataset=facts.datasets[0] if facts.datasets else None,
            dataset_revision=facts.dataset_revision if facts.datasets else None,
        )
        for aspect, metrics in measured.items()
        if facts.kind == "reward" and "pair_accuracy" in metrics and metrics.get("num_pairs")
    ]
    return [*held_out, *facts.results]


def _record(facts: ModelFacts) -> dict[str, Any]:
    return {
        "facts": facts,
        "base": _base(facts),
        "model_id": facts.repo_id or facts.name,
        "data": _data(facts),
        "evaluations": evaluation_tables(facts.results),
        "has_win_score": any(result.metric == "win_score" for result in facts.results),
        "selection": _selection(facts.selection),
        "rule": (facts.selection or {}).get("selector", "pd"),
        "by_pd": (facts.selection or {}).get("selector", "pd") in ("pd", "pd_high"),
        "accuracy": heads_table(facts.heads) or _accuracy(facts.metrics),
        "heads": Safe(", ".join(f"**{cell(aspect)}**" for aspect in facts.heads)),
        "head_names": Safe(", ".join(str(literal(aspect)) for aspect in facts.heads)),
        "reading": _reading(facts.reading),
        "verdict": heads_verdict(facts.heads) if facts.heads else _verdict(facts.metrics),
        "length": _length(facts.length, facts.heads),
        "essentials": _settings(facts.essentials),
        "hyperparameters": _settings(facts.hyperparameters),
        "trl_section": Safe(facts.trl_section or ""),
        "citations": Safe(facts.citations or ""),
        "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
        "license": _license(facts),
    }


def _base(facts: ModelFacts) -> Safe | None:
    name = facts.base_model
    return repo_link(name, "model", facts.base_revision) if name and is_repo_id(name, namespaced=False) else None


def _data(facts: ModelFacts) -> Safe:
    names = [
        repo_link(name, "dataset", facts.dataset_revision if i == 0 else None) for i, name in enumerate(facts.datasets)
    ]
    return Safe(", ".join(names))


def _selection(selection: Mapping[str, Any] | None) -> Safe:
    if not selection:
        return Safe("")
    rows: list[Sequence[object]] = [["selection of the training pairs", ""]]
    rows.append(["pairs given", count(selection.get("total"))])
    rows.append(["pairs trained on", count(selection.get("kept"))])
    if selection.get("total") and selection.get("kept") is not None:
        rows.append(["share (λ)", percent(selection["kept"] / selection["total"])])
    rows.append(["rule", code(selection.get("selector", "pd"))])
    if selection.get("threshold") is not None and selection.get("selector", "pd") == "pd":
        rows.append(["highest PD kept", number(selection["threshold"], 4)])
    return table(rows)


def _accuracy(metrics: Mapping[str, float]) -> Safe:
    if "pair_accuracy" not in metrics:
        return Safe("")
    rows: list[Sequence[object]] = [["on held-out pairs", ""]]
    rows.append(["accuracy ± SE", accuracy(metrics, bold=True)])
    for key, label in (
        ("pair_accuracy_chosen_longer", "where the chosen response is longer"),
        ("pair_accuracy_chosen_shorter", "where the chosen response is shorter"),
        ("length_accuracy", "accuracy of “longer wins”"),
        ("raw_pair_accuracy", "accuracy of the reward without its length term"),
    ):
        says_more = key != "raw_pair_accuracy" or metrics.get(key) != metrics["pair_accuracy"]
        if metrics.get(key) is not None and says_more:
            rows.append([label, percent(metrics[key])])
    if metrics.get("gap_length_correlation") is not None:
        rows.append(["correlation of reward gap and length difference", number(metrics["gap_length_correlation"], 2)])
    if metrics.get("num_pairs"):
        rows.append(["pairs", count(int(metrics["num_pairs"]))])
    return table(rows)


_VERDICTS = {
    "not measured": "Its accuracy on held-out pairs was not measured.",
    "worse than a coin": "**It is worse than a coin** (by two standard errors): it contradicts the held-out labels.",
    "no better than a coin": "**It is no better than a coin** (by two standard errors).",
    "no better than length": "**It is no better than choosing the longer response** (by two standard errors).",
    "better": "It is better than a coin and than choosing the longer response, by two standard errors.",
}


def _verdict(metrics: Mapping[str, float]) -> Safe:
    return Safe(_VERDICTS[verdict(metrics)])


def _reading(reading: Mapping[str, Any]) -> str:
    """What heads read, as a sentence; empty for the last token at the last layer."""
    if not reading:
        return ""
    layers = [str(n) for n in reading.get("layers") or ()]
    what = "the mean over the response's tokens" if reading.get("pooling") == "mean" else "the last token"
    where = f", at layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}" if layers else ""
    scaled = (
        ", each feature with mean 0 and standard deviation 1 on the training set" if reading.get("standardize") else ""
    )
    return f"The heads read {what}{where}{scaled}."


def _length(length: Mapping[str, Any], heads: Mapping[str, Any]) -> Safe:
    if not length:
        return Safe("")
    temperature, correction = length.get("temperature"), length.get("correction", "none")
    rows: list[Sequence[object]] = [["length handling", ""]]
    rows.append(
        ["length-balanced sampling", Safe("off") if temperature is None else Safe(f"temperature {temperature:g}")]
    )
    penalty = length.get("penalty")
    if heads and correction != "none":
        shown = Safe(f"{cell(correction)}, per token and head as above")
    else:
        shown = Safe(f"{cell(correction)}, {penalty:g} per token" if correction != "none" and penalty else "off")
    rows.append(["length correction", shown])
    if length.get("max_length"):
        rows.append(["longest training sequence", Safe(f"{length['max_length']:,} tokens")])
    return table(rows)


def _settings(settings: Mapping[str, Any]) -> Safe:
    rows: list[Sequence[object]] = [
        ["argument", "value"],
        *([code(name), code(value)] for name, value in settings.items()),
    ]
    return table(rows, left=2) if len(rows) > 1 else Safe("")


def _license(facts: ModelFacts) -> Safe:
    if facts.license:
        return Safe(f"{code(facts.license)}.")
    if facts.base_license:
        return Safe(
            f"{code(facts.base_license_name or facts.base_license)}, the base model's. Terms of the training data may add to it."
        )
    return Safe("Unknown. The licence of the base model and the terms of the training data apply.")
