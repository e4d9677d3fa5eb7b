"""
Does what the README says under "Try it", in an empty folder with an empty HOME, and says how long it took.

    python scripts/follow_readme.py                  # with this Python, in which pd_trl is installed

Fails if a command fails, if the example prints something else than the README shows, or if its first pair with a reason takes
more than a minute.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
LONGEST_SECONDS = 60


def main() -> int:
    section = README.read_text(encoding="utf-8").split("## Try it\n")[1].split("\n## ")[0]
    code, shown = re.search(r"```python\n(.*?)```\n\n<!-- output -->\n```text\n(.*?)```", section, re.DOTALL).groups()
    commands = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"HOME": folder, "PATH": path, "LANG": "C.UTF-8"}
        start = time.perf_counter()
        example = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
        )
        seconds = time.perf_counter() - start
        print(f"{seconds:5.1f} s  the example of the README")
        if example.returncode or example.stdout != shown:
            print(f"It printed:\n{example.stdout}{example.stderr}\nThe README shows:\n{shown}", file=sys.stderr)
            return 1
        if seconds > LONGEST_SECONDS:
            print(f"The first pair took more than {LONGEST_SECONDS} s.", file=sys.stderr)
            return 1
        for line in commands.splitlines():
            start = time.perf_counter()
            done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
            print(f"{time.perf_counter() - start:5.1f} s  {line.partition(' #')[0].strip()}")
            if done.returncode:
                print(done.stdout + done.stderr, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
