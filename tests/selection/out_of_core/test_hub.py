"""Shards on the Hub, read in ranges by their urls."""

import numpy as np
import pytest

from pd_trl import PDFilter
from pd_trl.runs.artifacts import read_rows
from tests.hub.actions import publish
from tests.hub.fixtures import hub_of_session, hubs, plain_hub  # noqa: F401
from tests.selection.out_of_core.data import scored_rows, write_files

NAME = "me/scored-shards"


def select(url: str, output: str) -> dict[str, int]:
    from pd_trl.selection.out_of_core import run_out_of_core

    return run_out_of_core(PDFilter(0.3), url, output, batch_rows=20, rows_per_shard=50).counts


@pytest.mark.multiprocess
def test_files_on_the_hub_are_selected_from(plain_hub, tmp_path):  # noqa: F811
    data = scored_rows(120, levels=2)
    folder = write_files(data, tmp_path / "in", 3)
    files = {f"scored/{path.name}": path for path in sorted(folder.glob("*.parquet"))}
    plain_hub.run(publish, NAME, files, repo_type="dataset")
    expected = np.sort(PDFilter(0.3)(data)["pair_id"])
    for place, url in enumerate((f"hf://datasets/{NAME}/scored/*.parquet", f"hf://datasets/{NAME}@main/scored")):
        counts = plain_hub.run(select, url, str(tmp_path / str(place)))
        assert counts == {"total": 120, "kept": 36, "dropped": 84}
        assert np.array_equal(np.sort(read_rows(tmp_path / str(place) / "selected")["pair_id"]), expected)
    plain_hub.call(select, f"hf://datasets/{NAME}/nothing/*.parquet", str(tmp_path / "none")).refused(
        "no parquet files"
    )
    plain_hub.call(select, "hf://datasets/me/no-such-data/*.parquet", str(tmp_path / "none")).refused(
        "me/no-such-data"
    )
