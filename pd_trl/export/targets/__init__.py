"""The trainers that data is exported to, by the name of `--to`."""

from .axolotl import AXOLOTL
from .base import Target, Written
from .llama_factory import LLAMA_FACTORY
from .nemo_rl import NEMO_RL
from .openrlhf import OPENRLHF
from .trl import TRL
from .verl import VERL

TARGETS: dict[str, Target] = {
    "trl": TRL,
    "llama-factory": LLAMA_FACTORY,
    "axolotl": AXOLOTL,
    "openrlhf": OPENRLHF,
    "nemo-rl": NEMO_RL,
    "verl": VERL,
}

__all__ = ["TARGETS", "Target", "Written"]
