"""What the cards of huggingface_hub lose, and ours keep: why pd_trl/hub/readme.py and the grouping of `model_index` are there."""

import huggingface_hub
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index

from pd_trl.cards.evaluations import model_index
from pd_trl.hub.readme import join_readme, merge_metadata, split_readme
from pd_trl.runs.results import EvalResult

USERS = {
    "tags": ["mine"],
    "model-index": [
        {
            "name": "other",
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": "D", "type": "d"},
                    "metrics": [{"type": "win_rate", "value": 1.0, "checked_by": "a user"}],
                    "note": "a user's",
                }
            ],
        }
    ],
}


def test_a_users_results_survive_with_all_they_say():
    card = join_readme(USERS, "Words.")
    assert "a user's" not in str(ModelCard(card)) and "checked_by" not in str(ModelCard(card))
    ours = merge_metadata(split_readme(card)[0], {"tags": ["pd_trl"], "model-index": [{"name": "me", "results": []}]})
    assert ours["model-index"][0] == USERS["model-index"][0] and ours["tags"] == ["mine", "pd_trl"]


def test_results_of_two_judges_are_two_entries():
    results = [
        EvalResult("AlpacaEval 2", "win_rate", value, 805, judge=judge) for value, judge in ((26.1, "a"), (25.0, "b"))
    ]
    entries = model_index("policy", results, "text-generation")[0]["results"]
    assert [entry["task"]["name"] for entry in entries] == ["AlpacaEval 2 (judge: a)", "AlpacaEval 2 (judge: b)"]
    assert [entry["metrics"][0]["value"] for entry in entries] == [26.1, 25.0]
    both = [
        huggingface_hub.EvalResult(
            task_type="text-generation", task_name=f"AlpacaEval 2 (judge: {judge})", dataset_type="alpacaeval-2",
            dataset_name="AlpacaEval 2", metric_type="win_rate", metric_value=value,
        )
        for value, judge in ((26.1, "a"), (25.0, "b"))
    ]  # fmt: skip
    merged = eval_results_to_model_index("policy", both)[0]["results"]
    assert len(merged) == 1 and merged[0]["task"]["name"] == "AlpacaEval 2 (judge: a)"


def test_entries_are_those_of_the_library():
    result = EvalResult("Held out", "accuracy", 0.7, 100, 0.05, "share", dataset="me/data", dataset_revision="v1")
    (entry,) = model_index("rm", [result], "text-classification")[0]["results"]
    assert entry == {
        "task": {"type": "text-classification", "name": "Held out"},
        "dataset": {"name": "Held out", "type": "me/data", "revision": "v1"},
        "metrics": [
            {
                "type": "accuracy",
                "value": 0.7,
                "name": "accuracy",
                "args": {"num_samples": 100, "unit": "share", "standard_error": 0.05},
            }
        ],
    }
    assert yaml.safe_load(yaml.safe_dump(entry)) == entry
