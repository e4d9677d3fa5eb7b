"""NeMo RL: contexts with ranked completions."""

from typing import Any

from ..pairs import Pair
from .base import Target, Written, as_yaml, chat_only


def _row(pair: Pair) -> dict[str, Any]:
    completions = [{"rank": rank, "completion": side} for rank, side in enumerate((pair.chosen, pair.rejected))]
    return pair.identified(context=pair.prompt, completions=completions)


def _files(written: Written) -> dict[str, str]:
    found = {}
    for part in written.files:
        name = "nemo_rl.yaml" if part == "kept" else f"nemo_rl.{part}.yaml"
        train = {"dataset_name": "PreferenceDataset", "data_path": written.path(part), "split": "train"}
        limit = written.setting(
            "  max_input_seq_length", "longer conversations are not trained on; the default is that of the policy"
        )
        found[name] = (
            f"# Put into the configuration of examples/run_dpo.py.\n{as_yaml({'data': {'train': train}})}{limit}"
        )
    return found


NEMO_RL = Target("NeMo RL", _row, chat_only, _files, reads_strings=False)
