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


def loses_its_results(arguments: list[str]) -> bool:
    """Whether a run would make something, and nothing of it is published by the command line or by its recipe."""
    from pd_trl.cli.parsing import refuse
    from pd_trl.cli.run import load_recipe, make_parser
    from pd_trl.errors import InputError

    if {"-h", "--help"} & set(arguments) or any(argument.startswith("--publish.") for argument in arguments):
        return False
    parser = make_parser()
    parser.error = refuse  # type: ignore[method-assign]
    try:
        options, _ = parser.parse_known_args(arguments)
        return not options.dry_run and not load_recipe(options.config)[0].get("publish")
    except InputError:
        return False  # `pd-trl run` says what is wrong


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if loses_its_results(arguments):
        sys.stderr.write(
            "hf_jobs_run: error: Nothing of this job would be kept: name a repository, such as --publish.dataset me/uf-pd, or give the "
            "recipe a section 'publish'.\n"
        )
        sys.exit(2)
    sys.exit(main(["run", *arguments]))
