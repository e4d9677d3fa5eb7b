"""Experiments about the library: a simulated world, and the benchmark."""
