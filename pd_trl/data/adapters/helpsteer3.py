"""nvidia/HelpSteer3, preference configuration: a conversation, two responses and an overall preference."""

import pyarrow as pa

from ..chat import wrap_text
from ..columnar import require_columns
from ..ratings import strength_preference
from ..sided import rename, to_sides
from .base import Adapter, Converted, Options, has_columns, pass_through

_COLUMNS = ("context", "response1", "response2", "overall_preference")


def convert(table: pa.Table, options: Options) -> Converted:
    """Returns pairs with an overall label and no aspect labels. Negative strengths prefer response 1."""
    require_columns(table, _COLUMNS, "HelpSteer3 preference data")
    problems = options.new_problems()
    columns = {
        "prompt": table.column("context"),
        "response_a": wrap_text(table.column("response1"), "assistant"),
        "response_b": wrap_text(table.column("response2"), "assistant"),
        "pref_overall": strength_preference(table.column("overall_preference"), "overall_preference", problems),
    }
    rest = pass_through(table, {"context", "response1", "response2", *columns})
    columns |= rename(rest, to_sides(rest, [("1", "2")], columns))
    return Converted(pa.table(columns), problems=problems or {})


ADAPTER = Adapter(
    name="helpsteer3",
    hub_ids=("nvidia/HelpSteer3",),
    columns=_COLUMNS,
    matches=has_columns(*_COLUMNS),
    convert=convert,
    by_row=True,
)
