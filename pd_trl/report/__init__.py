"""The report of a selection as one HTML page that needs no network."""

from .writing import write_report

__all__ = ["write_report"]
