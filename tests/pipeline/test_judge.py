import pytest

from pd_trl.errors import InputError
from pd_trl.pipeline.stages.judge import JudgeArguments, run_judge


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/b", "a\\b", ".hidden", "results", "manifest", ""])
def test_a_policy_whose_name_is_no_file_of_the_stage_is_refused(tmp_path, name):
    arguments = JudgeArguments(
        world=str(tmp_path), policies={"PD": str(tmp_path), name: str(tmp_path)}, output_dir=str(tmp_path / "judge")
    )
    with pytest.raises(InputError, match="`policies` cannot name a file"):
        run_judge(arguments)
