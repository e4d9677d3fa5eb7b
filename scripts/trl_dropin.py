"""
Runs TRL's own trainer tests on the CPU, first with TRL's classes, then with pd_trl's in their place.

    python scripts/trl_dropin.py                          # the tests in the sdist of the installed trl, if it has any
    python scripts/trl_dropin.py --tests ~/trl/tests      # the tests of a checkout of the same version
    python scripts/trl_dropin.py --scenarios              # pd_trl's own scenarios (scripts/trl_scenarios), not TRL's

Prints passed, failed and skipped per file for both, and exits with 1 if a test passes with TRL's classes and does not
with ours, but for those that differ on purpose. TRL's releases on PyPI leave their tests out (its MANIFEST.in prunes them), so that without `--tests` the
scenarios run instead, and the output says so. Tests that fail with both, for instance for want of a stand-in of an
image model, are counted and listed with `--verbose`.

`--trainers MODULE` puts `RewardTrainer`, `RewardConfig`, `DPOTrainer` and `DPOConfig` of another module in place than
those of scripts/neutral_trainers.py.
"""

import argparse
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
FILES = ("test_reward_trainer.py", "test_dpo_trainer.py")
_NEW_HEAD = "a new reward head that TRL would lose is trained and saved (see `PDRewardTrainer`'s `peft_config`)"
# Tests of TRL's that say otherwise than we do on purpose.
DOCUMENTED = {
    ("test_reward_trainer.py", f"TestRewardTrainer::{name}"): _NEW_HEAD
    for name in ("test_train_dense_with_peft_config", "test_train_with_peft_config_and_gradient_checkpointing")
}
NAMES = ("RewardTrainer", "RewardConfig", "DPOTrainer", "DPOConfig")


def pytest_configure() -> None:
    """As a pytest plugin (`-p trl_dropin`): local datasets for the Hub's, and our classes for TRL's."""
    import datasets
    import trl
    import trl.trainer

    load_from_hub, local = datasets.load_dataset, Path(os.environ["TRL_DROPIN_DATASETS"])

    def load_dataset(path: str, *args: Any, **kwargs: Any) -> Any:
        folder = local / str(path).rsplit("/", 1)[-1]
        return load_from_hub(str(folder) if folder.is_dir() else path, *args, **kwargs)

    datasets.load_dataset = load_dataset
    if module_name := os.environ.get("TRL_DROPIN_TRAINERS"):
        # Loaded before the names change, so that our classes still extend TRL's.
        module = importlib.import_module(module_name)
        for name in NAMES:
            setattr(trl, name, getattr(module, name))
            setattr(trl.trainer, name, getattr(module, name))


def download_tests(work: Path) -> Path | None:
    """The tests in the sdist of the installed trl, or `None` if it has none."""
    version = importlib.metadata.version("trl")
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", ":all:", "-d", str(work)]
    done = subprocess.run([*command, f"trl=={version}"], capture_output=True, text=True)
    archives = sorted(work.glob("trl-*.tar.gz"))
    if not archives:
        print(f"The sdist of trl {version} could not be downloaded: {done.stderr.strip().splitlines()[-1:]}")
        return None
    with tarfile.open(archives[0]) as archive:
        members = [member for member in archive.getmembers() if re.fullmatch(r"[^/]+/tests/[^/]+\.py", member.name)]
        if not any(member.name.endswith(FILES) for member in members):
            print(f"{archives[0].name} carries no tests.")
            return None
        tests = work / "sdist-tests"
        tests.mkdir()
        for member in members:
            content = archive.extractfile(member)
            if content is not None:
                (tests / Path(member.name).name).write_bytes(content.read())
    return tests


def prepare(tests: Path, work: Path) -> None:
    """Copies the tests with their support files, and makes the stand-ins that they name."""
    sys.path.insert(0, str(SCRIPTS))
    from transformers.utils import logging
    from trl_standins import ORG, make_datasets, make_hub_cache

    logging.disable_progress_bar()
    target = work / "suite" / "tests"
    target.mkdir(parents=True)
    support = [file for file in tests.glob("*.py") if not file.name.startswith("test_")]
    for file in [*support, *(tests / name for name in FILES if (tests / name).exists())]:
        shutil.copy(file, target / file.name)
    (target / "__init__.py").touch()
    source = "\n".join(file.read_text(encoding="utf-8") for file in target.glob("*.py"))
    names = {name.rstrip(".") for name in re.findall(rf"{ORG}/((?:tiny|small)-[\w.\-]+)", source)}
    make_datasets(work / "datasets")
    missing = make_hub_cache(work / "hub", names, set(re.findall(r"refs/pr/\d+", source)))
    if missing:
        print(f"{len(missing)} of {len(names)} models have no stand-in, their tests fail with both: {missing}")


def start(label: str, trainers: str | None, work: Path, pytest_args: list[str]) -> subprocess.Popen:
    """Starts pytest on the copied tests, with TRL's classes if `trainers` is `None`."""
    environment = {
        **os.environ,
        "CI": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": str(work / f"home-{label}"),
        "HF_HUB_CACHE": str(work / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(
            [str(SCRIPTS), str(SCRIPTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_DROPIN_DATASETS": str(work / "datasets"),
        "TRL_DROPIN_TRAINERS": trainers or "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "trl_dropin", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["-c", os.devnull, "--rootdir", ".", "-m", "not slow", "-W", "ignore", f"--junitxml={work / label}.xml"]
    folder = work / "suite"
    with (work / f"{label}.log").open("w") as log:
        return subprocess.Popen([*command, *pytest_args, "tests"], cwd=folder, env=environment, stdout=log, stderr=log)


def outcomes(label: str, work: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """`(file, test)` -> `(passed | failed | skipped, first line of the message)`."""
    report = work / f"{label}.xml"
    if not report.exists():
        raise SystemExit(f"pytest did not finish with {label}:\n{(work / f'{label}.log').read_text()[-3000:]}")
    result = {}
    for case in ElementTree.parse(report).iter("testcase"):
        states = {child.tag: child.get("message") or "" for child in case}
        state = "failed" if states.keys() & {"failure", "error"} else "skipped" if "skipped" in states else "passed"
        message = next((line for text in states.values() for line in text.splitlines() if line), "")
        module = next(
            name for name in FILES if name.removesuffix(".py") in case.get("classname", "") + case.get("name", "")
        )
        group = case.get("classname", "").rpartition(".")[2]
        result[module, f"{group}::{case.get('name')}"] = state, message
    return result


def report(label: str, results: dict[tuple[str, str], tuple[str, str]]) -> None:
    for file in FILES:
        counts = Counter(state for (module, _), (state, _) in results.items() if module == file)
        line = ", ".join(f"{counts[state]} {state}" for state in ("passed", "failed", "skipped"))
        print(f"{label:<22} {file:<24} {line}")


def compare(theirs: dict, ours: dict, verbose: bool) -> int:
    """Prints what differs; 1 if anything that passes with TRL's classes does not with ours."""
    both = [test for test, (state, _) in theirs.items() if state == "failed" and ours.get(test, ("",))[0] == "failed"]
    print(f"{len(both)} tests fail with both" + ("" if verbose or not both else " (--verbose lists them)"))
    if verbose:
        for test in both:
            print(f"  {test[0]} {test[1]}: {theirs[test][1][:200]}")
    different = [test for test in DOCUMENTED if theirs.get(test, ("",))[0] == "passed" != ours.get(test, ("",))[0]]
    for test in different:
        print(f"differs as documented: {test[0]} {test[1]}: {DOCUMENTED[test]}")
    theirs = {test: found for test, found in theirs.items() if test not in different}
    lost = [test for test, (state, _) in theirs.items() if state == "passed" and ours.get(test, ("",))[0] != "passed"]
    for test in lost:
        state, message = ours.get(test, ("not run", ""))
        print(f"PASSES WITH TRL'S, {state.upper()} WITH OURS: {test[0]} {test[1]}: {message[:300]}")
    num_passed = sum(state == "passed" for state, _ in theirs.values())
    print(f"{num_passed - len(lost)} of the {num_passed} tests that pass with TRL's classes pass with ours")
    return int(bool(lost) or num_passed == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, help="the tests folder of a TRL checkout of the installed version")
    parser.add_argument("--scenarios", action="store_true", help="run pd_trl's own scenarios and download nothing")
    parser.add_argument("--trainers", default="neutral_trainers", help="module whose classes take the place of TRL's")
    parser.add_argument("--keep", type=Path, help="folder to work in and to keep, e.g. for pytest's logs")
    parser.add_argument("--verbose", action="store_true", help="list the tests that fail with both")
    args, pytest_args = parser.parse_known_args()

    with tempfile.TemporaryDirectory() as temporary:
        work = (args.keep or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=args.keep is None)
        tests = args.tests.expanduser().resolve() if args.tests else None
        if tests is None and not args.scenarios:
            tests = download_tests(work)
        if tests is None:
            print("These are pd_trl's own scenarios, NOT TRL's tests. For those: --tests path/to/trl/tests")
            tests = SCRIPTS / "trl_scenarios"
        elif not any((tests / name).exists() for name in FILES):
            parser.error(f"{tests} holds neither {' nor '.join(FILES)}: name the tests folder of a TRL checkout.")
        prepare(tests, work)
        # Side by side: each takes one thread.
        runs = {"trl": None, "ours": args.trainers}
        processes = [start(label, trainers, work, pytest_args) for label, trainers in runs.items()]
        for process in processes:
            process.wait()
        theirs, ours = outcomes("trl", work), outcomes("ours", work)
    report(f"trl {importlib.metadata.version('trl')}", theirs)
    report(args.trainers, ours)
    return compare(theirs, ours, args.verbose)


if __name__ == "__main__":
    sys.exit(main())
