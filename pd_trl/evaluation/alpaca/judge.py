"""alpaca_eval's annotators as judges of comparisons."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import InputError
from ...safety.secrets import masked
from ...servers.settings import request_settings
from ..judges.base import AskingJudge, Comparison
from .annotator import Annotator, JudgeSettings


class AlpacaJudge(AskingJudge):
    """
    An annotator of alpaca_eval as a judge. It sees the outputs in the order of each comparison.

    Args:
        config (`str`): Name or folder of an annotator.
        settings: Further values of [`JudgeSettings`]; `requests` may be a mapping.
    """

    def __init__(self, config: str, **settings: Any):
        super().__init__()
        settings["requests"] = request_settings(settings.get("requests"))
        self.annotator = Annotator(JudgeSettings(config, **settings), switch_order=False)
        singles = self.annotator.singles
        if any(single.batch_size != 1 for single in singles.values()):
            raise InputError(
                f"The annotator {config} judges several comparisons in one request, so an answer depends on the "
                "others. Use one with batch_size 1."
            )
        self.name = self.annotator.name
        self.description = f"alpaca_eval's annotator {config}, asking {', '.join(self.annotator.models)}"
        self.identity = {
            "kind": "alpaca",
            "annotators": {
                name: {
                    "prompt": single.prompt_template,
                    "arguments": masked(
                        {k: v for k, v in single.completions_kwargs.items() if k not in _NOT_IDENTITY}
                    ),
                }
                for name, single in singles.items()
            },
        }

    def compare(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, float | None]]:
        """See [`Judge.compare`]."""
        rows = [{"instruction": c.instruction, "output_1": c.output_a, "output_2": c.output_b} for c in comparisons]
        answers, failures = self.annotator.answers(self.annotator.requests(rows), self.log)
        self.reasons.update(failures.values())
        try:
            annotations = self.annotator.annotate(rows, answers)
        except InputError:  # none of these answers can be read
            yield from ((i, math.nan) for i in range(len(rows)))
            return
        yield from ((i, 2.0 - row["preference"]) for i, row in enumerate(annotations))


# Settings that change no answer.
_NOT_IDENTITY = {"client_kwargs", "openai_organization_ids", "num_procs", "price_per_token"}
