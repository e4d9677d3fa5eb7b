"""On Ray, outputs and ratings are those of one process, and go on whatever dies."""

import json
import os
import platform
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.pipeline.stages.generate import GenerateArguments, run_generate
from pd_trl.pipeline.stages.rate import RateArguments, run_rate
from pd_trl.runs.artifacts import read_rows
from pd_trl.runs.on_ray import on_ray, parts_of
from scripts.speed import ray_cluster
from tests.rating.scripted import write_pairs
from tests.rating.tiny_judge import tiny_judge
from tests.runs.small_work import Doubling
from tests.tiny import sentence

pytestmark = pytest.mark.multiprocess

NUM_PROMPTS = 80


@pytest.fixture(scope="module")
def nodes():
    pytest.importorskip("ray.data", reason='Ray is not installed: pip install "pd_trl[ray]"')
    # Ray's own 15 would leave its actors little beside other tests.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_cluster.nodes(1, num_cpus=2) as started:
        yield started


@pytest.fixture(scope="module")
def flags(tiny_models, tmp_path_factory) -> dict[str, Any]:
    """Draws of a tiny model, some of them to a prompt that leaves it less room."""
    generator = random.Random(0)
    texts = {sentence(generator, 3, 40) for _ in range(NUM_PROMPTS - 1)} | {sentence(generator, 80, 80)}
    source = tmp_path_factory.mktemp("prompts") / "prompts.json"
    source.write_text(json.dumps(sorted(texts)))
    return {
        **{"model_name_or_path": tiny_models["causal"], "instructions": str(source)},
        **{"max_new_tokens": 60, "temperature": 1.0, "batch_size": 2},
    }


@pytest.fixture(scope="module")
def expected(flags, tmp_path_factory) -> list[dict[str, str]]:
    output = tmp_path_factory.mktemp("one") / "out"
    run_generate(GenerateArguments(**flags, output_dir=str(output)))
    return outputs_of(output)


def outputs_of(folder: Path) -> list[dict[str, str]]:
    return json.loads((folder / "model_outputs.json").read_text())


def log_of(folder: Path, name: str = "generated.jsonl") -> list[str]:
    return (folder / name).read_text().splitlines()


def keys_of(lines: list[str]) -> list[str]:
    return [json.loads(line)["key"] for line in lines[1:]]


def test_parts_are_whole_batches_and_enough_for_many_actors():
    assert [len(part) for part in parts_of(range(10), 4, 16)] == [4, 4, 2]
    assert {len(part) for part in parts_of(range(64 * 4 * 2), 4, 16)} == {8}
    assert {len(part) for part in parts_of(range(64 * 4 * 100), 4, 16)} == {16}
    assert sum(parts_of(range(10), 4, 16), []) == list(range(10)) and parts_of([], 4, 16) == []


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_cluster_that_does_not_answer_is_named_at_once(form, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = form.format(f"127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(InputError, match=f"No Ray cluster answers at {address}: .*refused.* `ray start --head`"):
            next(on_ray(Doubling(str(tmp_path)), [1]))


def test_an_actor_that_dies_costs_what_it_had_in_hand(nodes, tmp_path, caplog):
    made = on_ray(Doubling(str(tmp_path)), list(range(60)), 2, items_per_task=3)
    found = [next(made) for _ in range(10)]
    actors = nodes.actors()
    nodes.kill_actor(random.Random(0))
    found += made
    assert sorted((one["item"], one["double"]) for one in found) == [(i, 2 * i) for i in range(60)]
    begun = sum(path.stat().st_size for path in tmp_path.iterdir())
    # Two tasks of three.
    assert actors and 60 <= begun <= 60 + 2 * 3
    assert caplog.text.count("Numbers are doubled.") == 1


def test_an_error_of_an_actor_is_one_message(nodes, tmp_path):
    with pytest.raises(InputError, match=f"^On {platform.node()}: .*No space left"):
        list(on_ray(Doubling(str(tmp_path), full_at=7), list(range(50)), 1))
    with pytest.raises(InputError, match="has 0 GPUs and 2 CPUs, and each actor has one. Ask for fewer"):
        list(on_ray(Doubling(str(tmp_path)), [1], 3))


@pytest.mark.slow
def test_an_actor_is_killed_and_outputs_are_those_of_one_process(nodes, flags, expected, tmp_path):
    output, actors = tmp_path / "out", []

    def kill() -> None:
        actors.extend(nodes.actors())
        nodes.kill_actor(random.Random(0))

    start = GenerateArguments(**flags, output_dir=str(output), engine="ray", num_actors=2)
    result = ray_cluster.disturbed(lambda: run_generate(start), output, 2, kill)
    assert actors
    assert outputs_of(output) == expected and result.counts["outputs"] == NUM_PROMPTS
    keys = keys_of(log_of(output))
    assert len(keys) == len(set(keys)) == NUM_PROMPTS


@pytest.mark.slow
def test_the_driver_is_killed_and_goes_on(nodes, flags, expected, tmp_path):
    output = tmp_path / "out"
    start = lambda: ray_cluster.stage_command(  # noqa: E731
        "generate", nodes.address, {**flags, "output_dir": output, "num_actors": 1}
    )
    first = start()
    ray_cluster.wait_for(output, 6, lambda: first.poll() is None)
    first.kill()
    first.communicate()
    before = log_of(output)
    assert 6 < len(before) <= NUM_PROMPTS
    # What is left may be done by either engine.
    run_generate(GenerateArguments(**flags, output_dir=str(output)))
    after = log_of(output)
    assert outputs_of(output) == expected
    assert after[: len(before) - 1] == before[:-1] and len(set(keys_of(after))) == len(after) - 1 == NUM_PROMPTS


def test_ratings_are_those_of_one_process(nodes, tmp_path):
    for part in tiny_judge(700):
        part.save_pretrained(tmp_path / "judge")
    pairs = write_pairs(tmp_path / "pairs.jsonl", 10, shared=2)
    with pairs.open("a") as file:
        file.write(json.dumps({"prompt": "Long?", "chosen": "good " * 700, "rejected": "bad"}) + "\n")
    reports, rated = [], []
    for name, engine in (("one", {}), ("ray", {"engine": "ray", "num_actors": 1})):
        run_rate(
            RateArguments(
                str(pairs),
                str(tmp_path / name),
                judge=str(tmp_path / "judge"),
                repeat_share=0.2,
                max_problem_share=0.2,
                **engine,
            )
        )
        reports.append(json.loads((tmp_path / name / "report.json").read_text()))
        rated.append(read_rows(tmp_path / name / "pairs").to_pandas())
    assert reports[0]["calls"]["unanswered"] == 4 and reports[0]["calls"]["again"]
    assert reports[0]["calls"] == reports[1]["calls"] and reports[0]["reasons"] == reports[1]["reasons"]
    assert (
        len(keys_of(log_of(tmp_path / "ray", "answers.jsonl")))
        == reports[0]["calls"]["asked"] + reports[0]["calls"]["again"] - 4
    )
    names = [name for name in rated[0].columns if name.startswith("rating_")]
    assert len(names) == 8 and list(rated[0].pair_id) == list(rated[1].pair_id)
    np.testing.assert_allclose(rated[0][names], rated[1][names], atol=1e-6)
