"""A metric for `evaluate.load`; its script has the folder's name."""
