"""Exact selection from more rows than memory holds: two passes read parquet files, a third writes parquet shards."""

from .run import run_out_of_core, select_out_of_core

__all__ = ["run_out_of_core", "select_out_of_core"]
