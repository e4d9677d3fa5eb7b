"""From FLOPs to seconds, by the published peak of a device."""

from typing import Protocol

from ...errors import InputError
from .devices import Device
from .parts import StageCost


class Clock(Protocol):
    """Computes the seconds of a stage."""

    name: str
    unit: str
    on_gpu: bool
    memory: float | None
    assumptions: list[str]

    def time(self, cost: StageCost) -> None:
        """Fills in `cost.seconds`."""


class PublishedClock:
    """
    Seconds of one device at a share of its published peak. Decoding takes at least as long as reading the weights for
    every token.

    Args:
        device ([`Device`]): The device.
        utilization (`float`): Share of its peak that is reached, in (0, 1].
    """

    unit = "GPU h"
    on_gpu = True

    def __init__(self, device: Device, utilization: float):
        if not 0 < utilization <= 1:
            raise InputError(
                f"`utilization` is a share of the device's peak and must be in (0, 1], got {utilization}."
            )
        self.device, self.utilization, self.name = device, utilization, device.name
        self.memory: float | None = device.memory
        self.assumptions = [
            f"{device.name}: {device.flops / 1e12:g} TFLOP/s in bfloat16 (dense, published), of which {100 * utilization:g} % "
            "are reached (--utilization).",
            "Time for tokenisation, loading, saving and communication is not counted.",
        ]

    def time(self, cost: StageCost) -> None:
        """Fills in `cost.seconds`."""
        for part in cost.parts:
            computing = part.flops / (self.device.flops * self.utilization)
            cost.seconds += max(computing, part.streamed / self.device.bandwidth)
