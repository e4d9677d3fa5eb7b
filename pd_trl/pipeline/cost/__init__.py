"""The cost of a recipe before it runs: tokens, FLOPs, time and memory of each stage, and what the selection saves."""

from .devices import DEVICES, Device
from .estimate import RecipeCost, StageCost, recipe_cost
from .formulas import Memory, Work, forward_flops, inference_memory, training_flops, training_memory
from .shape import ModelShape, model_shape

__all__ = [
    "DEVICES", "Device", "Memory", "ModelShape", "RecipeCost", "StageCost", "Work", "forward_flops", "inference_memory",
    "model_shape", "recipe_cost", "training_flops", "training_memory",
]  # fmt: skip
