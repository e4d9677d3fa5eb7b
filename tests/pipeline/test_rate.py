import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from datasets import load_dataset

from pd_trl.errors import InputError
from pd_trl.pipeline.recipe import steps_of
from pd_trl.pipeline.stages.prepare import PrepareArguments, run_prepare
from pd_trl.pipeline.stages.rate import RateArguments, check_rate, run_rate
from pd_trl.pipeline.stages.select import SelectArguments, run_select
from pd_trl.rating import load_rubric
from pd_trl.runs.artifacts import Manifest
from tests.rating.scripted import ASPECTS, choice, rating, sure_rating, write_pairs
from tests.servers.replay_server import replay


def arguments(path, server, out, **changes):
    return RateArguments(
        **{
            "dataset_name": str(path),
            "judge_model": "m",
            "base_url": getattr(server, "base_url", server),
            "output_dir": str(out),
            "max_retries": 1,
            **changes,
        }
    )


def rows_of(folder):
    return load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train").to_list()


def test_select_reads_what_rate_left(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 20)
    with replay([], sure_rating) as server:
        result = run_rate(arguments(path, server, tmp_path / "rated"))
        sent = sum(server.counts.values())
        again = run_rate(arguments(path, server, tmp_path / "rated"))
        assert sum(server.counts.values()) == sent == result.counts["requests"]
    assert again.skipped and not result.skipped
    assert result.lines[-1] == f"Select with: pd-trl select --dataset_name {tmp_path / 'rated'} --source ratings"
    selected = run_select(
        SelectArguments(str(tmp_path / "rated"), str(tmp_path / "selected"), budget=0.3, source="ratings")
    )
    assert selected.counts == {"total": 20, "kept": 6, "dropped": 14}
    manifest = Manifest.load(tmp_path / "rated")
    assert load_rubric(tmp_path / "rated" / "rubric.yaml").digest == load_rubric().digest == manifest.inputs["rubric"]
    assert stat.S_IMODE((tmp_path / "rated" / "answers.jsonl").stat().st_mode) == 0o600
    assert (tmp_path / "rated" / "report.txt").read_text().startswith("20 pairs rated by m")


def test_pairs_without_any_label_get_one_aspects(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 12, sides=("response_a", "response_b"))
    with replay([], rating) as server:
        result = run_rate(arguments(path, server, tmp_path / "rated"))
    rows = rows_of(tmp_path / "rated" / "preferences")
    assert {row["aspect"] for row in rows} <= set(ASPECTS)
    assert len(rows) + result.counts["dropped"] == 12
    assert all(row[f"vote_{row['aspect']}"] == 1 for row in rows)
    assert "pref_overall" not in rows_of(tmp_path / "rated" / "pairs")[0]


def test_dry_run_says_the_cost_and_sends_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = write_pairs(tmp_path / "pairs.jsonl", 20)
    with replay([], rating) as server:
        plan = arguments(path, server, tmp_path / "rated", dry_run=True, price_per_million_tokens=1.0)
        result = run_rate(plan)
        assert not server.counts and not (tmp_path / "rated").exists()
        # Two of twenty pairs are rated twice.
        assert result.counts == {"pairs": 20, "requests": 40 * 4 + 4 * 4}
        assert "cost: at most $0.0" in result.lines[-1]
        run_rate(arguments(path, server, tmp_path / "rated"))
    again = run_rate(arguments(path, "http://127.0.0.1:9/v1", tmp_path / "rated", dry_run=True))
    assert again.skipped
    # No server and no key are needed to know the cost.
    assert run_rate(arguments(path, None, tmp_path / "other", dry_run=True)).lines[-1].startswith("cost: unknown")


def test_killed_run_pays_nothing_twice(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 20)
    command = [sys.executable, "-m", "pd_trl", "rate", "--dataset_name", str(path), "--judge_model", "m"]
    with replay([], sure_rating) as server:
        server.hold_after = 60
        command += ["--base_url", server.base_url, "--output_dir", str(tmp_path / "rated"), "--max_retries", "1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert server.reached.wait(300)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        answered = dict(server.answered)
        server.hold_after = None
        plan = run_rate(arguments(path, server, tmp_path / "rated", dry_run=True))
        kept = len((tmp_path / "rated" / "answers.jsonl").read_text().splitlines()) - 1
        # An answer may have been on its way, one for each request that waited.
        assert len(answered) - 8 <= kept <= len(answered)
        assert f"{kept} answered before" in plan.lines[1]
        result = run_rate(arguments(path, server, tmp_path / "rated"))
    assert result.counts["requests"] == 40 * 4 + 4 * 4
    assert sum(server.answered.values()) == result.counts["requests"] + len(answered) - kept
    with replay([], sure_rating) as server:
        run_rate(arguments(path, server, tmp_path / "fresh"))
    assert rows_of(tmp_path / "rated" / "pairs") == rows_of(tmp_path / "fresh" / "pairs")


def test_adaptive_rating_asks_less_and_selects_by_its_estimate(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 150)
    with replay([], rating) as server:
        result = run_rate(arguments(path, server, tmp_path / "rated", adaptive=True, budget=0.2, max_concurrency=16))
        sent = sum(server.counts.values())
    report = Manifest.load(tmp_path / "rated").results["report"]
    assert report["calls"]["asked"] <= 0.4 * report["calls"]["all"] == 0.4 * 150 * 2 * 4
    assert sent == report["calls"]["asked"] + report["calls"]["again"]
    assert report["adaptive"]["kept"] == 30 and report["adaptive"]["stopped"] > 0
    assert "--source column --pd_column rated_pd --budget 0.2" in result.lines[-1]
    selected = run_select(
        SelectArguments(
            str(tmp_path / "rated"), str(tmp_path / "selected"), budget=0.2, source="column", pd_column="rated_pd"
        )
    )
    assert selected.counts["kept"] == 30
    rows = rows_of(tmp_path / "rated" / "pairs")
    assert any(row["rating_honesty_a"] is None for row in rows) and all(row["rated_pd"] is not None for row in rows)


def test_adaptive_rating_counts_pairs_without_a_label(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 40, sides=("response_a", "response_b"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    labelled = [{**row, "pref_overall": (1, 0, 0.5)[i % 3]} for i, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in labelled))
    with replay([], rating) as server:
        result = run_rate(arguments(path, server, tmp_path / "rated", adaptive=True))
    assert result.counts["dropped"] == 13 and result.counts["rows"] == 27
    assert any(line.startswith("13 pairs give no preference") for line in result.lines)
    assert {row["aspect"] for row in rows_of(tmp_path / "rated" / "preferences")} == {"overall"}


def test_rate_after_prepare_in_a_recipe():
    recipe = {"output_dir": "out", "seed": 3, "budget": 0.2, "prepare": {"dataset_name": "x.jsonl"}}
    recipe |= {"rate": {"judge_model": "m", "adaptive": True}, "select": {}}
    steps = {step.name: step.section for step in steps_of(recipe)}
    assert steps["rate"]["dataset_name"] == "out/prepare" and steps["rate"]["seed"] == 3
    assert steps["rate"]["budget"] == steps["select"]["budget"] == 0.2
    assert steps["select"]["dataset_name"] == "out/rate"
    assert (steps["select"]["source"], steps["select"]["pd_column"]) == ("column", "rated_pd")
    scored = {"output_dir": "out", "dataset_name": "x.jsonl", "rate": {}, "reward": {}, "score": {}, "select": {}}
    steps = {step.name: step.section for step in steps_of(scored)}
    assert steps["rate"]["dataset_name"] == "x.jsonl"
    assert steps["reward"]["dataset_name"] == steps["score"]["dataset_name"] == "out/rate"
    assert steps["select"] == {"dataset_name": "out/score", "output_dir": "out/select"}


def test_what_prepare_left_is_rated(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 12)
    run_prepare(PrepareArguments(str(path), str(tmp_path / "prepared")))
    with replay([], rating) as server:
        result = run_rate(arguments(tmp_path / "prepared", server, tmp_path / "rated", repeat_share=0.0))
    assert result.counts["rows"] == 12 and result.counts["requests"] == 24 * 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"judge_model": None}, "needs one judge"),
        ({"judge": "folder"}, "needs one judge"),
        ({"dataset_name": None}, "needs pairs"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"price_per_million_tokens": -1.0}, "price"),
        ({"rubric": "no.yaml"}, "no.yaml"),
        ({"judge_arguments": "x"}, "judge_arguments"),
        ({"judge_arguments": {"stream": True, "model": "another"}}, "must not set model, stream"),
        ({"labels": "own", "dataset_name": "unlabelled"}, "have none"),
        ({"adaptive": True, "dataset_name": "unlabelled"}, "needs the label"),
        ({"engine": "ray"}, "leave `engine` out"),
        (
            {"engine": "ray", "judge_model": None, "judge": "folder", "adaptive": True},
            "`adaptive` chooses each question",
        ),
    ],
)
def test_bad_arguments_are_one_error(tmp_path, changes, says):
    if changes.get("dataset_name") == "unlabelled":
        path = write_pairs(tmp_path / "unlabelled.jsonl", 4, sides=("response_a", "response_b"))
        changes = {**changes, "dataset_name": str(path)}
    path = write_pairs(tmp_path / "pairs.jsonl", 4)
    given = arguments(path, "http://127.0.0.1:9/v1", tmp_path / "rated", **changes)
    with pytest.raises(InputError, match=says):
        check_rate(given)
        run_rate(given)
    assert not (tmp_path / "rated" / "manifest.json").exists()


def test_another_run_is_not_overwritten_unasked(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 4)
    with replay([], rating) as server:
        run_rate(arguments(path, server, tmp_path / "rated"))
        with pytest.raises(InputError, match="another run"):
            run_rate(arguments(path, server, tmp_path / "rated", mode="pairwise"))
        run_rate(arguments(path, server, tmp_path / "rated", mode="pairwise", overwrite=True))
    assert Manifest.load(tmp_path / "rated").arguments["mode"] == "pairwise"


def test_overwriting_pays_for_no_answer_twice(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 10)
    with replay([], rating) as server:
        run_rate(arguments(path, server, tmp_path / "rated", repeat_share=0.0))
        sent = sum(server.counts.values())
        write_pairs(path, 12)
        again = arguments(path, server, tmp_path / "rated", repeat_share=0.0, labels="one", overwrite=True)
        again.dry_run = True
        assert f"{sent} answered before" in run_rate(again).lines[1]
        again.dry_run = False
        run_rate(again)
        assert sum(server.counts.values()) == sent + 2 * 2 * 4
    assert stat.S_IMODE((tmp_path / "rated" / "answers.jsonl").stat().st_mode) == 0o600


def test_rows_that_cannot_be_rated_are_left_out_with_a_count(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 6)
    path.write_text(path.read_text() + json.dumps({"prompt": "q", "chosen": " ", "rejected": "r"}) + "\n")
    with replay([], rating) as server:
        with pytest.raises(InputError, match="is empty"):
            run_rate(arguments(path, server, tmp_path / "rated"))
        result = run_rate(arguments(path, server, tmp_path / "rated", on_invalid="drop"))
    assert result.counts["pairs"] == 6
    assert "1 left out before the rating: response_a is empty" in result.lines
    assert Manifest.load(tmp_path / "rated").results["load"]["dropped"] == {"response_a is empty": 1}


def test_nonsense_ends_with_one_message_and_what_was_paid_is_kept(tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", 20)
    with replay([], lambda prompt, attempt: choice("banana")) as server:
        with pytest.raises(InputError, match="Answers so far are kept"):
            run_rate(arguments(path, server, tmp_path / "rated"))
        assert sum(server.counts.values()) <= 40
    assert len((tmp_path / "rated" / "answers.jsonl").read_text().splitlines()) > 1
    assert (
        json.loads((tmp_path / "rated" / "answers.jsonl").read_text().splitlines()[0])["identity"]["mode"]
        == "pointwise"
    )
