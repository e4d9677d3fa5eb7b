"""The card of a scored data set."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..hub.names import is_repo_id
from ..hub.readme import join_readme, merge_metadata, merge_section, name_of, split_readme
from ..selection.report_text import warning_lines
from ..selection.wording import Wording, wording_of
from .dataset_tables import group_table, kept_table, matrix_table, proxy_table, scale_table, statistics_table
from .facts import ConfigFacts, DatasetFacts, ExampleFacts
from .licenses import license_metadata
from .text import Safe, cell, code, count, number, percent, plain, render, repo_link, table

# The kept pairs in words, after "Kept are the pairs".
_RULES = {
    "pd": "of lowest Preference Divergence: those whose label {voters} agree with most",
    "pd_high": "of highest Preference Divergence, whose label {voters} contradict most (the paper's ablation)",
    "random": "that a seed draws at random (a baseline)",
    "margin": "with the largest margin of one unified reward model (a baseline)",
    "length": "whose chosen response is longest relative to the rejected one (a baseline)",
}
_CONFIGS = {
    "selected": "the kept pairs",
    "scored": "all pairs, with the reward gaps, `pd`, `pd_kept` and `pd_reason`",
    "dropped": "the other pairs, each with its reason",
}
_SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
          (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T")]  # fmt: skip


def dataset_card(facts: DatasetFacts, existing: str | None = None) -> str:
    """
    The complete README.md of a scored data set, with its YAML.

    Args:
        facts ([`DatasetFacts`]): What to say.
        existing (`str`, *optional*): The current card. Its text and YAML outside the generated part are kept.

    Raises:
        InputError: If `existing` has broken YAML, or not exactly one pair of markers.
    """
    metadata, body = split_readme(existing or "")
    title = facts.pretty_name or _title(facts.repo_id)
    if not body.strip():
        body = f"# {cell(title)}\n"
    forced = [*(["license", "license_name", "license_link"] if facts.license else []), "size_categories"]
    merged = merge_metadata(metadata, dataset_metadata(facts, title), forced)
    # The default may be a configuration that the user added.
    defaults = {name_of(entry) for entry in merged["configs"] if isinstance(entry, dict) and entry.get("default")}
    shown = replace(facts, configs=[replace(c, default=c.name in defaults) for c in facts.configs])
    return join_readme(merged, merge_section(body, render("dataset_card", _record(shown))))


def dataset_metadata(facts: DatasetFacts, title: str) -> dict[str, Any]:
    """The YAML of the card of a scored data set."""
    source = facts.source
    license_of = (
        (facts.license, None, None) if facts.license else (source.license, source.license_name, source.license_link)
    )
    return {
        **license_metadata(*license_of),
        "language": facts.languages or source.languages,
        "size_categories": [size_category(max([facts.total, *(config.num_rows for config in facts.configs)]))],
        "task_categories": ["text-generation"],
        "source_datasets": [source.dataset] if source.dataset and is_repo_id(source.dataset) else [],
        "pretty_name": plain(title),
        "tags": sorted({"preference", "trl", "pd_trl", "preference-divergence", "rlhf", *facts.tags}),
        "configs": [_config(config) for config in facts.configs],
        "dataset_info": [_dataset_info(config) for config in facts.configs if config.features is not None],
    }


def size_category(rows: int) -> str:
    """The Hub's category for a number of rows, such as `"1K<n<10K"`."""
    return next((name for limit, name in _SIZES if rows < limit), "n>1T")


def _config(config: ConfigFacts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "config_name": config.name,
        "data_files": [{"split": config.split, "path": config.data_files}],
    }
    return {**entry, "default": True} if config.default else entry


def _dataset_info(config: ConfigFacts) -> dict[str, Any]:
    split = {"name": config.split, "num_bytes": config.num_bytes, "num_examples": config.num_rows}
    entry = {
        "config_name": config.name,
        "features": config.features,
        "splits": [{key: value for key, value in split.items() if value is not None}],
        "download_size": config.download_size,
        "dataset_size": config.num_bytes,
    }
    return {key: value for key, value in entry.items() if value is not None}


def _title(repo_id: str) -> str:
    return repo_id.split("/")[-1]


def _record(facts: DatasetFacts) -> dict[str, Any]:
    report, budget = facts.report, facts.arguments.get("budget")
    words = wording_of(report)
    return {
        "facts": facts,
        "arguments": {"per_aspect": False, "source": "rewards", "pd_column": "pd", "gamma": None, **facts.arguments},
        "rule": Safe(_rule(facts.selector, words)),
        "words": words,
        "by_pd": facts.selector in ("pd", "pd_high"),
        "has_pd": "pd" in report or facts.arguments.get("source") == "column",
        "share": facts.kept / facts.total if facts.total else None,
        "configs": table(
            [["configuration", "what it has", "pairs"], *[_config_row(c) for c in facts.configs]], left=2
        ),
        "names": {config.name for config in facts.configs},
        "other_budget": _other_budget(budget, facts.total),
        "filter_name": f"{facts.repo_id}@{facts.revision_tag}" if facts.revision_tag else facts.repo_id,
        # The trainer keeps the pairs with the lowest `pd`: all pairs must have one.
        "by_trainer": facts.selector == "pd"
        and not facts.arguments.get("per_aspect")
        and ("pd" in report or facts.arguments.get("source") == "column")
        and not (report.get("missing_votes") or {}).get("none"),
        "statistics": statistics_table(report.get("pd")),
        "aspects": "" if words.label else kept_table(report.get("kept_by_aspect"), "aspect of the label", facts),
        "votes": kept_table(report.get("kept_by_votes"), f"votes of {words.voters}", facts if words.label else None),
        "unanimous": _unanimous(report.get("kept_by_votes")),
        "groups": group_table(report),
        "overlap": {name: percent(value) for name, value in report.get("overlap", {}).items()},
        "proxies": proxy_table(facts),
        "measured": any(proxy.metrics.get("pair_accuracy") is not None for proxy in facts.proxies),
        "scales": scale_table(report),
        "conflict": matrix_table(facts.conflict, "", lambda value: percent(value, 0)),
        "correlation": matrix_table(report.get("gap_correlation", {}), "", lambda value: number(value, 2)),
        "warnings": [_warning(line) for line in warning_lines(report)] if report else [],
        "examples": [
            _example(e, k) for e, k in ((facts.example_kept, "kept"), (facts.example_dropped, "dropped")) if e
        ],
        "provenance": _provenance(facts),
        "license": _license(facts),
    }


def _rule(selector: str, words: Wording) -> str:
    if selector not in _RULES:
        return f"that the rule {code(selector)} ranks first"
    return _RULES[selector].format(voters=words.voters)


def _warning(line: str) -> Safe:
    text = line.removeprefix("WARNING: ")
    return cell(text, 600) if text == line else Safe(f"**Warning:** {cell(text, 600)}")


def _config_row(config: ConfigFacts) -> list[object]:
    default = " (default)" if config.default else ""
    return [Safe(f"{code(config.name)}{default}"), Safe(_CONFIGS.get(config.name, "")), count(config.num_rows)]


def _other_budget(budget: Any, total: int) -> float | int:
    """Another budget of the same kind, for the snippet."""
    if isinstance(budget, int) and not isinstance(budget, bool):
        return max(1, min(total, budget // 2))
    return 0.5 if isinstance(budget, float) and budget < 0.3 else 0.2


def _unanimous(votes: Mapping[str, Any] | None) -> dict[str, Safe] | None:
    """Share of kept and of dropped pairs with votes that all agree with the label."""
    if not votes:
        return None
    totals = {"kept": 0, "dropped": 0}
    agreeing = {"kept": 0, "dropped": 0}
    for name, group in votes.items():
        found = re.fullmatch(r"(\d+) of (\d+) agree", name)
        sizes = {"kept": group["kept"], "dropped": group["total"] - group["kept"]}
        for part, size in sizes.items():
            totals[part] += size
            agreeing[part] += size if found and found[1] == found[2] and int(found[2]) else 0
    return {part: percent(agreeing[part] / totals[part] if totals[part] else None) for part in totals}


def _example(example: ExampleFacts, kind: str) -> dict[str, Any]:
    gaps = ", ".join(
        f"{cell(name)} {number(value, 2)}{' (its own, no vote)' if name == example.aspect else ''}"
        for name, value in example.gaps.items()
    )
    return {"kind": Safe(kind), "of": example, "gaps": Safe(gaps)}


def _provenance(facts: DatasetFacts) -> list[Safe]:
    source = facts.source
    lines = []
    if source.dataset:
        parts = "".join(f", {code(part)}" for part in (source.config, source.split) if part)
        unknown = "" if source.revision else " (revision not recorded)"
        lines.append(f"**Source:** {repo_link(source.dataset, 'dataset', source.revision)}{parts}{unknown}")
    elif source.name:
        lines.append(f"**Source:** {code(source.name)} (not on the Hub)")
    arguments = {k: v for k, v in facts.arguments.items() if v is not None and k not in ("margin_column", "pd_column")}
    if arguments:
        lines.append(f"**Selection:** {', '.join(code(f'{k}={v}') for k, v in arguments.items())}")
    if facts.files:
        lines.append(f"**Files:** {', '.join(f'{code(path)} ({cell(what)})' for path, what in facts.files.items())}")
    if facts.created:
        lines.append(f"**Made on** {cell(facts.created)}")
    if facts.versions:
        lines.append(
            f"**Versions:** {cell(', '.join(f'{name} {version}' for name, version in facts.versions.items()))}"
        )
    return [Safe(line) for line in lines]


def _license(facts: DatasetFacts) -> Safe | None:
    if facts.license:
        return None
    if facts.source.license:
        return Safe(f"The licence ({code(facts.source.license_name or facts.source.license)}) is the source's.")
    return Safe("The licence of the source is unknown: look it up before you use the texts.")
