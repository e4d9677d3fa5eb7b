"""
Compares what other trainers read of an export with what TRL reads of the same rows: prompt, chosen and rejected tokens.

    python scripts/check_export.py --environments DIR --install                        # makes an environment for each trainer
    python scripts/check_export.py --environments DIR                                  # 1,000 pairs of each form and template
    python scripts/check_export.py --environments DIR --trainers openrlhf --rows 100

Each trainer runs in an environment of its own with the packages that its reading needs (torch for the CPU, no package of
CUDA). Each cell of the table is a form of data and a template: the pairs that TRL and the trainer make the same tokens of,
of those that were exported; with what differs, and what was refused before anything was written. Exits with 1 where a row
was lost without a word.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import transformers  # noqa: E402
from datasets import Dataset, disable_progress_bars, load_dataset  # noqa: E402
from export_readers.samples import FAMILIES, FORMS, rows, save_tokenizer  # noqa: E402
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: E402

from pd_trl import export_preferences  # noqa: E402
from pd_trl.errors import InputError  # noqa: E402
from pd_trl.export import TARGETS  # noqa: E402
from pd_trl.text.tables import table  # noqa: E402

READERS = Path(__file__).resolve().parent / "export_readers"
TORCH = "torch==2.13.0"
_SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Trainer:
    """
    A trainer to compare with.

    Args:
        package (`str`): What is installed without its dependencies.
        needs (`list` of `str`): What its reading imports.
        alone (`list` of `str`): Of that, what is installed without dependencies.
    """

    package: str
    needs: list[str]
    alone: list[str]


# Names that LLaMA-Factory has for them.
TEMPLATES = {"chatml": "qwen", "llama3": "llama3", "gemma": "gemma"}
TRAINERS = {
    "llama-factory": Trainer(
        "llamafactory==0.9.5",
        "transformers<=5.6.0 datasets<=4.0.0 omegaconf psutil pyyaml fire einops sentencepiece tiktoken scipy rich".split(),
        "trl==0.24.0 peft==0.18.1 accelerate==1.11.0".split(),
    ),
    "axolotl": Trainer(
        "axolotl==0.19.0",
        "transformers==5.16.1 datasets==4.8.4 pydantic==2.12.5 addict fire pyyaml requests einops colorama psutil typer==0.25.1 python-dotenv evaluate scipy numba pillow distro six backoff python-dateutil".split(),
        "trl==1.9.0 peft==0.20.0 accelerate==1.13.0 posthog==6.7.11".split(),
    ),
    "openrlhf": Trainer("openrlhf==0.11.2", "transformers==5.15.0 datasets jsonlines pylatexenc".split(), []),
    "verl": Trainer("verl==0.9.1", "transformers<5.11,>=5.5.3 datasets pandas codetiming ray cloudpickle importlib-metadata omegaconf orjson pillow pyvers<0.2".split(), ["tensordict==0.10.0"]),
}  # fmt: skip


def install(trainer: Trainer, place: Path) -> None:
    """Makes the environment of a trainer, unless it is there."""
    python = place / "bin" / "python"
    if (place / "ready").is_file():
        return
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*pip, "--no-deps", trainer.package, *trainer.alone], check=True)
    subprocess.run([*pip, *trainer.needs], check=True)
    (place / "ready").touch()


def trl_tokens(data: Dataset, tokenizer: Any, model_folder: Path) -> list[dict[str, list[int]]]:
    """The tokens that TRL's DPO trainer trains on."""
    from trl import DPOConfig, DPOTrainer

    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(folder, use_cpu=True, bf16=False, report_to="none", max_length=None)
        trainer = DPOTrainer(str(model_folder), args=arguments, train_dataset=data, processing_class=tokenizer)
    columns = [f"{side}_ids" for side in _SIDES]
    return [
        dict(zip(_SIDES, ids, strict=True)) for ids in zip(*(trainer.train_dataset[c] for c in columns), strict=True)
    ]


def read_by(trainer: str, place: Path, jobs: list[dict[str, str]], work: Path) -> None:
    """Lets a trainer read exports, in one process."""
    listed = work / f"{trainer}.json"
    listed.write_text(json.dumps(jobs), encoding="utf-8")
    script = READERS / f"read_{trainer.replace('-', '_')}.py"
    environment = {**os.environ, "HF_HOME": str(work / "cache"), "HF_DATASETS_CACHE": str(work / "cache" / trainer)}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "AXOLOTL_DO_NOT_TRACK": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(place / "bin" / "python"), str(script), str(listed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=work)
    if done.returncode:
        raise RuntimeError(f"{trainer} could not read its exports:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")


def difference(ours: dict[str, list[int]], theirs: dict[str, list[int]], tokenizer: Any) -> str | None:
    """What differs between the tokens of a pair; `None` where nothing does."""
    if ours == theirs:
        return None
    whole = [[tokens["prompt"] + tokens[side] for side in _SIDES[1:]] for tokens in (ours, theirs)]
    if whole[0] == whole[1]:
        return "split elsewhere"
    if ours["prompt"] != theirs["prompt"]:
        return "prompt"
    ends = {_end(ours[side], theirs[side], tokenizer) for side in _SIDES[1:]}
    return f"end {ends.pop()}" if len(ends) == 1 and None not in ends else "response"


def _end(ours: list[int], theirs: list[int], tokenizer: Any) -> str | None:
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    if max(len(ours), len(theirs)) - same > 3:
        return None
    texts = (tokenizer.decode(ids[same:]) for ids in (ours, theirs))
    return " not ".join(map(repr, reversed([*texts])))


@dataclass
class Cell:
    """
    An export of one form for one template.

    Args:
        trainer (`str`): Who reads it.
        form (`str`): Form of the data.
        family (`str`): Family of the template.
        render (`bool`): Whether the template was applied by the export.
        kept ([`~datasets.Dataset`], *optional*): The rows that were exported.
        left_out (`int`): Number of the others.
        refusal (`str`, *optional*): Why there is no export.
        job (`dict`): What the reader is told.
    """

    trainer: str
    form: str
    family: str
    render: bool
    kept: Dataset | None
    left_out: int
    refusal: str | None
    job: dict[str, str]


def read_json(path: Path) -> Dataset:
    """The rows of a file; `Dataset.from_list` would give the arguments of all tool calls the same names."""
    return load_dataset("json", data_files=str(path), split="train")


def exported(trainer: str, form: str, family: str, render: bool, count: int, work: Path) -> Cell:
    """Exports the rows of a cell, without those that the trainer cannot hold."""
    data = read_json(work / f"{form}.jsonl")
    folder = work / f"{trainer}{'-rendered' * render}-{form}-{family}"
    options: dict[str, Any] = {"tokenizer": str(work / family), "on_unsupported": "drop", "overwrite": True}
    try:
        result = export_preferences(data, trainer, folder, render=render, **options)
    except InputError as error:
        return Cell(trainer, form, family, render, None, count, str(error), {})
    names = set(_ids(folder))
    job = {"export": str(folder), "tokenizer": str(work / family), "model": str(work / f"{family}-model")}
    job |= {"template": TEMPLATES[family], "tokens": f"{folder}.tokens.jsonl"}
    kept = data.select([i for i, name in enumerate(data["pair_id"]) if name in names])
    return Cell(trainer, form, family, render, kept, result.counts["left out"], None, job)


def _ids(folder: Path) -> list[str]:
    if (folder / "kept.parquet").is_file():
        return list(Dataset.from_parquet(str(folder / "kept.parquet"))["pair_id"])
    return [json.loads(line)["pair_id"] for line in (folder / "kept.jsonl").open(encoding="utf-8")]


def result_of(cell: Cell, reference: Callable[[Cell], list[dict[str, list[int]]]], work: Path) -> tuple[str, bool]:
    """What the table says of a cell, and whether a row was lost."""
    if cell.refusal is not None:
        return f"refused: {_short(cell.refusal)}", False
    ours = reference(cell)
    theirs = [json.loads(line) for line in open(cell.job["tokens"], encoding="utf-8")]
    tokenizer = AutoTokenizer.from_pretrained(work / cell.family)
    found = Counter(difference(a, b, tokenizer) for a, b in zip(ours, theirs, strict=False))
    text = f"{found.pop(None, 0):,}/{len(ours):,}"
    text += "".join(f", {number:,} {what}" for what, number in found.most_common())
    text += f", refused {cell.left_out:,}" if cell.left_out else ""
    lost = len(theirs) != len(ours)
    return f"LOST {len(ours) - len(theirs)}: {text}" if lost else text, lost


def _short(message: str) -> str:
    return message.partition(" rows: ")[2].partition(". Nothing was written")[0] or message.partition(". Export to")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, required=True, help="Folder of the trainers' environments.")
    parser.add_argument("--install", action="store_true", help="Make those that are missing.")
    parser.add_argument("--trainers", nargs="*", default=list(TRAINERS), choices=list(TRAINERS))
    parser.add_argument("--rows", type=int, default=1000, help="Pairs of each form.")
    parser.add_argument("--work", type=Path, help="Folder for the exports and tokens. Where unset, a temporary one.")
    arguments = parser.parse_args()
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        for family in FAMILIES:
            tokenizer = AutoTokenizer.from_pretrained(save_tokenizer(family, work / family))
            config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
            LlamaForCausalLM(config).save_pretrained(work / f"{family}-model")
            tokenizer.save_pretrained(work / f"{family}-model")
        for form in FORMS:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows(form, arguments.rows))
            (work / f"{form}.jsonl").write_text("".join(lines), encoding="utf-8")
        known: dict[tuple[str, str, tuple[str, ...]], list[dict[str, list[int]]]] = {}

        def reference(cell: Cell) -> list[dict[str, list[int]]]:
            key = (cell.form, cell.family, tuple(cell.kept["pair_id"]))
            if key not in known:
                tokenizer = AutoTokenizer.from_pretrained(work / cell.family)
                known[key] = trl_tokens(cell.kept, tokenizer, work / f"{cell.family}-model")
            return known[key]

        lost = False
        for name in arguments.trainers:
            place = arguments.environments.expanduser().absolute() / name
            if arguments.install:
                install(TRAINERS[name], place)
            modes = [False, True] if TARGETS[name].renders else [False]
            found = [
                exported(name, form, family, render, arguments.rows, work)
                for render in modes
                for form in FORMS
                for family in FAMILIES
                if not (render and form == "strings")
            ]
            read_by(name, place, [cell.job for cell in found if cell.job], work)
            shown_texts: dict[tuple[bool, str], list[str]] = {}
            for cell in found:
                text, gone = result_of(cell, reference, work)
                lost = lost or gone
                shown_texts.setdefault((cell.render, cell.form), []).append(text)
            for render in modes:
                shown = [[form, *texts] for (mode, form), texts in shown_texts.items() if mode == render]
                print(f"\n{TRAINERS[name].package}{', render' if render else ''}")
                print("\n".join(table([["form", *FAMILIES], *shown])), flush=True)
    return int(lost)


if __name__ == "__main__":
    raise SystemExit(main())
