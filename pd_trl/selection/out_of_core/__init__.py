"""Selection from more rows than memory holds: parquet files in, parquet shards out, exact, in two passes and one that writes."""

from .run import run_out_of_core, select_out_of_core

__all__ = ["run_out_of_core", "select_out_of_core"]
