"""
Chosen and rejected responses and no reward model: a judge rates the aspects, then they vote.

python docs/examples/judge_labels.py pairs.jsonl Qwen/Qwen3-32B http://localhost:8000/v1
"""

import sys

from pd_trl import PDFilter, load_pairs, rate_pairs, server_judge, to_preferences

pairs_file, model, address = sys.argv[1:4]

# What it costs: `pd-trl rate --dry_run`. Answers that are in the folder are not paid for again.
rated = rate_pairs(load_pairs(pairs_file), judge=server_judge(model, base_url=address), output_dir="rated")
pd_filter = PDFilter(budget=0.3, source="ratings")
kept = pd_filter(to_preferences(rated))
print(pd_filter.report_)
