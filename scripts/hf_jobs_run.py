# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "pd_trl[report]",
# ]
#
# [tool.hf-jobs]
# flavor = "a100-large"
# timeout = "24h"
# secrets = ["HF_TOKEN"]
# ///
"""
`pd-trl run` as a job on Hugging Face's machines:

    hf jobs uv run scripts/hf_jobs_run.py --config ultrafeedback-llama-3.1-8b --publish.dataset me/uf-pd --publish.model me/uf-pd-dpo

The machine, its time limit and the token come from the table above, and are overridden by flags of `hf jobs uv run`
(`--flavor h200x8 --timeout 2d`). A job's disk is gone when it ends: what `publish` pushes is all that stays, so a run without
it is refused. `dependencies` takes pd_trl from PyPI; from a repository, write `pd_trl[report] @ git+https://…`.
"""

import sys

from pd_trl.cli.main import main


def publishes(arguments: list[str]) -> bool:
    """Whether something of the run is to be kept, by the command line or by its recipe."""
    from pd_trl.cli.parsing import pop_option
    from pd_trl.cli.run import load_recipe
    from pd_trl.errors import InputError

    if any(argument.startswith("--publish.") for argument in arguments):
        return True
    try:
        config = pop_option(list(arguments), "config")
        return config is None or bool(load_recipe(config).get("publish"))
    except InputError:
        return True  # `pd-trl run` says what is wrong


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asks = {"-h", "--help", "--dry-run", "--dry_run"}
    if not asks & set(arguments) and not publishes(arguments):
        sys.exit(
            "Nothing of this job would be kept: name a repository, such as --publish.dataset me/uf-pd, or give the recipe a section 'publish'."
        )
    sys.exit(main(["run", *arguments]))
