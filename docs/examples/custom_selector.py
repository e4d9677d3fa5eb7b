"""
A rule of your own: keep pairs that all aspects support and whose responses differ little in length.

python docs/examples/custom_selector.py
"""

import numpy as np

from pd_trl import PDFilter, load_pairs, to_preferences
from pd_trl.method.ranking import SELECTORS, Selector

# The score of a row may read only this row; the lowest scores are kept.
SELECTORS["even"] = Selector(
    name="even",
    inputs=("pd", "extra_share"),
    score=lambda columns, seed: columns["pd"] + 2 * np.abs(columns["extra_share"]),
    description="lowest PD plus twice the difference in length",
    reads_ids=False,
)

preferences = to_preferences(load_pairs("sample"))
lengths = [(len(row["chosen"]), len(row["rejected"])) for row in preferences]
preferences = preferences.add_column("extra_share", [(a - b) / max(a, b) for a, b in lengths])
for selector in ("pd", "even"):
    kept = PDFilter(budget=0.3, source="ratings", selector=selector)(preferences)
    print(
        f"{selector}: chosen is {100 * np.mean(kept['extra_share']):.0f} % longer, mean PD {np.mean(kept['pd']):.2f}"
    )
