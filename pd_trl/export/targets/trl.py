"""TRL: rows as its DPO and reward trainers read them."""

import json
from typing import Any

from ..pairs import Pair
from .base import Target, Written, as_yaml


def trl_row(pair: Pair) -> dict[str, Any]:
    """A row with the columns of TRL; tools as JSON, since a file gives all rows the same fields."""
    row = pair.identified(prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    if pair.tools:
        row["tools"] = json.dumps(pair.tools, ensure_ascii=False)
    if pair.template_kwargs:
        row["chat_template_kwargs"] = pair.template_kwargs
    return row


def _files(written: Written) -> dict[str, str]:
    found = {}
    for part in written.files:
        name = "trl.yaml" if part == "kept" else f"trl.{part}.yaml"
        data = {"datasets": [{"path": "json", "data_files": written.path(part), "split": "train"}]}
        found[name] = (
            f"# trl dpo --config {name} --model_name_or_path {written.model_shown} --output_dir DIR\n"
            + as_yaml(data)
            + written.setting("max_length", "1024 is TRL's default; longer conversations are cut")
        )
    return found


TRL = Target("TRL", trl_row, lambda pair: None, _files)
