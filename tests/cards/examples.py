"""Facts of made-up publications, for tests of whole cards."""

from typing import Any

from pd_trl.cards import ConfigFacts, DatasetFacts, ExampleFacts, ModelFacts, ProxyFacts, SourceFacts
from pd_trl.runs.results import EvalResult

SHA = "0123456789abcdef0123456789abcdef01234567"
FEATURES = [{"name": "pair_id", "dtype": "string"}, {"name": "pd", "dtype": "float32"}]


def dataset_facts(text: str = "plain words", **changes: Any) -> DatasetFacts:
    """A selection of 3 of 10 pairs of two aspects; `text` stands wherever a text of others does."""
    groups = {text: {"total": 6, "kept": 2, "share": 1 / 3}, "honesty": {"total": 4, "kept": 1, "share": 0.25}}
    report = {
        "selector": "pd", "total": 10, "kept": 3, "dropped": 7,
        "pd": {"min": -1.0, "max": 1.0, "mean": -0.1, "mean_kept": -0.8, "mean_dropped": 0.2, "share_negative": 0.6,
               "quantiles": {"0.05": -0.9, "0.5": -0.1, "0.95": 0.9}},
        "kept_by_aspect": groups,
        "kept_by_votes": {"0 of 1 agree": {"total": 6, "kept": 0, "share": 0.0}, "1 of 1 agree": {"total": 4, "kept": 3, "share": 0.75}},
        "lengths": {g: {"mean_characters_chosen": 100.4, "mean_characters_rejected": 90.0, "chosen_longer": 0.5} for g in ("all", "kept", "dropped")},
        "unseen_labels": {"overall": {"all": 0.6, "kept": 1.0, "dropped": None}},
        "overlap": {"random": 1 / 3},
        "gap_correlation": {text: {text: 1.0, "honesty": -0.2}, "honesty": {text: -0.2, "honesty": 1.0}},
        "missing_gaps": {},
        "aspects": {
            text: {"weight": 1.0, "own_pairs": 6, "quantile": 2.5, "clipped": 0.1, "agrees": 0.55, "length_correlation": 0.3,
                   "proxy": {"num_pairs": 40, "pair_accuracy": 0.8, "pair_accuracy_se": 0.0632, "length_accuracy": 0.55, "beats_coin": True, "beats_length": True}},
            "honesty": {"weight": 1.0, "own_pairs": 4, "quantile": 1.5, "clipped": 0.1, "agrees": 0.5, "length_correlation": None,
                        "proxy": {"num_pairs": 40, "pair_accuracy": 0.55, "pair_accuracy_se": 0.0787, "length_accuracy": 0.5, "beats_coin": False, "beats_length": False}},
        },
    }  # fmt: skip
    example = ExampleFacts(text, text, text, aspect=text, pd=-0.8, reason=text, gaps={text: 1.5, "honesty": -0.25})
    values: dict[str, Any] = {
        "repo_id": "me/uf-scored", "selector": "pd", "total": 10, "kept": 3, "dropped": 7,
        "configs": [ConfigFacts(name, rows, f"{name}/train-*", features=FEATURES, num_bytes=100 * rows, download_size=50 * rows,
                                default=name == "selected") for name, rows in (("selected", 3), ("scored", 10), ("dropped", 7))],
        "pretty_name": text, "arguments": {"budget": 0.3, "source": "rewards", "gamma": 0.9, "weights": {text: 2.0}, "selector": "pd", "seed": 42},
        "report": report, "conflict": {text: {"honesty": 0.4}, "honesty": {text: 0.4}},
        "source": SourceFacts("openbmb/UltraFeedback", SHA, split="train", license="mit", languages=["en"]),
        "proxies": [
            ProxyFacts(text, model="me/rm-helpfulness", revision=SHA, num_train=60, metrics={"num_pairs": 40, "pair_accuracy": 0.8, "pair_accuracy_se": 0.0632, "length_accuracy": 0.55}),
            ProxyFacts("honesty", revision="abcdef0123456789", base_model="Qwen/Qwen3-0.6B", num_train=40, metrics={"num_pairs": 40, "pair_accuracy": 0.55, "pair_accuracy_se": 0.0787, "length_accuracy": 0.5}),
        ],
        "example_kept": example, "example_dropped": example, "picture": "assets/pd.png", "files": {"filter.json": text},
        "report_url": "https://huggingface.co/spaces/me/uf-report", "revision_tag": "v1", "models": ["me/policy"],
        "versions": {"pd_trl": "0.1.0", "trl": "1.16.0"}, "created": "2026-11-24", "sql": text,
    }  # fmt: skip
    return DatasetFacts(**{**values, **changes})


def policy_facts(text: str = "plain words", **changes: Any) -> ModelFacts:
    """An aligned model with evaluations by two judges."""
    judged = {"task": "AlpacaEval 2", "num_samples": 805, "dataset": "tatsu-lab/alpaca_eval", "dataset_revision": SHA,
              "date": "2026-11-24", "baseline": text}  # fmt: skip
    results = [
        EvalResult(metric="length_controlled_winrate", value=26.11, standard_error=0.9, judge="judge-a", settings={"temperature": 0.7}, **judged),
        EvalResult(metric="win_rate", value=21.0, standard_error=1.3, judge="judge-a", settings={"temperature": 0.7}, **judged),
        EvalResult(metric="win_rate", value=0.25, standard_error=0.015, unit="share", judge=f"the judge {text}", **{**judged, "settings": {"not_comparable": [text], "versions": {"x": "1"}, "path": "/home/me/x", "seed": 42, "judge_description": text}}),
        EvalResult(task=text, metric="accuracy", value=0.5, num_samples=12, unit="share", date="2026-11-24"),
    ]  # fmt: skip
    values: dict[str, Any] = {
        "kind": "policy", "name": text, "repo_id": "me/policy", "base_model": "meta-llama/Llama-3.1-8B-Instruct",
        "base_revision": SHA, "base_license": "llama3.1", "chat": True, "datasets": ["me/uf-scored"], "dataset_revision": SHA,
        "num_train": 3, "selection": {"total": 10, "kept": 3, "dropped": 7, "threshold": -0.5, "column": "pd"},
        "loss": text, "essentials": {"learning_rate": 5e-07}, "hyperparameters": {"beta": 0.1, "run": text}, "results": results,
        "trl_section": "This model was trained with DPO.", "citations": "Cite TRL.", "versions": {"trl": "1.16.0"},
        "created": "2026-11-24", "tags": ["dpo"],
    }  # fmt: skip
    return ModelFacts(**{**values, **changes})


def reward_facts(text: str = "plain words", **changes: Any) -> ModelFacts:
    """A LoRA reward model."""
    values: dict[str, Any] = {
        "kind": "reward", "name": text, "repo_id": "me/rm-honesty", "base_model": "Qwen/Qwen3-0.6B", "base_license": "apache-2.0",
        "peft": True, "datasets": ["openbmb/UltraFeedback"], "num_train": 40, "aspect": text,
        "length": {"temperature": 1.0, "penalty": 0.001, "correction": "penalty", "max_length": 1024},
        "metrics": {"num_pairs": 40, "pair_accuracy": 0.55, "pair_accuracy_se": 0.0787, "length_accuracy": 0.5,
                    "pair_accuracy_chosen_longer": 0.6, "pair_accuracy_chosen_shorter": 0.5, "gap_length_correlation": 0.12},
        "hyperparameters": {"learning_rate": 1e-05}, "versions": {"trl": "1.16.0"}, "created": "2026-11-24",
    }  # fmt: skip
    return ModelFacts(**{**values, **changes})
