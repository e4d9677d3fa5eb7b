"""The rows of the paper's table, and those that its readers asked for: what each trains on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from ...runs.artifacts import digest_of
from ...selection.filter import PDFilter
from .cell import Cell, Cost
from .changes import CHANGES
from .settings import DEFAULT_PROXY, NO_LENGTH, QUOTED, UNIFIED, ProxySettings


@dataclass(frozen=True)
class Selection:
    """
    Which pairs a row keeps.

    Args:
        selector (`str`, *optional*, defaults to `"pd"`): See [`PDFilter`].
        source (`str`, *optional*, defaults to `"rewards"`): `"rewards"` or `"ratings"`.
        proxy ([`ProxySettings`], *optional*): Proxies whose gaps are read.
        settings (`dict`, *optional*): Other arguments of [`PDFilter`].
        budget (`float`, *optional*): Share to keep. `None` is the benchmark's.
        change (`str`, *optional*): What is done to the gaps before, a key of [`CHANGES`].
    """

    selector: str = "pd"
    source: str = "rewards"
    proxy: ProxySettings = DEFAULT_PROXY
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: float | None = None
    change: str | None = None

    @property
    def reads_proxies(self) -> bool:
        """Whether the gaps of proxies play a part."""
        return self.source != "ratings" and self.selector != "random"


@dataclass(frozen=True)
class Row:
    """
    One row of a table.

    Args:
        name (`str`): Its name.
        group (`str`): Group of the paper's table, or `"check"`.
        selection ([`Selection`], *optional*): Pairs to train on. `None` is all.
        labels (`str`, *optional*): `None`, each pair's aspect; or `"overall"`, `"mean"`, `"truth"`.
        loss (`dict`, *optional*): Arguments of [`PDDPOConfig`] that differ; `"robust"`'s `label_smoothing` may be the
            string `"conflict"`, the true share of contradicting labels.
        note (`str`): What it trains on, for people.
        second_round (`str`, *optional*): A second training, see [`~bench.rounds.second_round`].
    """

    name: str
    group: str
    note: str
    selection: Selection | None = None
    labels: str | None = None
    loss: Mapping[str, Any] = field(default_factory=dict)
    second_round: str | None = None

    def key(self, budget: float) -> str:
        """Digest of what decides the row's policy within its cell, its name not among it."""
        selection = asdict(self.selection) if self.selection is not None else {}
        if self.selection is not None and not self.selection.reads_proxies:
            del selection["proxy"]
        elif selection and not selection["proxy"]["heads"]:
            del selection["proxy"]["heads"]  # the key of a folder that was begun without it
        return digest_of([selection, budget, self.labels, dict(self.loss), self.second_round])


PD = Selection()
RANDOM = Selection("random")

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("OVA", "FULL", "all pairs, labelled by the overall annotator", labels="overall"),
        Row("OVA, no error", "bound", "all pairs, labelled by the gold overall reward", labels="truth"),
        Row("AVG", "FULL", "all pairs, labelled by the mean of the aspects' ratings", labels="mean"),
        Row("ALL", "FULL", "all pairs with their single-aspect labels"),
        Row("DFPO", "FULL", "ALL with the PD term in the loss (Eq. 4), with beta as given: kappa times as strong",
            loss={"pd_loss": "dfpo", "pd_divide_beta": False}, selection=Selection(budget=1.0)),
        Row("DFPO, beta/kappa", "FULL", "ALL with the PD term in the loss (Eq. 4), as strong as ALL",
            loss={"pd_loss": "dfpo"}, selection=Selection(budget=1.0)),
        Row("RAND", "SELT", "a random share of ALL", RANDOM),
        Row("RAF", "SELT", "largest margin of one reward model trained on ALL", Selection("margin", proxy=UNIFIED)),
        Row("PD (rati.)", "SELT", "lowest PD, from the ratings of all aspects", Selection(source="ratings")),
        Row("PD (ours)", "SELT", "lowest PD, from proxy rewards", PD),
        Row("PD (high)", "ablation", "highest PD", Selection("pd_high")),
        Row("PD (nl)", "ablation", "lowest PD, proxies without length handling", Selection(proxy=NO_LENGTH)),
        Row("PD (quoted)", "ablation", "lowest PD, proxies with the length penalty of Eq. 16 and 17, rho = 0.001",
            Selection(proxy=QUOTED)),
        Row("OVA on PD", "check", "PD's pairs, labelled by the overall annotator", PD, labels="overall"),
        Row("OVA on RAND", "check", "RAND's pairs, labelled by the overall annotator", RANDOM, labels="overall"),
        Row("ALL, robust", "check", "ALL with TRL's `robust` loss, told the true share of conflict",
            loss={"loss_type": ["robust"], "label_smoothing": "conflict"}),
        Row("ALL, WPO", "check", "ALL with TRL's `use_weighting`", loss={"use_weighting": True}),
    )
}  # fmt: skip
QUICK_ROWS = ("OVA", "AVG", "ALL", "RAND", "RAF", "PD (rati.)", "PD (ours)", "PD (high)", "PD (nl)")


def training_rows(cell: Cell, row: Row) -> tuple[Dataset, Cost]:
    """The pairs that a row trains on, with its labels, and what choosing them cost."""
    rows, cost = cell.preferences, Cost()
    if row.selection is not None:
        rows, cost = select(cell, row.selection)
    if row.labels is not None:
        ids = set(rows["pair_id"])
        relabelled = cell.relabelled(row.labels)
        rows = relabelled.select([i for i, name in enumerate(relabelled["pair_id"]) if name in ids])
    return rows, cost


def select(cell: Cell, selection: Selection) -> tuple[Dataset, Cost]:
    """The kept pairs of a selection, and what proxies and scoring cost."""
    decided, cost = decide(cell, selection)
    return decided.select(np.flatnonzero(decided["pd_kept"])), cost


def decide(cell: Cell, selection: Selection) -> tuple[Dataset, Cost]:
    """All pairs with `pd` and `pd_kept` of a selection, and what proxies and scoring cost."""
    rows, cost = cell.preferences, Cost()
    if selection.reads_proxies:
        rows, cost = cell.scored(selection.proxy)
    if selection.change is not None:
        rows, extra = CHANGES[selection.change](cell, rows)
        cost = cost + extra
    budget = cell.bench.budget if selection.budget is None else selection.budget
    pd_filter = PDFilter(
        budget, selector=selection.selector, source=selection.source, seed=cell.settings.seed, **selection.settings
    )  # fmt: skip
    return pd_filter.fit_transform(rows), cost
