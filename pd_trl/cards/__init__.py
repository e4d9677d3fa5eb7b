"""Cards of data sets and models: from plain facts to a complete README.md with its YAML."""

from ..hub.readme import BEGIN, END, merge_section, outside_text, split_readme
from .dataset import dataset_card, size_category
from .facts import ConfigFacts, DatasetFacts, ExampleFacts, ModelFacts, ProxyFacts, SourceFacts
from .model import model_card
from .text import Safe, cell, code
from .text import render as render_section

__all__ = [
    "BEGIN",
    "END",
    "ConfigFacts",
    "DatasetFacts",
    "ExampleFacts",
    "ModelFacts",
    "ProxyFacts",
    "Safe",
    "SourceFacts",
    "cell",
    "code",
    "dataset_card",
    "merge_section",
    "model_card",
    "outside_text",
    "render_section",
    "size_category",
    "split_readme",
]
