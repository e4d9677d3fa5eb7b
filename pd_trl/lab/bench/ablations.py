"""Ablations and sensitivities: what each varies, and the policies that are trained for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .rows import PD, ROWS, Row
from .settings import DEFAULT_PROXY, HEADS, NO_LENGTH, QUOTED, ProxySettings

_WORLD_ROWS = ("PD (ours)", "ALL", "RAND")
_DEFAULT = "the default: decorrelate, tau=1, all of D_k, width 64"
# The losses that differ in strength at one beta, and the betas that each is trained with.
_LOSS_ROWS = ("ALL", "DFPO, beta/kappa", "ALL, robust", "ALL, WPO", "RAND", "PD (ours)")
BETAS = (3.2, 1.0, 0.32, 0.1, 0.032)
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Variant:
    """
    One point of an ablation.

    Args:
        label (`str`): What it is, for tables.
        rows (`tuple` of [`Row`]): Policies to train.
        world (`dict`): Fields of [`CellSettings`] that differ from the benchmark's.
        against (`str`, *optional*): Label of the variant of the same ablation that it is compared with, seed by seed.
        aspect (`str`, *optional*): Aspect whose gold reward is compared too.
    """

    label: str
    rows: tuple[Row, ...]
    world: Mapping[str, Any] = field(default_factory=dict)
    against: str | None = None
    aspect: str | None = None


def _row(name: str, **selection: Any) -> Row:
    return Row(name, "ablation", name, replace(PD, **selection))


def _compared(against: str, *variants: Variant) -> list[Variant]:
    return [variant if against == variant.label else replace(variant, against=against) for variant in variants]


def _proxies(*variants: ProxySettings) -> list[Variant]:
    named = (
        Variant(_DEFAULT if proxy == DEFAULT_PROXY else proxy.name, (_row("PD (ours)", proxy=proxy),))
        for proxy in variants
    )
    return _compared(_DEFAULT, *named)


def _worlds(name: str, values: tuple[Any, ...], rows: tuple[str, ...] = _WORLD_ROWS, **also: Any) -> list[Variant]:
    return [Variant(str(value), tuple(ROWS[row] for row in rows), {name: value, **also}) for value in values]


def _budgets() -> list[Variant]:
    return [
        Variant(f"{budget:g}", (_row("PD (ours)", budget=budget), _row("RAND", selector="random", budget=budget)))
        for budget in BUDGETS
    ]


def _strengths() -> list[Variant]:
    return [
        Variant(f"{beta:g}", tuple(replace(ROWS[name], loss={**ROWS[name].loss, "beta": beta}) for name in _LOSS_ROWS))
        for beta in BETAS
    ]


def _lengths(length_bias: float) -> list[Variant]:
    proxies = (
        NO_LENGTH,
        ProxySettings("balanced, tau=1", 0.0, "none", 1.0),
        ProxySettings("balanced, tau=0.3", 0.0, "none", 0.3),
        ProxySettings("balanced half and half", 0.0, "none", math.inf),
        replace(QUOTED, name="penalty 0.001, tau=1"),
        ProxySettings("penalty 0.2, tau=1", 0.2),
        ProxySettings("residual 0.05, tau=1", 0.05, "residual"),
        ProxySettings("residual 0.1, tau=1", 0.1, "residual"),
        ProxySettings("residual 0.3, tau=1", 0.3, "residual"),
        ProxySettings("auto, tau=1", "auto"),
        DEFAULT_PROXY,
    )
    return [replace(variant, world={"length_bias": length_bias}) for variant in _proxies(*proxies)]


ABLATIONS: dict[str, list[Variant]] = {
    "budget (lambda)": _budgets(),
    "gamma": _compared(
        "0.9",
        *(
            Variant(f"{gamma:g}", (_row("PD (ours)", settings={"gamma": gamma}),))
            for gamma in (0.5, 0.7, 0.9, 0.99, 1.0)
        ),
    ),
    "strength (beta)": _strengths(),
    "length handling, bias 0.1": _lengths(0.1),
    "length handling, bias 0.3": _lengths(0.3),
    "share of D_k (p_r)": _proxies(
        *(replace(DEFAULT_PROXY, name=f"p_r={share:g}", train_share=share) for share in (0.1, 0.25, 0.5)), DEFAULT_PROXY
    ),
    "proxy width": _proxies(
        *(replace(DEFAULT_PROXY, name=f"width {width}", hidden_size=width) for width in (16, 32, 128)), DEFAULT_PROXY
    ),
    "one backbone with heads": _proxies(HEADS, DEFAULT_PROXY),
    "aspects (kappa)": _worlds("num_aspects", (2, 3, 4, 6, 8)),
    "annotators' noise": _worlds("noise", (0.0, 0.3, 0.6, 1.2, 2.4)),
    "annotators' length bias": _worlds("length_bias", (0.0, 0.1, 0.3, 0.6), (*_WORLD_ROWS, "PD (nl)")),
    "trade-off of aspects": _worlds("tradeoff", (0.0, 0.4, 0.8), conflict=None),
    "adversarial annotator": _worlds("adversarial", (None, "honesty")),
    "broken proxy": _compared(
        "all in order",
        Variant("all in order", (_row("PD (ours)"),)),
        *(
            Variant(f"{change}{suffix}", (_row("PD (ours)", change=change, settings=settings),))
            for change in ("shuffled proxy", "length proxy", "inverted proxy")
            for suffix, settings in (("", {}), (", weight 0", {"weights": {"helpfulness": 0.0}}))
        ),
    ),
    "beyond the paper": _compared(
        "PD",
        Variant("PD", (_row("PD (ours)"),)),
        Variant("honesty weighs 3", (_row("PD (ours)", settings={"weights": {"honesty": 3.0}}),), aspect="honesty"),
        Variant("ensemble of 3, shrunk", (_row("PD (ours)", change="ensemble"),)),
        *(
            Variant(label, (_row("PD (ours)", change=change, source="column", settings={"pd_column": "pd_changed"}),))
            for label, change in (
                ("calibrated votes", "calibrated"),
                ("own aspect votes too", "with own aspect"),
                ("within each prompt", "covers prompts"),
            )
        ),
        Variant("same share of each aspect", (_row("PD (ours)", settings={"per_aspect": True}),)),
    ),
    "second round": _compared(
        "resampled",
        *(
            Variant(kind, (replace(ROWS["PD (ours)"], second_round=kind),))
            for kind in ("same", "resampled, random", "resampled")
        ),
    ),
}  # fmt: skip
