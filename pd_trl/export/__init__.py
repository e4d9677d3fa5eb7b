"""Preferences in the form that another trainer reads, with the part of its configuration that names them."""

from .run import ExportResult, export_preferences
from .targets import TARGETS

__all__ = ["TARGETS", "ExportResult", "export_preferences"]
