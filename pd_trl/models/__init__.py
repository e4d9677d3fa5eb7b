"""Models: heads, adapters, loading, and what a model can read."""
