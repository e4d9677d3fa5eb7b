"""
`pd-trl plan` in CPU seconds of this machine, from short runs of the real trainers, scorer and decoder with random weights:

    OMP_NUM_THREADS=1 python scripts/plan_this_machine.py --config RECIPE [arguments of `pd-trl plan`]

It takes half a minute. Of a model that is too large for that, one and two layers are run.
"""

import sys

from plan_timing.clock import MeasuredClock

from pd_trl.cli.failures import describe
from pd_trl.cli.plan import read_command
from pd_trl.errors import InputError
from pd_trl.pipeline.stages.plan import run_plan


def main() -> int:
    try:
        print(run_plan(*read_command("plan", sys.argv[1:]), MeasuredClock))
    except InputError as error:
        print(f"plan_this_machine: error: {describe(error)[0]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
