"""OpenRLHF: columns of messages with its flag for the chat template, or plain texts with their special tokens."""

import shlex
from typing import Any

from ...errors import InputError
from ..pairs import Pair
from .base import Target, Written, chat_only


def _row(pair: Pair) -> dict[str, Any]:
    return pair.identified(prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)


def _refuses(pair: Pair) -> str | None:
    return chat_only(pair) if pair.is_chat else None


def _files(written: Written) -> dict[str, str]:
    found = {}
    if set("@,") & set(str(written.folder)):
        raise InputError(
            f"OpenRLHF takes '@' and ',' in a path for marks of its own: choose an `output_dir` without them, not {written.folder}."
        )
    for part in written.files:
        name = "openrlhf.sh" if part == "kept" else f"openrlhf.{part}.sh"
        flags = {
            "data.dataset": written.path(part),
            "data.prompt_key": "prompt",
            "data.chosen_key": "chosen",
            "data.rejected_key": "rejected",
            # Its default leaves out what comes after a million.
            "data.max_samples": str(written.rows[part]),
        }
        if written.longest is not None:
            flags["data.max_len"] = str(written.limit())
        lines = ["python -m openrlhf.cli.train_dpo", *(f"--{flag} {shlex.quote(v)}" for flag, v in flags.items())]
        lines += ["--data.apply_chat_template"] if written.chat else []
        lines += [f"--model.model_name_or_path {shlex.quote(written.model or 'MODEL')}"]
        found[name] = (
            "# Pairs whose prompt fills `--data.max_len` are left out, longer ones are cut.\n"
            + " \\\n  ".join(lines)
            + "\n"
        )
    return found


OPENRLHF = Target("OpenRLHF", _row, _refuses, _files, bare=True, renders=True, ends=True)
