"""A filter's settings with the statistics of its fit, and the file that holds both."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..errors import InputError
from ..hub import local_file
from ..method.ranking import Threshold, check_budget, parse_budget
from ..method.votes import vote_weights
from ..models.sidecar import proxy_metrics_of
from ..runs.artifacts import write_json
from ..safety.secrets import masked
from .filter_file import FILTER_NAME, read_filter
from .model_gaps import ModelGaps
from .report import SelectionReport
from .settings import SelectionSettings

Filter = TypeVar("Filter", bound="FittedFilter")


@dataclass(eq=False, repr=False)
class FittedFilter(SelectionSettings):
    """
    [`PDFilter`] without the data: settings, reward models, and the statistics of a fit, in memory or out of core.

    Args:
        reward_models (`dict` or `str`, *optional*): A reward model for each aspect, or one name for all outputs of a model.
        proxy_metrics (`dict`, *optional*): Held-out metrics of each aspect's reward model.
        output_dir (`str`, *optional*): Folder for the shards of scored pairs.
        chat (`bool`, *optional*, defaults to `False`): Whether strings are scored as messages.
    """

    reward_models: Mapping[str, Any] | str | None = None
    proxy_metrics: Mapping[str, Mapping[str, float]] | None = None
    output_dir: str | os.PathLike | None = None
    chat: bool = False

    def __post_init__(self) -> None:
        self.check()
        self.proxy_metrics = {name: dict(metrics) for name, metrics in (self.proxy_metrics or {}).items()}
        # Of the reward models behind gap columns, as `pd-trl score` recorded it.
        self.recorded_outputs: Mapping[str, Mapping[str, Any]] = {}
        self.models = ModelGaps(self.reward_models if self.source == "rewards" else None, self.output_dir, self.chat)
        self.aspects_: list[str] | None = None
        self.quantiles_: dict[str, float] = {}
        self.weights_: dict[str, float] | None = None
        self.proxy_metrics_: dict[str, Mapping[str, float]] = {}
        self.thresholds_: dict[str, Threshold] | None = None
        self.report_: SelectionReport | None = None

    def measured(self) -> dict[str, Mapping[str, float]]:
        """The held-out metrics of the reward models: those given, and those found in the models' folders."""
        return {**proxy_metrics_of(self.models.reward_models), **(self.proxy_metrics or {})}

    def outputs_read(self) -> dict[str, Mapping[str, Any]]:
        """What is read of each reward model: its output of several, its sign and its scale, where there is something to say."""
        if not self.models.reward_models:
            return dict(self.recorded_outputs)
        from ..models.outputs import read_outputs

        return {**self.recorded_outputs, **read_outputs(self.models.reward_models)}

    def vote_weights(self, names: Sequence[str], *, warn: bool = False) -> NDArray[np.float64]:
        """Weights of the votes according to the settings, shape `(num_aspects,)`; see [`~method.votes.vote_weights`]."""
        return vote_weights(names, self.given_weights, self.measured(), self.min_proxy_accuracy, warn)

    def weights_of(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Weights of the votes in the fit, shape `(num_aspects,)`."""
        if self.weights_ is None:  # a file of an earlier version
            return self.vote_weights(names)
        return np.array([self.weights_[name] for name in names])

    def set_statistics(
        self,
        names: Sequence[str],
        scale: NDArray[np.float32],
        weights: NDArray[np.float64],
        thresholds: Mapping[str, Threshold],
    ) -> None:
        """
        Sets the statistics of a fit.

        Args:
            names (sequence of `str`): Aspects that vote; none where there is no PD.
            scale (array of shape `(num_aspects,)`): Scales of their gaps (Eq. 13).
            weights (array of shape `(num_aspects,)`): Weights of their votes.
            thresholds (`dict`): The last pair kept, of all pairs or of each aspect.
        """
        self.aspects_ = list(names) or None
        self.quantiles_ = dict(zip(names, map(float, scale), strict=True))
        self.weights_ = dict(zip(names, map(float, weights), strict=True)) if names else None
        self.thresholds_ = dict(thresholds)
        self.proxy_metrics_ = self.measured()

    def save(self, path: str | os.PathLike) -> None:
        """Writes settings, statistics and report to a json file."""
        if self.thresholds_ is None:
            raise InputError("The filter is not fitted: call `fit` before `save`.")
        # The loaded filter has no reward models, only their metrics.
        arguments = masked({**self.to_dict(), "proxy_metrics": self.proxy_metrics_})
        statistics = {
            "aspects": self.aspects_,
            "quantiles": self.quantiles_,
            "weights": self.weights_,
            "thresholds": {name: asdict(threshold) for name, threshold in self.thresholds_.items()},
        }
        report = self.report_.to_dict() if self.report_ is not None else None
        write_json(path, {"pd_trl": __version__, "arguments": arguments, "statistics": statistics, "report": report})

    @classmethod
    def load(cls: type[Filter], path: str | os.PathLike, *, budget: float | int | None = None) -> Filter:
        """
        The filter that `save` wrote, ready to `transform`.

        Args:
            path (`str`):
                The file, the folder of `pd-trl select` that holds it, or the Hub id of a published selection, with or
                without a revision (`"me/uf-scored@v1"`).
            budget (`float` or `int`, *optional*):
                Another budget. The filter must then be fitted again, on rows that have gaps. The rows of the
                configuration `scored` have gaps, so no model is needed.

        Raises:
            InputError: If there is no such file, or it holds anything that `save` does not write.
        """
        content = read_filter(local_file(path, FILTER_NAME))
        statistics, report = content["statistics"], content["report"]
        loaded = cls(**content["arguments"])
        loaded.aspects_, loaded.quantiles_ = statistics["aspects"], statistics["quantiles"]
        loaded.thresholds_ = {name: Threshold(**values) for name, values in statistics["thresholds"].items()}
        loaded.weights_, loaded.proxy_metrics_ = statistics.get("weights"), dict(loaded.proxy_metrics or {})
        loaded.report_ = SelectionReport(report) if report is not None else None
        if budget is not None:
            loaded.budget = parse_budget(budget)  # type: ignore[assignment]
            check_budget(loaded.budget)
            loaded.thresholds_ = loaded.report_ = None
        return loaded
