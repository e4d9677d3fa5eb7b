"""Published figures of accelerators."""

from dataclasses import dataclass

from ...errors import InputError
from ...text.names import did_you_mean

# Share of the peak that a well-filled training step reaches. This is an assumption; your own measurement is better.
DEFAULT_UTILIZATION = 0.4


@dataclass(frozen=True)
class Device:
    """
    An accelerator.

    Args:
        name (`str`): Its name.
        flops (`float`): Dense bfloat16 FLOP/s at its peak, as published.
        memory (`float`): Bytes of its memory.
        bandwidth (`float`): Bytes/s from its memory, the limit of decoding.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float


# Dense bfloat16 (float32 accumulation), as in the makers' data sheets.
DEVICES: dict[str, Device] = {
    "b200": Device("NVIDIA B200", 2250e12, 180e9, 8.0e12),
    "h200": Device("NVIDIA H200 SXM", 989.4e12, 141e9, 4.8e12),
    "h100": Device("NVIDIA H100 SXM", 989.4e12, 80e9, 3.35e12),
    "h100-pcie": Device("NVIDIA H100 PCIe", 756e12, 80e9, 2.0e12),
    "a100": Device("NVIDIA A100 SXM 80 GB", 312e12, 80e9, 2.039e12),
    "a100-40gb": Device("NVIDIA A100 40 GB", 312e12, 40e9, 1.555e12),
    "l40s": Device("NVIDIA L40S", 362e12, 48e9, 0.864e12),
    "l4": Device("NVIDIA L4", 121e12, 24e9, 0.3e12),
    "rtx-4090": Device("NVIDIA RTX 4090", 165.2e12, 24e9, 1.008e12),
    "rtx-3090": Device("NVIDIA RTX 3090", 71e12, 24e9, 0.936e12),
    "mi300x": Device("AMD MI300X", 1307.4e12, 192e9, 5.3e12),
}


def device_of(name: str) -> Device:
    """The device with this name."""
    if name not in DEVICES:
        hint = (
            " `scripts/plan_this_machine.py` of pd_trl's repository measures this machine." if name == "this" else ""
        )
        raise InputError(
            f"`device` must be one of {', '.join(DEVICES)}, got {name!r}.{hint or did_you_mean(name, DEVICES)}"
        )
    return DEVICES[name]
