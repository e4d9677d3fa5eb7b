"""`pd-trl env`: versions and devices, for bug reports."""

import os
import platform
import sys


def main(command: str, arguments: list[str]) -> int:
    """Prints versions, devices and the Hub's address; never a token."""
    if arguments:
        from .unknown import unknown_flag

        if arguments[0] in ("-h", "--help"):
            sys.stdout.write("usage: pd-trl env\n\nPrints the versions that a bug report needs.\n")
            return 0
        raise unknown_flag(arguments[0], [])
    import torch

    from ..runs.artifacts import library_versions
    from .terminal import say

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["CPU"]
    rows = {
        "Platform": platform.platform(),
        "Python": platform.python_version(),
        **library_versions(),
        "Devices": ", ".join(devices),
        "bfloat16": str(torch.cuda.is_available() and torch.cuda.is_bf16_supported()),
        "HF_ENDPOINT": os.environ.get("HF_ENDPOINT", "https://huggingface.co"),
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "0"),
    }
    say("\n".join(f"- {name}: {value}" for name, value in rows.items()))
    return 0
