"""The sheet that a judge fills in: a value for each response (or each pair in either order) on each aspect."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray

from .questions import POINTWISE, Question, plain_text, preference_question, rating_question
from .rubric import RatedAspect, Rubric


class Shown(NamedTuple):
    """
    What a judge is shown for a row of a sheet.

    Args:
        pair_id (`str`): The first pair that has it.
        place (`int`): The side there, or the side that is shown first.
        prompt (`str`): What is answered.
        responses (sequence of `str`): The response, or both in order.
    """

    pair_id: str
    place: int
    prompt: str
    responses: Sequence[str]

    def question(self, rated: RatedAspect, reverse: bool = False) -> Question:
        """The question on an aspect."""
        about, side = f"{rated.name} of {self.pair_id}", "ab"[self.place]
        if len(self.responses) == 1:
            return rating_question(rated, self.prompt, self.responses[0], f"{about}, response {side}", reverse)
        first, second = self.responses
        return preference_question(rated, self.prompt, first, second, f"{about}, {side} first")


class Sheet:
    """
    Values of rows by aspects. Pointwise, a row is a distinct response to a prompt, and its value a rating. Pairwise, a row is a pair
    in one order, and its value the preference for the response shown first. In either case the gap of a pair, side a minus side b,
    is the value of its first row minus that of its second one.

    Args:
        pairs ([`~datasets.Dataset`]): Pairs.
        rubric ([`Rubric`]): The aspects.
        mode (`str`): `"pointwise"` or `"pairwise"`.
    """

    def __init__(self, pairs: datasets.Dataset, rubric: Rubric, mode: str = POINTWISE):
        self.rubric, self.mode = rubric, mode
        self.pair_ids = [str(value) for value in pairs["pair_id"][:]]
        self.prompts = [plain_text(prompt) for prompt in pairs["prompt"][:]]
        sides = [[plain_text(text) for text in pairs[f"response_{side}"][:]] for side in "ab"]
        self.responses: list[tuple[str, str]] = list(zip(*sides, strict=True))
        # Row to the first pair (and side or order) that has it.
        self.first: list[tuple[int, int]] = []
        self.rows: NDArray[np.int64] = self._distinct() if mode == POINTWISE else self._both_orders()
        self.values: NDArray[np.float64] = np.full((len(self.first), len(rubric.aspects)), np.nan)
        same = np.array([a == b for a, b in self.responses], dtype=bool)
        if mode != POINTWISE:
            # Equal responses are a tie that nobody needs to be asked about.
            self.values[self.rows[same]] = 0.5
        self.same = same

    def _distinct(self) -> NDArray[np.int64]:
        row_of: dict[tuple[str, str], int] = {}
        rows = np.empty((len(self.prompts), 2), dtype=np.int64)
        for pair, (prompt, both) in enumerate(zip(self.prompts, self.responses, strict=True)):
            for side, response in enumerate(both):
                row = row_of.setdefault((prompt, response), len(row_of))
                rows[pair, side] = row
                if row == len(self.first):
                    self.first.append((pair, side))
        return rows

    def _both_orders(self) -> NDArray[np.int64]:
        self.first = [(pair, order) for pair in range(len(self.prompts)) for order in (0, 1)]
        return np.arange(len(self.first)).reshape(-1, 2)

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""
        return len(self.prompts)

    @property
    def num_aspects(self) -> int:
        """Number of aspects."""
        return len(self.rubric.aspects)

    def gaps(self, values: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Gap of each pair on each aspect, side a minus side b, NaN where it is not known, shape `(num_pairs, num_aspects)`."""
        values = self.values if values is None else values
        return values[self.rows[:, 0]] - values[self.rows[:, 1]]

    def sides(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ratings of side a and of side b, each of shape `(num_pairs, num_aspects)`; pairwise, the shares that prefer them."""
        first, second = self.values[self.rows[:, 0]], self.values[self.rows[:, 1]]
        if self.mode == POINTWISE:
            return first, second
        preferred = (first + 1 - second) / 2
        return preferred, 1 - preferred

    def open_cells(self, cells: NDArray[np.bool_] | None = None) -> Iterator[tuple[int, int]]:
        """
        Row and aspect of each value that is not known, those of one row together.

        Args:
            cells (boolean array of the shape of the values, *optional*): Those to fill in. `None` is all.
        """
        wanted = np.isnan(self.values) if cells is None else cells & np.isnan(self.values)
        yield from map(tuple, np.argwhere(wanted).tolist())

    def question(self, row: int, aspect: int, reverse: bool = False) -> Question:
        """The question that gives a value."""
        return self.shown(row).question(self.rubric.aspects[aspect], reverse)

    def shown(self, row: int) -> Shown:
        """What a judge is shown for a row."""
        pair, place = self.first[row]
        both = self.responses[pair]
        texts = [both[place]] if self.mode == POINTWISE else [both[place], both[1 - place]]
        return Shown(self.pair_ids[pair], place, self.prompts[pair], texts)
