"""
The paper's table, its ablations and the pictures of both, from nothing.

    python scripts/bench_paper.py --output_dir runs/bench                     # the table: three levels of conflict, three seeds
    python scripts/bench_paper.py --output_dir runs/bench --ablations all     # and the ablations
    python scripts/bench_paper.py --output_dir runs/bench-quick --quick

The same as `pd-trl bench`.
"""

import sys

from pd_trl.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
