"""Stage `simulate`: a small language world, with pairs, a pretrained model and evaluation prompts."""

from dataclasses import asdict, dataclass

from ...runs.artifacts import Manifest, replaced_folder, write_json, write_rows
from ...runs.stage_folders import StageResult, check_folder, dry_result, held_folder, skip_if_done, timed
from .arguments import OVERWRITE, argument


@dataclass
class SimulateArguments:
    """Arguments of the stage `simulate`, see [`SimulatedWorld`]."""

    output_dir: str = argument("world", "Folder of the result.")
    num_pairs: int = argument(6000, "Number of pairs of responses.")
    num_texts: int = argument(20000, "Number of texts to pretrain on.")
    num_prompts: int = argument(400, "Number of prompts for evaluation.")
    num_aspects: int = argument(4, "Number of aspects, 2 to 8.")
    conflict: float = argument(0.4, "How much the aspects trade off, in [0, 1].")
    noise: float = argument(0.4, "Temperature of the annotators.")
    length_bias: float = argument(0.05, "Logits that annotators add for each additional word.")
    hidden_size: int = argument(64, "Hidden size of the model.")
    num_layers: int = argument(2, "Number of layers of the model.")
    seed: int = argument(42, "Seed of everything that is drawn.")
    dry_run: bool = argument(False, "Show the plan and make nothing.")
    overwrite: bool = argument(False, OVERWRITE)


@held_folder
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
