"""Writes the cards of a finished run as they would be published, without a Hub.

pd-trl run --config quickstart --output_dir runs/quickstart
python scripts/sample_cards.py runs/quickstart --output_dir docs/sample-cards
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from pd_trl.cards import ModelFacts, dataset_card, model_card
from pd_trl.errors import InputError
from pd_trl.publishing.facts import dataset_facts
from pd_trl.publishing.model_push import read_results
from pd_trl.publishing.training_facts import load_model_facts
from pd_trl.report.plots import divergence_histogram
from pd_trl.runs.artifacts import read_rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, help="Folder of `pd-trl run`.")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/sample-cards"), help="Folder of the cards.")
    parser.add_argument("--namespace", default="your-name", help="Namespace of the repositories that the cards name.")
    options = parser.parse_args(arguments)
    try:
        for path in write_cards(options.run, options.output_dir, options.namespace):
            print(path)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_cards(run: Path, output_dir: Path, namespace: str) -> list[Path]:
    """The cards of the data set, of the policy and of each reward model; and the picture of the first."""
    output_dir.mkdir(parents=True, exist_ok=True)
    name = run.resolve().name
    parts = [read_rows(run / "select" / part) for part in ("selected", "dropped")]
    values = np.concatenate([np.asarray(part["pd"][:]) for part in parts])
    kept = np.repeat([True, False], [len(part) for part in parts])
    picture = divergence_histogram(values, kept, output_dir / "pd.png")
    data = f"{namespace}/{name}-scored"
    facts = dataset_facts(run / "select", data, picture=picture.name)
    rewards = {
        path.parent.name: f"{namespace}/{name}-rm-{path.parent.name}" for path in run.glob("reward/*/pd_card.json")
    }
    facts.proxies = [replace(proxy, model=rewards.get(proxy.aspect), revision=None) for proxy in facts.proxies]
    cards = {"dataset": dataset_card(facts)}
    for aspect, repo_id in sorted(rewards.items())[:1]:
        cards["reward-model"] = model_card(_facts(run / "reward" / aspect, repo_id))
    policy = _facts(run / "dpo", f"{namespace}/{name}-pd")
    policy.datasets, policy.results = [data], read_results(run / "evaluate" / "pairwise")
    cards["aligned-model"] = model_card(policy)
    for title, card in cards.items():
        (output_dir / f"{title}.md").write_text(card, encoding="utf-8")
    return [picture, *(output_dir / f"{title}.md" for title in cards)]


def _facts(folder: Path, repo_id: str) -> ModelFacts:
    facts = load_model_facts(folder)
    if facts is None:
        raise InputError(f"{folder} has no pd_card.json: run the stage that trains it again.")
    return replace(facts, repo_id=repo_id, name=repo_id.split("/")[-1])


if __name__ == "__main__":
    sys.exit(main())
