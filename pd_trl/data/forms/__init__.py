"""
Forms in which preference data come, read into the columns that the adapters know.

Each form is a module with a function that takes a table, and returns it with some columns in another form. What it cannot read whole
becomes null, and the row is marked with a reason.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa

from ..json_columns import Problems
from . import messages, nested, prompt_column, transcripts
from .paths import flatten_paths

Form = Callable[[pa.Table, Mapping[str, str], Problems], pa.Table]
# In this order: a prompt's column is found by what the responses are.
FORMS: dict[str, Form] = {
    "messages": messages.read,
    "transcripts": transcripts.read,
    "prompt column": prompt_column.read,
    "nested ratings": nested.read,
}


def read_forms(table: pa.Table, mapping: Mapping[str, str] | None) -> tuple[pa.Table, Problems]:
    """
    Returns a source's table in the forms that adapters read, and the rows that cannot be read whole, by reason.

    Args:
        table (`pa.Table`):
            Rows of the source.
        mapping (`Mapping[str, str]`, *optional*):
            Our names to the names in the source; a name with dots is a path into a column.
    """
    problems: Problems = {}
    names = dict(mapping or {})
    table = flatten_paths(table, names.values())
    for form in FORMS.values():
        table = form(table, names, problems)
    return table, problems


__all__ = ["FORMS", "Form", "read_forms"]
