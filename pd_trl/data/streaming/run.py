"""[`prepare_stream`]: pairs and preferences of a source that memory need not hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..label_report import LabelReport
from ..labelling import LabelPlan
from ..opened import LoadReport, OpenedPairs, log_loaded
from ..parts import reading_parts
from ..preferences import log_labels
from .batches import BATCH_ROWS, row_batches
from .messages import summed_messages
from .pairs import PairStream
from .preferences import LabelStream


def prepare_stream(
    opened: OpenedPairs,
    folder: Path,
    scratch: Path,
    begin: Callable[[str, LoadReport, LabelPlan], None],
    *,
    labels: str | None = None,
    relabel: str | None = None,
    aspects: Any = None,
    seed: int = 42,
    write: bool = True,
    batch_rows: int = BATCH_ROWS,
) -> LabelReport:
    """
    Writes the pairs of a source into `pairs/` of a folder and their preferences into `preferences/`: the same rows, ids and counts
    as of [`load_pairs`] and [`to_preferences`]. Memory holds some batches, and a few bytes of each pair.

    Args:
        opened ([`OpenedPairs`]): The source.
        folder (`Path`): An empty folder.
        scratch (`Path`): Another one, for what is needed meanwhile.
        begin (callable): Called with the digest of the pairs, the report of what was read, and how pairs are labelled, before
            preferences are made.
        labels (`str`, *optional*), relabel (`str`, *optional*), aspects (sequence of `str`, *optional*), seed (`int`, *optional*):
            See [`to_preferences`].
        write (`bool`, *optional*, defaults to `True`): Whether preferences are written, and not only counted.
        batch_rows (`int`, *optional*): Most rows of the source at a time.

    Raises:
        NeedsWholeError: Where the rows must be read together.
        InputError: On rows and arguments that cannot be used. On the whole data, the message may be another.
    """
    with reading_parts():
        pairs, chosen = PairStream(opened, folder / "pairs", scratch), LabelStream(labels, relabel, aspects, seed)
        with summed_messages() as messages:
            for table in pairs.tables(row_batches(opened.source.dataset, batch_rows), messages):
                chosen.add(table)
            pairs.finish()
        assert pairs.report is not None
        log_loaded(pairs.report)
        assigned = chosen.assign(pairs)
        assert chosen.plan is not None
        begin(pairs.digest(), pairs.report, chosen.plan)
        with summed_messages() as messages:
            report = chosen.write(pairs, assigned, folder / "preferences" if write else None, messages)
        log_labels(report)
        return report
