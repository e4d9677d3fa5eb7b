"""Reward models of aspects: configuration, trainer and results."""
