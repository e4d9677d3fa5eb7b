"""Jobs on machines that share no disk leave their shards in a data set, and the merge finds them there."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pd_trl.runs.artifacts import read_rows
from pd_trl.scoring import score_pairs
from tests.processes import ROOT
from tests.tiny import ASPECTS, tiny_preferences, tiny_reward_model, tiny_tokenizer


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Preferences in a folder, and reward models."""
    root = tmp_path_factory.mktemp("inputs")
    models = {}
    for seed, aspect in enumerate(ASPECTS):
        model = tiny_reward_model(seed)
        model.score.weight.data.mul_(50)
        model.save_pretrained(root / aspect)
        tiny_tokenizer().save_pretrained(root / aspect)
        models[aspect] = str(root / aspect)
    data = root / "preferences.parquet"
    tiny_preferences(20).to_parquet(data)
    return data, models


def arguments(inputs, output, *more: str) -> list[str]:
    data, models = inputs
    return ["score", "--dataset_name", str(data), "--reward_models", json.dumps(models), "--output_dir", str(output),
            "--pairs_per_shard", "4", *more]  # fmt: skip


@pytest.mark.slow
def test_jobs_meet_in_a_data_set(plain_hub, inputs, tmp_path):
    repo = ["--shards_repo", "me/jobs"]
    first = plain_hub.command(*arguments(inputs, tmp_path / "a", "--shard", "0/2", *repo))
    assert first.returncode == 0 and "shards of other jobs are not here yet" in first.stdout, first.stderr
    second = plain_hub.command(*arguments(inputs, tmp_path / "b", "--shard", "1/2", *repo))
    assert second.returncode == 0 and "not here yet" not in second.stdout, second.stderr
    there = plain_hub.tree("datasets", "me/jobs")
    assert sum(name.endswith(".done") for name in there) == 5 * len(ASPECTS)
    assert all(name.split("/")[0] in ("shards", ".gitattributes") for name in there)
    markers = {p.relative_to(tmp_path / "a"): p.read_text() for p in (tmp_path / "a").rglob("*.done")}
    merged = plain_hub.command(*arguments(inputs, tmp_path / "c", *repo))
    assert merged.returncode == 0, merged.stderr
    # Nothing was scored again: the markers of the first job, with its times, came along.
    assert markers and all((tmp_path / "c" / name).read_text() == text for name, text in markers.items())
    expected = score_pairs(tiny_preferences(20), inputs[1])
    found = read_rows(tmp_path / "c" / "scored")
    assert found["pair_id"][:] == expected["pair_id"][:]
    for aspect in ASPECTS:
        assert np.allclose(found[f"reward_gap_{aspect}"][:], expected[f"reward_gap_{aspect}"][:], atol=1e-5)
    commits = plain_hub.num_commits("datasets", "me/jobs")
    again = plain_hub.command(*arguments(inputs, tmp_path / "b", "--shard", "1/2", *repo))
    assert again.returncode == 0 and plain_hub.num_commits("datasets", "me/jobs") == commits
    other = plain_hub.command(*arguments(inputs, tmp_path / "d", "--max_length", "9", "--shard", "0/2", *repo))
    assert other.returncode == 2 and "shards of another run" in other.stderr and "--shards_path" in other.stderr
    assert plain_hub.num_commits("datasets", "me/jobs") == commits


@pytest.mark.slow
def test_a_wrong_shard_is_refused_before_anything_is_loaded(inputs, tmp_path):
    command = [sys.executable, "-m", "pd_trl", *arguments(inputs, tmp_path / "o", "--shard", "4/4")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "'i/N'" in done.stderr and not (tmp_path / "o").exists()
