"""Data: loading preference datasets as pairs, and turning pairs into preferences."""

from .adapters import ADAPTERS
from .label_report import LabelReport, label_report
from .loading import LoadReport, load_pairs, read_pairs
from .plain import as_preferences
from .preferences import effective_labels, effective_relabel, prepare_preferences, to_preferences
from .sources import load_source, require_dataset
from .validation import OVERALL, RESERVED_ASPECTS, aspects_of, check_pairs, check_preferences, is_chat

__all__ = [
    "ADAPTERS",
    "OVERALL",
    "RESERVED_ASPECTS",
    "LabelReport",
    "LoadReport",
    "as_preferences",
    "aspects_of",
    "check_pairs",
    "check_preferences",
    "effective_labels",
    "effective_relabel",
    "is_chat",
    "label_report",
    "load_pairs",
    "load_source",
    "prepare_preferences",
    "read_pairs",
    "require_dataset",
    "to_preferences",
]
