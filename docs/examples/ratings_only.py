"""
Ratings of several aspects: select without any model, and write the kept pairs for a trainer.

python docs/examples/ratings_only.py nvidia/HelpSteer2 kept.jsonl
"""

import sys

from pd_trl import PDFilter, load_pairs, to_preferences

source, output = sys.argv[1:3] if len(sys.argv) > 2 else ("sample", "kept.jsonl")

# Of HelpSteer2, more is not better of verbosity and complexity: pass aspects=["helpfulness", "correctness", "coherence"].
preferences = to_preferences(load_pairs(source, on_invalid="drop"))
pd_filter = PDFilter(budget=0.3, source="ratings", on_no_votes="drop")
kept = pd_filter(preferences)

print(pd_filter.report_)
kept.select_columns(["prompt", "chosen", "rejected"]).to_json(output)
print(f"{len(kept)} pairs are in {output}")
