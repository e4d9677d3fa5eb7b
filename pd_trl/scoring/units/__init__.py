"""Scoring of parquet files unit by unit, by this process, several processes, or Ray's actors."""

from .folder import UnitFolder
from .on_ray import import_ray
from .plan import Plan, Unit, parquet_files, plan_units
from .run import ENGINES, FilesToScore, score_files

__all__ = [
    "ENGINES",
    "FilesToScore",
    "Plan",
    "Unit",
    "UnitFolder",
    "import_ray",
    "parquet_files",
    "plan_units",
    "score_files",
]
