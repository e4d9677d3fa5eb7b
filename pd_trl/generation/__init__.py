"""Outputs of a language model to a set of instructions."""

from .decoding import decode
from .instructions import Instruction, load_instructions
from .outputs import OUTPUTS_NAME, generate_outputs
from .server import ServerPolicy
from .settings import DecodingConfig

__all__ = [
    "OUTPUTS_NAME",
    "DecodingConfig",
    "Instruction",
    "ServerPolicy",
    "decode",
    "generate_outputs",
    "load_instructions",
]
