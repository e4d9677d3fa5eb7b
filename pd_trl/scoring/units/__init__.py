"""Scoring of parquet files unit by unit, by this process, several processes, or Ray's actors."""

from .folder import UnitFolder
from .plan import Plan, Unit, parquet_files, plan_units
from .run import FilesToScore, score_files

__all__ = [
    "FilesToScore",
    "Plan",
    "Unit",
    "UnitFolder",
    "parquet_files",
    "plan_units",
    "score_files",
]
