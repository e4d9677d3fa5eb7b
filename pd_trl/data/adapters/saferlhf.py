"""PKU-Alignment/PKU-SafeRLHF: which response is more helpful, and which is safer; forced choices without ties."""

import re
from collections.abc import Mapping

import pyarrow as pa

from ..columnar import from_numpy, require_columns
from ..json_columns import Problems
from ..ratings import check_codes, parse_numbers
from .base import Adapter, Converted, Options, pass_through

_SIDE = re.compile(r"^(is_)?response_([01])_(.+)$")


def _matches(fields: Mapping[str, pa.DataType]) -> bool:
    return {"prompt", "response_0", "response_1", "better_response_id"} <= set(fields)


def _preference(table: pa.Table, name: str, problems: Problems | None) -> pa.ChunkedArray:
    ids = parse_numbers(table.column(name), name, problems)
    return from_numpy(1.0 - check_codes(ids, name, (0.0, 1.0), "0 or 1, the number of the chosen response", problems))


def side_name(name: str) -> str:
    """Returns `source_a` for `response_0_source`, `is_safe_b` for `is_response_1_safe`, and other names unchanged."""
    if match := _SIDE.match(name):
        return f"{match[1] or ''}{match[3]}_{'ab'[int(match[2])]}"
    return name


def convert(table: pa.Table, options: Options) -> Converted:
    """
    Returns pairs with the aspects helpfulness and safety.

    The single-dimension variant has no `safer_response_id`: its only label is the overall one. Severity levels, harm
    categories, sources and hashes pass through as `<name>_a` and `<name>_b`.
    """
    require_columns(table, ("prompt", "response_0", "response_1", "better_response_id"), "PKU-SafeRLHF data")
    problems = options.new_problems()
    columns = {
        "prompt": table.column("prompt"),
        "response_a": table.column("response_0"),
        "response_b": table.column("response_1"),
    }
    if "safer_response_id" in table.column_names:
        columns["pref_helpfulness"] = _preference(table, "better_response_id", problems)
        columns["pref_safety"] = _preference(table, "safer_response_id", problems)
    else:
        columns["pref_overall"] = _preference(table, "better_response_id", problems)
    consumed = {"prompt", "response_0", "response_1", "better_response_id", "safer_response_id"}
    columns |= {side_name(name): column for name, column in pass_through(table, consumed).items()}
    return Converted(pa.table(columns), problems=problems or {})


ADAPTER = Adapter(
    name="saferlhf",
    hub_ids=(
        "PKU-Alignment/PKU-SafeRLHF",
        "PKU-Alignment/PKU-SafeRLHF-10K",
        "PKU-Alignment/PKU-SafeRLHF-30K",
        "PKU-Alignment/PKU-SafeRLHF-single-dimension",
    ),
    columns=("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
    matches=_matches,
    convert=convert,
    by_row=True,
)
