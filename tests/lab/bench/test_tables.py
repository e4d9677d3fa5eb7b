import pytest

from pd_trl.lab.bench.ablation_tables import ablation_table, difference_table
from pd_trl.lab.bench.ablations import ABLATIONS
from pd_trl.lab.bench.rows import ROWS
from pd_trl.lab.bench.tables import detection_table, full_table, gold_table, ordering_table, orderings, verdict


def cell(seed, conflict, golds, aucs=(0.8,)):
    rows = {
        name: {"gold": gold, "words": 10.0, "win_rate_SFT": 0.5, "lc_win_rate_SFT": 0.5, "win_score_SFT": 1.0,
               "num_pairs": 9, "conflict": 0.1, "chosen_longer": 0.5, "selection_seconds": 1.0, "selection_flops": 1e9,
               "training_seconds": 2.0, "training_flops": 2e9}
        for name, gold in golds.items()
    }  # fmt: skip
    detection = {"PD (ours)": {"auc": aucs[0], "conflict": 0.05, "chosen_longer": 0.6}}
    return {"settings": {"seed": seed, "conflict": conflict}, "conflict": 0.3, "rows": rows, "detection": detection}


CELLS = [
    cell(seed, level, {"SFT": 10.0, "ALL": 12.0, "PD (ours)": 12.0 + lead, "PD (high)": 9.0})
    for seed, level, lead in ((1, 0.1, 0.5), (1, 0.3, 1.5), (2, 0.1, 0.7), (2, 0.3, 1.3))
]


def test_gold_table_has_means_and_errors_over_seeds():
    table = gold_table(CELLS)
    assert "| PD (ours) | 12.60 ± 0.10 | 13.40 ± 0.10 |" in table
    assert "| SFT | 10.00 ± 0.00 | 10.00 ± 0.00 |" in table


def test_orderings_average_levels_within_a_seed_before_the_error():
    found = {entry["ordering"]: entry for entry in orderings(CELLS)}
    lead = found["PD (ours) > ALL"]
    # Seeds 1 and 2 both lead by 1.0 on average.
    assert (lead["difference"], lead["se"], lead["cells_in_order"], lead["cells"]) == (
        pytest.approx(1.0),
        pytest.approx(0.0),
        4,
        4,
    )
    growth = next(entry for name, entry in found.items() if "lead over ALL" in name)
    assert growth["difference"] == pytest.approx(0.8) and growth["se"] == pytest.approx(0.2)
    assert "PD (ours) > RAF" not in found


@pytest.mark.parametrize("difference, se, expected", [(1.0, 0.4, "appears"), (-1.0, 0.4, "reversed"), (0.5, 0.4, "not clear"),
                                                       (1.0, float("nan"), "one seed, no verdict")])  # fmt: skip
def test_verdict(difference, se, expected):
    assert verdict({"difference": difference, "se": se, "seeds": 30}) == expected


def test_verdict_of_few_seeds_asks_for_more():
    entry = {"difference": 1.0, "se": 0.3}
    assert verdict({**entry, "seeds": 3}) == "not clear" and verdict({**entry, "seeds": 5}) == "appears"


def test_tables_are_markdown_with_one_width():
    for table in (gold_table(CELLS), full_table(CELLS, 0.1), detection_table(CELLS), ordering_table(CELLS)):
        lines = table.splitlines()
        assert len({line.count("|") for line in lines}) == 1 and len(lines) > 2


def test_ablation_that_cannot_run_says_why():
    entries = [{"label": "2", **CELLS[0]}, {"label": "9", "error": "no such world | really", "settings": {"seed": 1}}]
    table = ablation_table(entries)
    assert "cannot be run: no such world / really" in table and "12.50" in table


def variant(label, seed, gold, auc, against=None, aspect=None, honesty=3.0, **others):
    entry = cell(seed, 0.3, {"SFT": 1.0, "PD (ours)": gold, **others}, (auc,))
    entry["rows"]["PD (ours)"]["gold_of_aspects"] = {"honesty": honesty}
    return {"label": label, "seed": seed, "against": against, "aspect": aspect, **entry}


def test_differences_are_within_a_seed_whatever_the_order_of_the_entries():
    # The seeds lie 10 apart; the variants differ by 1 and 2.
    entries = [
        variant("base", 1, 10.0, 0.8),
        variant("base", 2, 20.0, 0.9),
        variant("other", 2, 22.0, 0.85, against="base", aspect="honesty", honesty=3.5),
        variant("other", 1, 11.0, 0.79, against="base", aspect="honesty", honesty=3.2),
    ]
    for order in (entries, entries[::-1]):
        lines = difference_table(order).splitlines()
        assert lines[0] == "|  | against | gold score | AUC of PD | gold honesty |"
        assert "| other | base | +1.50 ± 0.50 | -0.030 ± 0.020 | +0.35 ± 0.15 |" in lines
        assert "| base | – | – | – | – |" in lines


def test_differences_from_other_policies_of_the_world():
    entries = [variant("0.3", 1, 13.0, 0.8, ALL=12.0, RAND=12.5), variant("0.3", 2, 14.0, 0.8, ALL=12.5, RAND=13.5)]
    lines = difference_table(entries).splitlines()
    assert lines[0] == "|  | PD (ours) over ALL | PD (ours) over RAND |"
    assert lines[2] == "| 0.3 | +1.25 ± 0.25 | +0.50 ± 0.00 |"
    assert difference_table([variant("0.3", 1, 13.0, 0.8)]) == ""


def test_differences_leave_out_what_could_not_be_run():
    entries = [
        variant("base", 1, 10.0, 0.8),
        variant("other", 1, 11.0, 0.8, against="base"),
        {"label": "base", "seed": 2, "error": "no such world"},
        variant("other", 2, 12.0, 0.8, against="base"),
    ]
    assert "| other | base | +1.00 | +0.000 |" in difference_table(entries)


def test_every_variant_is_compared_with_one_of_its_ablation():
    for variants in ABLATIONS.values():
        labels = [variant.label for variant in variants]
        assert len(set(labels)) == len(labels)
        assert all(variant.against in (None, *labels) and variant.against != variant.label for variant in variants)


def test_every_paper_row_is_there():
    paper = {"OVA", "AVG", "ALL", "DFPO", "RAND", "RAF", "PD (rati.)", "PD (ours)", "PD (high)", "PD (nl)"}
    assert paper <= set(ROWS)


def test_rows_of_the_same_definition_share_a_policy_and_others_do_not():
    keys = [row.key(0.3) for row in ROWS.values()]
    assert len(set(keys)) == len(keys)
    default = next(v for v in ABLATIONS["gamma"] if v.label == "0.9")
    assert ROWS["PD (ours)"].key(0.2) != ROWS["PD (ours)"].key(0.3)
    assert default.rows[0].name == "PD (ours)"
