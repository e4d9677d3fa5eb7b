"""On Ray, rows and scores are those of one process, whatever dies: three nodes on this machine."""

import random
import sys

import pytest

from scripts.speed import ray_cluster
from tests.tiny import tiny_preferences

pytest.importorskip("ray.data", reason='Ray is not installed: pip install "pd_trl[ray]"')
pytestmark = pytest.mark.multiprocess

NUM_PAIRS, UNIT = 300, 10
# An actor scores one unit and reads the next.
IN_FLIGHT = 2


@pytest.fixture(scope="module")
def nodes():
    with ray_cluster.nodes() as started:
        yield started


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.parquet"
    tiny_preferences(NUM_PAIRS).to_parquet(path, batch_size=UNIT)
    return path


@pytest.fixture(scope="module")
def expected(data, models, tmp_path_factory):
    output = tmp_path_factory.mktemp("one") / "out"
    ray_cluster.score(data, models, output, pairs_per_shard=UNIT)
    return output


def check(output, expected, in_flight: int) -> None:
    found = ray_cluster.compare(output, expected)
    assert found["rows"] == NUM_PAIRS and found["same rows"] and found["difference"] < 1e-5
    assert found["begun again"] <= in_flight
    assert len(ray_cluster.markers(output)) == NUM_PAIRS // UNIT


def test_an_actor_is_killed(nodes, data, models, expected, tmp_path):
    output = tmp_path / "out"
    ray_cluster.disturbed(
        lambda: ray_cluster.score(data, models, output, pairs_per_shard=UNIT, num_actors=2),
        output, 2, lambda: nodes.kill_actor(random.Random(0)),
    )  # fmt: skip
    check(output, expected, IN_FLIGHT)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_actors(nodes, data, models, expected, tmp_path, count):
    ray_cluster.score(data, models, tmp_path / "out", pairs_per_shard=UNIT, num_actors=count)
    check(tmp_path / "out", expected, 0)


@pytest.mark.slow
def test_a_node_is_removed(nodes, data, models, expected, tmp_path):
    output = tmp_path / "out"
    ray_cluster.disturbed(
        lambda: ray_cluster.score(data, models, output, pairs_per_shard=UNIT, num_actors=3),
        output, 5, lambda: nodes.remove_node(random.Random(1)),
    )  # fmt: skip
    check(output, expected, 3 * IN_FLIGHT)


@pytest.mark.slow
def test_the_driver_is_killed(nodes, data, models, expected, tmp_path):
    output = tmp_path / "out"
    options = {"pairs_per_shard": UNIT, "num_actors": 3}
    said = ray_cluster.killed_driver(
        lambda: ray_cluster.command(data, models, output, nodes.address, **options), output, 3
    )
    check(output, expected, 3 * IN_FLIGHT)
    assert f"scored {NUM_PAIRS}, dropped 0" in said and "Traceback" not in said


@pytest.mark.slow
def test_an_actors_error_is_one_message(nodes, data, models, tmp_path):
    process = ray_cluster.command(
        data,
        models,
        tmp_path / "out",
        nodes.address,
        pairs_per_shard=UNIT,
        max_length=9,
        on_long="error",
        num_actors=1,
    )
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 2 and "longer than 9 tokens" in said and "Traceback" not in said, sys.stderr.write(
        said
    )
