"""Each row of the tables of docs/data-forms.md is what it says."""

import json
import re
from pathlib import Path

import pytest
from datasets import Dataset

from pd_trl.data import load_pairs
from pd_trl.errors import InputError

PAGE = (Path(__file__).parents[2] / "docs" / "data-forms.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|`]+) \| `(\{.+?\})` \| `(.+?)` \|$", PAGE, re.MULTILINE)


def test_every_row_of_the_page_is_found():
    assert len(ROWS) == sum(line.startswith("| ") and not line.startswith("| form") for line in PAGE.splitlines()) > 25


@pytest.mark.parametrize(("form", "row", "outcome"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_becomes_what_the_page_says(form, row, outcome, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{row}\n", encoding="utf-8")
    for source in (path, Dataset.from_list([json.loads(row)])):
        if outcome.startswith("{"):
            expected = json.loads(outcome)
            pair = load_pairs(source)[0]
            assert {key: pair[key] for key in expected} == expected
        else:
            with pytest.raises(InputError, match=re.escape(outcome)):
                load_pairs(source)
