"""The settings of a selection: names, types, defaults and ranges, for the filter, the command, files and reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

import numpy as np

from ..errors import InputError, InputTypeError
from ..method.divergence import GAMMA, MAX_WEIGHT, check_gamma, check_weights
from ..method.ranking import ON_NO_VOTES, SELECTORS, SOURCES, Selector, check_budget, parse_budget
from ..method.votes import DECORRELATED
from ..safety.schema import Check, Misfit, boolean, integer, mapping, number, optional, text
from .aspect_columns import rated_aspects, scored_aspects


def _form_of(check: Callable[[Any], None], expected: str) -> Check:
    """The form of a value in a file, checked as the method checks it."""

    def form(value: Any, where: str) -> None:
        try:
            check(value)
        except InputError:
            raise Misfit(where, expected, value) from None

    return form


def _selector(value: Any, where: str) -> None:
    """The form of a selector's name: it must be registered when the file is read."""
    text(tuple(SELECTORS))(value, where)


def _weights(value: Any, where: str) -> None:
    """Weights as given, or the name of the rule that learns them."""
    (text((DECORRELATED,)) if isinstance(value, str) else mapping(number(0, MAX_WEIGHT)))(value, where)


def _setting(default: Any, form: Check, help: str, choices: Sequence[str] | None = None) -> Any:
    listed = {"choices": list(choices)} if choices else {}
    return field(default=default, metadata={"form": form, "help": help, **listed})


@dataclass(eq=False, repr=False)
class SelectionSettings:
    """
    The settings that decide which pairs a selection keeps. [`PDFilter`] explains each; the metadata of a field holds its `help`
    for the command line and its `form` in a file.
    """

    budget: float | int = _setting(
        0.3,
        _form_of(check_budget, "a share in (0, 1] or a number of pairs"),
        "Share of the pairs to keep, such as 0.3 (1.0 is all), or their number, such as 5000.",
    )
    _: KW_ONLY
    source: str = _setting("rewards", text(SOURCES), "Gaps from rewards, ratings, or an existing column.", SOURCES)
    gamma: float = _setting(
        GAMMA,
        _form_of(check_gamma, "a quantile in (0, 1]"),
        "Quantile of the absolute gaps that becomes 1 (Eq. 13).",
    )
    weights: Mapping[str, float] | str | None = _setting(
        None,
        optional(_weights),
        "Weight of each aspect's vote: a mapping (YAML or json), with weight 1 for aspects not named; or 'decorrelated', by which "
        "aspects that say the same do not outvote the others.",
    )
    per_aspect: bool = _setting(False, boolean, "Keep the same share of each aspect's pairs.")
    selector: str = _setting("pd", _selector, f"Rule to rank by: {', '.join(SELECTORS)}.")
    margin_column: str = _setting("reward_gap_overall", text(empty=False), "Column of `selector=margin`.")
    pd_column: str = _setting("pd", text(empty=False), "Column of `source=column`.")
    min_proxy_accuracy: float | None = _setting(
        None,
        optional(number(0, 1)),
        "An aspect does not vote if its reward model is less accurate than this.",
    )
    on_no_votes: str = _setting(
        "error",
        text(ON_NO_VOTES),
        "What to do with a pair on which no other aspect votes: raise an error, or drop it with its own reason.",
        ON_NO_VOTES,
    )
    seed: int = _setting(42, integer(), "Seed of `selector=random`.")

    def check(self) -> None:
        """Converts the settings to plain types; raises `InputError` if one is out of range."""
        self.budget = parse_budget(self.budget)  # type: ignore[assignment]
        check_budget(self.budget)
        check_gamma(self.gamma)
        if self.weights != DECORRELATED:
            _check_given_weights(self.weights)
            self.weights = dict(self.given_weights)
        for name, form in FORMS.items():
            value = getattr(self, name)
            if isinstance(value, np.generic):
                value = value.item()
                setattr(self, name, value)
            if name != "weights":
                try:
                    form(value, f"`{name}`")
                except Misfit as misfit:
                    raise InputError(f"{misfit}.") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for json."""
        weights = self.weights if self.learns_weights else dict(self.given_weights)
        return {name: getattr(self, name) for name in FORMS} | {"weights": weights}

    def shown(self) -> dict[str, Any]:
        """The settings that matter to this selection. A column is included only if it is read."""
        unread = {"margin_column": "margin" in self.rule.inputs, "pd_column": self.source == "column"}
        return {name: value for name, value in self.to_dict().items() if unread.get(name, True)}

    @property
    def learns_weights(self) -> bool:
        """Whether the weights of the votes are learned from the correlation of the gaps."""
        return self.weights == DECORRELATED

    @property
    def given_weights(self) -> Mapping[str, float]:
        """The weights as given; none where they are learned."""
        return {} if isinstance(self.weights, str) or self.weights is None else self.weights

    @property
    def rule(self) -> Selector:
        """The registered selector."""
        return SELECTORS[self.selector]

    def column_of(self, name: str) -> str:
        """The column that holds an input of a selector, if the input is not computed."""
        return {"margin": self.margin_column, "pd": self.pd_column}.get(name, name)

    @property
    def needs_divergence(self) -> bool:
        """Whether the selector ranks by PD."""
        return "pd" in self.rule.inputs

    def has_divergence(self, column_names: Sequence[str]) -> bool:
        """Whether PD is computed from data with these columns: if the selector ranks by it, or the report can show it."""
        if self.source == "column":
            return False
        available = scored_aspects if self.source == "rewards" else rated_aspects
        return self.needs_divergence or bool(available(column_names) and "aspect" in column_names)


# What each setting may be in a file.
FORMS: dict[str, Check] = {entry.name: entry.metadata["form"] for entry in fields(SelectionSettings)}


def _check_given_weights(weights: Any) -> None:
    if weights is None:
        return
    if isinstance(weights, str):
        raise InputError(f"`weights` must be a dict of aspect to weight, or {DECORRELATED!r}, got {weights!r}.")
    if not isinstance(weights, Mapping):
        raise InputTypeError(
            f"`weights` must be a dict of aspect to weight, or {DECORRELATED!r}, got {type(weights).__name__}."
        )
    bad = {
        name: value
        for name, value in weights.items()
        if isinstance(value, bool) or not isinstance(value, (int, float))
    }
    if bad:
        raise InputTypeError(f"Weights must be numbers, got {bad}.")
    # An aspect that is not named has weight 1, so all named weights may be 0.
    check_weights([*weights.values(), 1.0], [*weights, ""])
