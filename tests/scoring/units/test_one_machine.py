"""Without Ray, one process or several walk the units, and the markers decide."""

import json
import subprocess
import sys

import numpy as np
import pytest

from pd_trl.errors import InputError
from pd_trl.pipeline.stages.score import ScoreArguments, run_score
from pd_trl.runs.artifacts import Manifest, read_rows
from pd_trl.scoring import score_pairs, score_responses
from pd_trl.scoring.scorer import RewardModelScorer
from tests.processes import ROOT
from tests.tiny import ASPECTS, tiny_preferences


def score(pairs, models, output, **options):
    return run_score(
        ScoreArguments(str(pairs), reward_models=models, output_dir=str(output), pairs_per_shard=20, **options)
    )


def markers(output):
    return {path.name: json.loads(path.read_text()) for path in (output / "shards" / "units").glob("*.done")}


def test_the_units_of_a_folder_are_what_score_pairs_gives(pairs, models, tmp_path, monkeypatch):
    result = score(pairs, models, tmp_path / "out")
    found, expected = read_rows(tmp_path / "out" / "scored"), score_pairs(tiny_preferences(120), models)
    assert found.column_names == expected.column_names and found["pair_id"][:] == expected["pair_id"][:]
    for name in [f"reward_gap_{aspect}" for aspect in ASPECTS]:
        assert np.abs(np.array(found[name]) - np.array(expected[name])).max() < 1e-5
        assert f"{np.mean(expected[name]):.3f}" in str(result)
    assert found["delta_length"][:] == expected["delta_length"][:]
    assert result.counts == {"pairs": 120, "scored": 120, "dropped": 0}
    done = markers(tmp_path / "out")
    assert len(done) == 6 and sum(one["rows"] for one in done.values()) == 120
    manifest = Manifest.load(tmp_path / "out")
    assert set(manifest.files.values()) >= {one["digest"] for one in done.values()}
    monkeypatch.setattr(RewardModelScorer, "__call__", lambda self, tokens: pytest.fail("scored again"))
    assert score(pairs, models, tmp_path / "out").skipped


def test_a_type_of_the_weights_is_part_of_the_run(pairs, models, tmp_path):
    score(pairs, models, tmp_path / "out", dtype="bfloat16")
    assert Manifest.load(tmp_path / "out").arguments["dtype"] == "bfloat16"
    half, whole = read_rows(tmp_path / "out" / "scored"), score_pairs(tiny_preferences(120), models)
    ours, theirs = (np.stack([rows[f"reward_gap_{a}"][:] for a in ASPECTS]) for rows in (half, whole))
    assert 1e-5 < np.abs(ours - theirs).max() < 0.1
    named = score_pairs(tiny_preferences(120), models, dtype="bfloat16", pairs_per_shard=20)
    assert np.abs(ours - np.stack([named[f"reward_gap_{a}"][:] for a in ASPECTS])).max() < 1e-2
    with pytest.raises(InputError, match="another run"):
        score(pairs, models, tmp_path / "out")


def test_arguments_of_vllm_need_vllm_and_one_gpu_an_actor(pairs, models, tmp_path):
    with pytest.raises(InputError, match="`engine_kwargs` are of backend 'vllm', and the backend is 'engine'"):
        score(pairs, models, tmp_path / "out", engine_kwargs='{"max_model_len": 64}')
    with pytest.raises(InputError, match="`engine_kwargs` are of backend 'vllm'"):
        score_pairs(tiny_preferences(2), models, engine_kwargs={"max_model_len": 64})
    more = {"engine": "ray", "backend": "vllm", "engine_kwargs": {"tensor_parallel_size": 2}}
    with pytest.raises(InputError, match="`tensor_parallel_size` needs several GPUs, and each actor of Ray has one"):
        score(pairs, models, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_vllm_gets_what_is_asked_for(pairs, models, tmp_path, monkeypatch):
    given = []

    def refuse(folder, chosen, **loading):
        given.append(loading)
        raise InputError("No vLLM here.")

    monkeypatch.setattr("pd_trl.scoring.backends.VllmScorer", refuse)
    kwargs = "{max_model_len: 64, tensor_parallel_size: 2}"
    with pytest.raises(InputError, match="No vLLM here"):
        score(pairs, models, tmp_path / "out", backend="vllm", engine_kwargs=kwargs, dtype="auto")
    assert given[0]["engine_kwargs"] == {"max_model_len": 64, "tensor_parallel_size": 2}
    assert given[0]["dtype"] == "auto"


def test_a_run_goes_on_with_what_is_missing_and_another_run_is_refused(pairs, models, tmp_path, monkeypatch):
    output = tmp_path / "out"
    score(pairs, models, output, share_prefix=False)
    before = {path.name: path.read_bytes() for path in (output / "scored").iterdir()}
    (output / "manifest.json").unlink()
    (output / "shards/units/00002.done").unlink()
    (output / "scored/train-00004-of-00006.parquet").write_bytes(b"cut short")
    (output / "scored/.train-00001-of-00006.parquet.1.aa").write_bytes(b"left by a kill")
    tokens = []
    call = RewardModelScorer.__call__
    monkeypatch.setattr(RewardModelScorer, "__call__", lambda self, t: tokens.append(len(t)) or call(self, t))
    score(pairs, models, output, share_prefix=False)
    assert sum(tokens) == len(ASPECTS) * 2 * 2 * 20
    assert {path.name: path.read_bytes() for path in (output / "scored").iterdir()} == before
    (output / "manifest.json").unlink()
    with pytest.raises(InputError, match="holds shards of another run: .*max_length"):
        score(pairs, models, output, max_length=9, share_prefix=False)


def test_what_is_too_long_is_counted(pairs, models, tmp_path, caplog):
    result = score(pairs, models, tmp_path / "out", max_length=14, on_long="drop")
    kept = len(read_rows(tmp_path / "out" / "scored"))
    assert 0 < kept < 120 and result.counts == {"pairs": 120, "scored": kept, "dropped": 120 - kept}
    assert f"{120 - kept} of 120 pairs are too long" in caplog.text
    with pytest.raises(InputError, match="row groups .* are longer than 14 tokens"):
        score(pairs, models, tmp_path / "other", max_length=14, on_long="error")


def test_single_responses_are_scored_in_units_too(pairs, models, tmp_path):
    rows = tiny_preferences(30).select_columns(["prompt", "chosen"]).rename_column("chosen", "response")
    rows.to_parquet(tmp_path / "rows.parquet", batch_size=10)
    score(tmp_path / "rows.parquet", models, tmp_path / "out")
    found = read_rows(tmp_path / "out" / "scored")
    expected = score_responses(rows["prompt"][:], rows["response"][:], models)
    assert found.column_names == ["prompt", "response", *(f"reward_{aspect}" for aspect in ASPECTS)]
    assert all(np.abs(np.array(found[f"reward_{a}"]) - expected[a]).max() < 1e-5 for a in ASPECTS)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_same_command_three_times_shares_the_units(pairs, models, tmp_path):
    flags = ["--dataset_name", pairs, "--output_dir", tmp_path / "out", "--pairs_per_shard", 5]
    command = [sys.executable, "-m", "pd_trl", "score", "--reward_models", json.dumps(models), *map(str, flags)]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=400)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    expected = score_pairs(tiny_preferences(120), models)
    found = read_rows(tmp_path / "out" / "scored")
    assert found["pair_id"][:] == expected["pair_id"][:]
    assert np.abs(np.array(found["reward_gap_honesty"]) - np.array(expected["reward_gap_honesty"])).max() < 1e-5


def test_ray_is_named_where_it_is_missing_and_where_the_data_are_none_of_its(pairs, models, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "pd_trl\[ray\]"'):
        score(pairs, models, tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(InputError, match="pd-trl prepare"):
        score(tmp_path / "rows.jsonl", models, tmp_path / "other", engine="ray")
    with pytest.raises(InputError, match="`num_actors` is of --engine ray"):
        score(pairs, models, tmp_path / "third", num_actors=2)
