"""Stage `simulate`: a small language world, with pairs, a pretrained model and evaluation prompts."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...errors import InputError
from ...runs.artifacts import Manifest, replaced_folder, write_json, write_rows
from ...runs.identity import file_key, model_key
from ...runs.stage_folders import StageResult, check_folder, dry_result, holding_output_dir, skip_if_done, timed
from ...safety.schema import anything, mapping, number, optional, read_document, record, sequence, text
from .inputs import mapping_of

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
class SimulateArguments:
    """
    Arguments of the stage `simulate`, see [`SimulatedWorld`].

    Args:
        output_dir (`str`, *optional*, defaults to `"world"`):
            Folder of the result.
        num_pairs (`int`, *optional*, defaults to `6000`):
            Pairs of responses.
        num_texts (`int`, *optional*, defaults to `20000`):
            Texts to pretrain on.
        num_prompts (`int`, *optional*, defaults to `400`):
            Prompts for evaluation.
        num_aspects (`int`, *optional*, defaults to `4`):
            Aspects, 2 to 8.
        conflict (`float`, *optional*, defaults to `0.4`):
            How much the aspects trade off, in [0, 1].
        noise (`float`, *optional*, defaults to `0.4`):
            Temperature of the annotators.
        length_bias (`float`, *optional*, defaults to `0.05`):
            Logits that annotators add for each extra word.
        hidden_size (`int`, *optional*, defaults to `64`):
            Width of the model.
        num_layers (`int`, *optional*, defaults to `2`):
            Layers of the model.
        seed (`int`, *optional*, defaults to `42`):
            Seed of everything.
        dry_run (`bool`, *optional*, defaults to `False`):
            Show the plan and make nothing.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
    """

    output_dir: str = field(default="world", metadata={"help": "Folder of the result."})
    num_pairs: int = field(default=6000, metadata={"help": "Pairs of responses."})
    num_texts: int = field(default=20000, metadata={"help": "Texts to pretrain on."})
    num_prompts: int = field(default=400, metadata={"help": "Prompts for evaluation."})
    num_aspects: int = field(default=4, metadata={"help": "Aspects, 2 to 8."})
    conflict: float = field(default=0.4, metadata={"help": "How much the aspects trade off, in [0, 1]."})
    noise: float = field(default=0.4, metadata={"help": "Temperature of the annotators."})
    length_bias: float = field(default=0.05, metadata={"help": "Logits that annotators add for each extra word."})
    hidden_size: int = field(default=64, metadata={"help": "Width of the model."})
    num_layers: int = field(default=2, metadata={"help": "Layers of the model."})
    seed: int = field(default=42, metadata={"help": "Seed of everything."})
    dry_run: bool = field(default=False, metadata={"help": "Show the plan and make nothing."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another run's result in `output_dir`."})


@holding_output_dir
def run_simulate(arguments: SimulateArguments) -> StageResult:
    """Writes `pairs/`, `model/`, `prompts.json`, `world.json` and the manifest."""
    from ...lab.simulation.data import simulate_corpus, simulate_pairs, simulate_prompts
    from ...lab.simulation.model import pretrain
    from ...lab.simulation.world import SimulatedWorld

    settings = {k: v for k, v in asdict(arguments).items() if k not in ("output_dir", "dry_run", "overwrite")}
    manifest = Manifest("simulate", arguments=settings)
    world = SimulatedWorld(
        seed=arguments.seed,
        num_aspects=arguments.num_aspects,
        conflict=arguments.conflict,
        noise=arguments.noise,
        length_bias=arguments.length_bias,
    )
    counts = {name: settings[f"num_{name}"] for name in ("pairs", "texts", "prompts")}
    if arguments.dry_run:
        return dry_result(manifest, arguments.output_dir, counts, [f"aspects: {', '.join(world.aspects)}"])
    check_folder("simulate", arguments.output_dir, [])
    done = skip_if_done(manifest, arguments.output_dir, arguments.overwrite)
    if done:
        return done
    with replaced_folder(arguments.output_dir) as folder, timed(manifest):
        write_rows(simulate_pairs(arguments.num_pairs, world=world), folder / "pairs")
        corpus = simulate_corpus(arguments.num_texts, world=world)
        pretrained = pretrain(
            corpus,
            folder / "model",
            seed=arguments.seed,
            hidden_size=arguments.hidden_size,
            num_layers=arguments.num_layers,
        )
        write_json(folder / "prompts.json", simulate_prompts(arguments.num_prompts, arguments.seed))
        write_json(folder / "world.json", asdict(world))
        manifest.counts, manifest.results = counts, {"pretraining": pretrained}
        manifest.save(folder)
    loss = f"pretraining loss {pretrained['initial_loss']:.2f} -> {pretrained['final_loss']:.2f} nats per token"
    return StageResult("simulate", arguments.output_dir, counts, [loss])


@dataclass
class JudgeArguments:
    """
    Arguments of the stage `judge`: the gold rewards of a simulated world compare policies by their answers to its evaluation
    prompts.

    Args:
        world (`str`, *optional*):
            Folder of the stage `simulate`.
        policies (`dict`, *optional*):
            Name to folder of each policy, which answers the prompts here. The first is the one the others are compared with.
        outputs (`dict`, *optional*):
            Name to answers of each policy, from the stage `generate`, in place of `policies`.
        output_dir (`str`, *optional*, defaults to `"judge"`):
            Folder of the result.
        temperature (`float`, *optional*, defaults to `0.7`):
            Temperature of the answers.
        max_new_tokens (`int`, *optional*, defaults to `80`):
            Longest answer, in tokens.
        seed (`int`, *optional*, defaults to `42`):
            Seed of the answers.
        dry_run (`bool`, *optional*, defaults to `False`):
            Show the plan and make nothing.
        overwrite (`bool`, *optional*, defaults to `False`):
            Replace another run's result in `output_dir`.
    """

    world: str | None = field(default=None, metadata={"help": "Folder of the stage `simulate`."})
    policies: dict[str, str] | str | None = field(
        default=None, metadata={"help": "Name to folder of each policy (YAML mapping, or json)."}
    )
    outputs: dict[str, str] | str | None = field(
        default=None, metadata={"help": "Name to answers of each policy, in place of policies."}
    )
    output_dir: str = field(default="judge", metadata={"help": "Folder of the result."})
    temperature: float = field(default=0.7, metadata={"help": "Temperature of the answers."})
    max_new_tokens: int = field(default=80, metadata={"help": "Longest answer, in tokens."})
    seed: int = field(default=42, metadata={"help": "Seed of the answers."})
    dry_run: bool = field(default=False, metadata={"help": "Show the plan and make nothing."})
    overwrite: bool = field(default=False, metadata={"help": "Replace another run's result in `output_dir`."})


_WORLD = ("world.json", "prompts.json")


@holding_output_dir
def run_judge(arguments: JudgeArguments) -> StageResult:
    """Writes each policy's answers, `results.json` and the manifest; shows a table of gold scores and win rates."""
    answered = mapping_of(arguments.outputs, "outputs")
    policies = answered or mapping_of(arguments.policies, "policies")
    if not arguments.world or not policies:
        raise InputError("The stage `judge` needs a simulated `world` and at least one of `policies` or `outputs`.")
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
