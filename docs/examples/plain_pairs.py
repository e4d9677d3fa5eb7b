"""
Chosen and rejected responses, and reward models that you have: each model votes on each pair.

python docs/examples/plain_pairs.py pairs.jsonl helpful=org/helpful safe=-org/cost
"""

import sys

from pd_trl import PDFilter, load_pairs, score_pairs

voters = dict(argument.split("=", 1) for argument in sys.argv[2:])

# chat=True makes messages of strings, in the template of each model.
scored = score_pairs(load_pairs(sys.argv[1]), voters, output_dir="scored", chat=True)
pd_filter = PDFilter(budget=0.3)
kept = pd_filter(scored)

for pair in (min(kept, key=lambda pair: pair["pd"]), max(pd_filter.dropped_, key=lambda pair: pair["pd"])):
    gaps = ", ".join(f"{name} {pair[f'reward_gap_{name}']:+.3f}" for name in voters)
    print(f"{pair['pd_reason']} (pd {pair['pd']:.2f}; {gaps}): {pair['chosen']!r} over {pair['rejected']!r}")
