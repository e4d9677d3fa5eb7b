"""Published reward models whose heads transformers does not know, read by the names of their tensors: no code of theirs runs."""

from .checkpoint import Checkpoint
from .families import FAMILIES, Family, family_of
from .loading import LoadedModel, load_published

__all__ = ["FAMILIES", "Checkpoint", "Family", "LoadedModel", "family_of", "load_published"]
