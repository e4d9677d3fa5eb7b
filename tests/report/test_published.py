import shutil

import pytest

from pd_trl.publishing.selection import Layout
from pd_trl.report.writing import read_selection
from pd_trl.runs.artifacts import Manifest
from tests.report.data import scored_set, selection_folder


@pytest.mark.parametrize("settings", [{"budget": 1.0}, {"budget": 0.5, "margin_column": "/home/me/margin"}])
def test_a_selection_is_whole_as_it_was_published(tmp_path, settings):
    """Neither the shard of an empty part nor a path of this machine is published, and neither is missed."""
    selection_folder(scored_set(30), tmp_path / "select", **settings)
    layout = Layout(tmp_path / "select")
    published = tmp_path / "published"
    for name, path in layout.shards().items():
        (published / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, published / name)
    for name, content in layout.documents().items():
        (published / name).write_bytes(content)
    manifest = Manifest.load(published)
    assert manifest is not None and set(manifest.files) == set(layout.shards())
    manifest.check_files(published)
    assert len(read_selection(published).decided) == 30
