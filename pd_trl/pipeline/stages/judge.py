"""Stage `judge`: policies of a simulated world, compared by its gold rewards."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...runs.artifacts import Manifest, replaced_folder, write_json
from ...runs.identity import file_key
from ...runs.model_identity import model_key
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from ...safety.schema import anything, mapping, number, optional, read_document, record, sequence, text
from ..mappings import mapping_of
from .arguments import OVERWRITE, argument

_MEASURES = ("gold", "gold_se", "num_words")
_RESULTS = mapping(
    record(
        {**dict.fromkeys(_MEASURES, number()), "against": mapping(mapping(optional(number())))},
        required=_MEASURES,
        others=anything,
    ),
    empty=False,
)
_TEXTS = dict.fromkeys(("instruction", "output"), text())
_OUTPUTS = sequence(record(_TEXTS, required=tuple(_TEXTS), others=anything))


@dataclass
class JudgeArguments:
    """
    Arguments of the stage `judge`, which compares policies by the gold rewards of their answers in a simulated world.
    """

    world: str | None = argument(None, "Folder of the stage `simulate`.")
    policies: dict[str, str] | str | None = argument(
        None,
        "Mapping of name to folder of each policy that answers the prompts (YAML or json). The others are compared with the first.",
    )
    outputs: dict[str, str] | str | None = argument(
        None,
        "Mapping of name to folder of each policy's answers by the stage `generate`, in place of `policies` (YAML or json).",
    )
    output_dir: str = argument("judge", "Folder of the result.")
    temperature: float = argument(0.7, "Temperature of the answers.")
    max_new_tokens: int = argument(80, "Maximum number of tokens of an answer.")
    seed: int = argument(42, "Seed of the answers.")
    dry_run: bool = argument(False, "Show the plan and make nothing.")
    overwrite: bool = argument(False, OVERWRITE)


_WORLD = ("world.json", "prompts.json")


@held_folder
def run_judge(arguments: JudgeArguments) -> StageResult:
    """Writes each policy's answers, `results.json` and the manifest; shows a table of gold scores and win rates."""
    answered = mapping_of(arguments.outputs, "outputs")
    policies = answered or mapping_of(arguments.policies, "policies")
    if not arguments.world or not policies:
        raise InputError("The stage `judge` needs a simulated `world` and at least one of `policies` or `outputs`.")
    for name in () if answered else policies:
        if not name or re.search(r"[/\\]|^\.", name) or name in ("results", "manifest"):
            raise InputError(f"The policy {name!r} in `policies` cannot name a file. Choose another name.")
    world_folder = Path(arguments.world).expanduser()
    manifest = Manifest(
        "judge",
        inputs={
            **{f"policy {name}": _policy_key(Path(path), bool(answered)) for name, path in policies.items()},
            **{name: file_key(world_folder / name) for name in _WORLD if (world_folder / name).is_file()},
        },
        arguments={}
        if answered
        else {name: getattr(arguments, name) for name in ("temperature", "max_new_tokens", "seed")},
    )
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, {}, [f"policies: {', '.join(policies)}"])
    check_folder("judge", arguments.output_dir, [arguments.world, *policies.values()])
    done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
    if done:
        results = read_document(Path(arguments.output_dir) / "results.json", _RESULTS, "the results of the gold judge")
        done.lines = _judge_table(results)
        return done
    with replaced_folder(arguments.output_dir) as folder, timed(manifest):
        results = _judge(arguments, policies, world_folder, folder)
        write_json(folder / "results.json", results)
        manifest.results = results
        manifest.save(folder)
    return StageResult("judge", arguments.output_dir, lines=_judge_table(results))


def _judge(arguments: JudgeArguments, policies: dict[str, str], world_folder: Path, folder: Path) -> dict[str, dict]:
    from ...lab.simulation.judge import gold_summary, gold_win_rate
    from ...lab.simulation.world import SimulatedWorld

    world = SimulatedWorld.load(world_folder)
    results: dict[str, dict] = {}
    answers: dict[str, list[dict[str, str]]] = {}
    first = next(iter(policies))
    for name, path in policies.items():
        if arguments.outputs:
            answers[name] = read_document(Path(path) / "model_outputs.json", _OUTPUTS, "a list of outputs")
        else:
            answers[name] = _answers(
                arguments, path, read_document(world_folder / "prompts.json", sequence(text()), "a list of prompts")
            )
            write_json(folder / f"{name}.json", answers[name])
        results[name] = dict(gold_summary(answers[name], world))
        if name != first:
            results[name]["against"] = {first: gold_win_rate(answers[name], answers[first], world)}
    return results


def _answers(arguments: JudgeArguments, path: str, prompts: list[str]) -> list[dict[str, str]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ...lab.simulation.judge import generate_responses

    return generate_responses(
        AutoModelForCausalLM.from_pretrained(path, dtype="float32"),
        AutoTokenizer.from_pretrained(path),
        prompts,
        arguments.seed,
        temperature=arguments.temperature,
        max_new_tokens=arguments.max_new_tokens,
    )


def _policy_key(path: Path, answered: bool) -> str:
    folder = path.expanduser()
    if Manifest.load(folder) is None and Manifest.load(folder.parent) is None:
        raise InputError(f"{folder} is not the folder of a policy or its outputs: it has no manifest.")
    return file_key(folder / "model_outputs.json") if answered else model_key(folder)


def _judge_table(results: dict[str, dict]) -> list[str]:
    from ...text.tables import number, percent, table

    first = next(iter(results))
    rows = [["policy", "gold score", "± SE", f"win rate against {first}", "± SE", "words"]]
    for name, entry in results.items():
        wins = entry.get("against", {}).get(first, {})
        rows.append([
            name, number(entry["gold"], 2), number(entry["gold_se"], 2), percent(wins.get("win_rate")),
            percent(wins.get("win_rate_se")), number(entry["num_words"], 1),
        ])  # fmt: skip
    return table(rows)
