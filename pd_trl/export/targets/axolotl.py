"""axolotl: rows that it hands to TRL as they are, since its own strategies cut responses at the first place that looks like them."""

from .base import Target, Written, as_yaml
from .trl import trl_row


def _files(written: Written) -> dict[str, str]:
    found = {}
    for part in written.files:
        name = "axolotl.yaml" if part == "kept" else f"axolotl.{part}.yaml"
        data = {"path": written.path(part), "ds_type": "json", "split": "train", "type": "passthrough.default"}
        # Without the skip it measures prompts as strings, and drops long rows.
        content = {"rl": "dpo", "datasets": [data], "skip_prepare_dataset": True}
        found[name] = (
            f"# Put into the configuration of `axolotl train`, and let `chat_template` be the tokenizer's own.\n"
            f"{as_yaml(content)}"
            + ("chat_template: tokenizer_default\n" if written.chat else "")
            + written.setting("sequence_len", "512 is axolotl's default; longer conversations are cut")
        )
    return found


AXOLOTL = Target("axolotl", trl_row, lambda pair: None, _files)
