"""Costs of the selectors, from the formulas of the plan."""

import importlib.util

import pytest

from pd_trl.method.ranking import SELECTORS
from pd_trl.pipeline.cost.formulas import forward_flops, training_flops
from pd_trl.pipeline.cost.shape import model_shape
from tests.processes import ROOT
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("rival_costs", ROOT / "scripts" / "rival_costs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_selector_has_its_parts(script):
    policy, proxy = model_shape(tiny_config()), model_shape(tiny_config(), task="reward")
    found = script.costs(policy, policy, proxy, 600, 100, 0.5, aspects=3, repeats=2, seed_pairs=60)
    by_name = {name: value for name, _, value in found if name != "difficulty"}
    difficulty = [value for name, _, value in found if name == "difficulty"]
    work, scored = script.reading(600, 100), script.reading(300, 100)
    read, learn = forward_flops(policy, work), training_flops(proxy, work, checkpointing=True)
    dpo = training_flops(policy, work, checkpointing=True, fused_head=True) + read
    assert by_name["(DPO on all pairs)"] == pytest.approx(dpo)
    assert by_name["pd, pd_high, pareto"] == pytest.approx(learn + 3 * forward_flops(proxy, scored))
    assert by_name["dcrm"] == pytest.approx(learn + forward_flops(proxy, scored) + read)
    assert by_name["bees"] == pytest.approx(learn + forward_flops(proxy, scored) + dpo / 10 + 2 * read)
    assert by_name["selective_dpo"] == pytest.approx(2 * dpo + 3 * read)
    assert difficulty == pytest.approx([2 * read, dpo + 2 * read])
    named = {name for names in by_name for name in names.replace(" (RAF)", "").split(", ")} | {"difficulty"}
    assert set(SELECTORS) <= named
