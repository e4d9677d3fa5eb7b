"""Pairs and preferences of sources that memory need not hold, read in parts and written to shards."""

from .run import prepare_stream

__all__ = ["prepare_stream"]
