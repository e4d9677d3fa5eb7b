"""Metrics: their arithmetic, and where their `evaluate` modules are."""

from .paths import METRICS, compute_metrics, pair_logits, path

__all__ = ["METRICS", "compute_metrics", "pair_logits", "path"]
