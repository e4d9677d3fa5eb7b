"""Times the kinds of work of a recipe on this machine, for `scripts/plan_this_machine.py`."""
