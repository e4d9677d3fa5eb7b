"""
Does what the README says, in an empty folder with an empty HOME and an empty environment, and says how long it took.

    python scripts/follow_readme.py                  # "Try it", with this Python, in which pd_trl is installed
    python scripts/follow_readme.py --install        # "Set-up" first, in a copy of the checkout: needs pip's package index

Fails if a command fails, if the example prints something else than the README shows, or if the first kept and the first dropped
pair with a reason take more than a minute after the installation.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SECONDS = 60
# What the installation may need of the surroundings: nothing else is passed on.
PASSED_ON = re.compile(r"PIP_(?!CACHE)\w+|PD_TRL_(TORCH|PYTHON)|\w+_proxy|SSL_CERT_\w+", re.IGNORECASE)
PAIRS = {
    state: re.compile(rf"^{state}: \w.* \(pd -?\d", re.IGNORECASE | re.MULTILINE) for state in ("kept", "dropped")
}


class Failed(Exception):
    """What went wrong, for the last line."""


def section(name: str) -> str:
    """A section of the README, without its heading."""
    return (ROOT / "README.md").read_text(encoding="utf-8").split(f"## {name}\n")[1].split("\n## ")[0]


def check_pairs(printed: str, seconds: float, shown: str | None = None) -> None:
    """Raises `Failed` unless a kept and a dropped pair with reasons were printed soon enough, and just what the README shows."""
    if shown is not None and printed != shown:
        raise Failed(f"It printed:\n{printed}\nThe README shows:\n{shown}")
    absent = [state for state, pattern in PAIRS.items() if not pattern.search(printed)]
    if absent:
        raise Failed(f"No pair with a reason was printed of: {', '.join(absent)}. It printed:\n{printed}")
    if seconds > LONGEST_SECONDS:
        raise Failed(f"The first pairs took {seconds:.0f} s, more than {LONGEST_SECONDS} s.")


def copy_checkout(target: Path) -> None:
    """The files of the checkout that git knows or would add."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def set_up(checkout: Path, environment: dict[str, str]) -> str:
    """Runs the first command of "Set-up" up to its first pairs, and returns the command that activates what it made."""
    commands = re.search(r"```bash\n(.*?)```", section("Set-up"), re.DOTALL)[1].splitlines()
    activate = next(line.partition(" #")[0].strip() for line in commands if line.startswith("source "))
    start = time.perf_counter()
    installed, printed = None, []
    # In a group of its own: the pipeline that follows the first pairs is minutes long, and is stopped.
    process = subprocess.Popen(
        ["bash", "-c", commands[0]], cwd=checkout, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        for line in process.stdout:
            printed.append(line)
            if line.startswith("pd_trl: 1/2") and installed is None:
                installed = time.perf_counter()
                show(installed - start, "the installation")
            if installed is not None and all(pattern.search("".join(printed)) for pattern in PAIRS.values()):
                break
        else:
            raise Failed(f"It ended with code {process.wait()}:\n{''.join(printed[-30:])}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.stdout.close()
        process.wait()
    seconds = time.perf_counter() - installed
    show(seconds, commands[0])
    check_pairs("".join(printed), seconds)
    return f"cd {checkout} && {activate}"


def show(seconds: float, text: str) -> None:
    print(f"{seconds:6.1f} s  {text.partition(' #')[0].strip()}", flush=True)


def run(command: str, folder: Path, environment: dict[str, str]) -> tuple[str, float]:
    """What a command prints, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"`{command}` ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout, time.perf_counter() - start


def try_it(folder: Path, environment: dict[str, str], first: str) -> None:
    """Runs the example and the commands of "Try it", each after the command `first`."""
    text = section("Try it")
    code, shown = re.search(r"```python\n(.*?)```\n\n<!-- output -->\n```text\n(.*?)```", text, re.DOTALL).groups()
    (folder / "example.py").write_text(code, encoding="utf-8")
    printed, seconds = run(f"{first} && cd {folder} && python example.py", folder, environment)
    show(seconds, "the example of the README")
    check_pairs(printed, seconds, shown)
    for line in re.search(r"```bash\n(.*?)```", text, re.DOTALL)[1].splitlines():
        show(run(f"{first} && cd {folder} && {line}", folder, environment)[1], line)
    for name in ("runs/page/report.html", "runs/axolotl/axolotl.yaml"):
        if not (folder / name).is_file():
            raise Failed(f"The commands made no {name}.")


def main() -> int:
    with tempfile.TemporaryDirectory() as base:
        home, folder, checkout = (Path(base) / name for name in ("home", "empty", "pd_trl"))
        for path in (home, folder, checkout):
            path.mkdir()
        environment = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        environment |= {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        first = "true"
        try:
            if "--install" in sys.argv[1:]:
                copy_checkout(checkout)
                first = set_up(checkout, environment)
            else:
                environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
            try_it(folder, environment, first)
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
