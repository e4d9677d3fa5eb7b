"""
Publish a selection, and select from it again with another budget, without a model.

python docs/examples/publish_and_reselect.py me/sample-pd          # needs `hf auth login`
"""

import sys

from datasets import load_dataset

from pd_trl import PDFilter, load_pairs, publish_dataset, to_preferences

repo_id = sys.argv[1]

pd_filter = PDFilter(budget=0.3, source="ratings")
decided = pd_filter.fit_transform(to_preferences(load_pairs("sample")))
print(publish_dataset(decided, repo_id, pd_filter=pd_filter, private=True))

# Anybody who may read it:
scored = load_dataset(repo_id, "scored", split="train")
kept = PDFilter.load(repo_id, budget=0.1)(scored)
print(f"{len(kept)} of {len(scored)} pairs at a budget of 0.1")
