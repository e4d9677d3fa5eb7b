"""A process of a launch, in a module that imports little: each one starts anew."""

import os
import time
from pathlib import Path

from pd_trl.runs.stage_folders import owned_folder


def rank(number, world, port, folder, manifest, seen, delay=0.0):
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    time.sleep(delay)
    with owned_folder(manifest, folder, overwrite=True) as root:
        seen.put((number, str(root), (Path(root) / "stale").exists()))
        if number == 0:
            manifest.save(root)
    os._exit(0)
