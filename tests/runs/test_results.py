import json
import math

import pytest

from pd_trl.errors import InputError
from pd_trl.runs.results import RESULTS_NAME, EvalResult, load_results, save_results

RESULT = EvalResult("AlpacaEval 2", "win_rate", 15.7, 805, standard_error=1.2, judge="a judge", settings={"seed": 1})


def test_results_come_back_from_a_folder_and_from_a_file(tmp_path):
    save_results([RESULT, RESULT], tmp_path)
    assert load_results(tmp_path) == load_results(tmp_path / RESULTS_NAME) == [RESULT, RESULT]
    assert RESULT.date and RESULT.unit == "percent"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_must_be_finite(value):
    with pytest.raises(InputError, match="'win_rate' of 'AlpacaEval 2' must be a finite number"):
        EvalResult("AlpacaEval 2", "win_rate", value, 5)


def test_a_number_without_samples_is_no_result():
    with pytest.raises(InputError, match="at least one sample, got 0"):
        EvalResult("AlpacaEval 2", "win_rate", 1.0, 0)


def test_fields_of_a_later_version_are_left_out(tmp_path):
    save_results([RESULT], tmp_path)
    records = json.loads((tmp_path / RESULTS_NAME).read_text())
    (tmp_path / RESULTS_NAME).write_text(json.dumps([{**records[0], "brand_new": 1}]))
    assert load_results(tmp_path) == [RESULT]


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"task": "t"}]', "no json", '[{"task": "t", "metric": "m", "value": 1, "num_samples": 0}]']
)
def test_other_files_are_refused_by_name(tmp_path, text):
    (tmp_path / RESULTS_NAME).write_text(text)
    with pytest.raises(InputError, match=RESULTS_NAME):
        load_results(tmp_path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=RESULTS_NAME):
        load_results(tmp_path)
