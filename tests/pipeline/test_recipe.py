from pathlib import Path

import pytest

from pd_trl.errors import InputError
from pd_trl.pipeline.recipe import steps_of

# Each stage, and the folder that its section names.
OWN = {
    name: f"/disk/{name}"
    for name in ("simulate", "prepare", "reward", "score", "select", "report", "dpo", "generate", "judge", "publish")
}


def recipe(own):
    sections = {name: {"output_dir": folder} for name, folder in own.items()}
    return {
        "output_dir": "/run",
        **{name: sections.get(name, {}) for name in OWN},
        "generate": {"instructions": "x.json", **sections.get("generate", {})},
        "publish": {"model": "me/m", **sections.get("publish", {})},
        "compare": ["all", "random"],
        "evaluate": {"alpaca": {}, "pairwise": {}, "rewards": {}},
    }


@pytest.mark.parametrize("own", [{}, OWN, *({name: folder} for name, folder in OWN.items())])
def test_every_section_reads_the_folder_that_another_writes(own):
    usual = {"simulate": "/run/world", "generate": "/run/outputs"}
    folders = {name: own.get(name, usual.get(name, f"/run/{name}")) for name in OWN}
    by_name = {step.name: step for step in steps_of(recipe(own))}
    sections = {name: step.section for name, step in by_name.items()}
    for name in OWN:
        if name != "generate":
            assert sections[name]["output_dir"] == folders[name]
    world, outputs = folders["simulate"], folders["generate"]
    assert sections["prepare"]["dataset_name"] == f"{world}/pairs"
    assert sections["reward"]["dataset_name"] == sections["score"]["dataset_name"] == folders["prepare"]
    assert sections["reward"]["model_name_or_path"] == sections["dpo"]["model_name_or_path"] == f"{world}/model"
    assert sections["score"]["reward_models"] == sections["evaluate rewards"]["reward_models"] == folders["reward"]
    assert sections["select"]["dataset_name"] == sections["compare random: select"]["dataset_name"] == folders["score"]
    assert sections["compare all: dpo"]["dataset_name"] == folders["score"]
    assert sections["dpo"]["dataset_name"] == sections["report"]["dataset_name"] == folders["select"]
    assert sections["generate PD"]["model_name_or_path"] == folders["dpo"]
    assert sections["generate PD"]["output_dir"] == sections["evaluate alpaca"]["outputs"] == f"{outputs}/PD"
    assert sections["evaluate pairwise"]["outputs"] == sections["judge"]["outputs"]["PD"] == f"{outputs}/PD"
    publish = sections["publish"]
    assert (publish["selection_dir"], publish["reward_dir"]) == (folders["select"], folders["reward"])
    assert (publish["policy_dir"], publish["evaluation_dir"]) == (folders["dpo"], "/run/evaluate")
    # A plan knows which inputs are still to be made, wherever they are.
    assert folders["prepare"] in by_name["reward"].needs and folders["select"] in by_name["dpo"].needs


def test_an_evaluation_with_a_folder_of_its_own_is_found_when_published():
    steps = {
        step.name: step.section
        for step in steps_of({**recipe({}), "evaluate": {"alpaca": {"output_dir": "~/a"}, "pairwise": {}}})
    }
    home = str(Path("~/a").expanduser())
    assert steps["evaluate alpaca"]["output_dir"] == home
    assert steps["publish"]["evaluation_dir"] == {"alpaca": home, "pairwise": "/run/evaluate/pairwise"}


def test_the_home_of_the_user_is_one_folder():
    steps = {step.name: step.section for step in steps_of(recipe({"select": "~/sel"}))}
    assert steps["select"]["output_dir"] == steps["dpo"]["dataset_name"] == str(Path("~/sel").expanduser())


def test_a_folder_that_is_no_path_is_refused():
    with pytest.raises(InputError, match="`output_dir` of the section 'select' must be a path"):
        steps_of(recipe({"select": 3}))
