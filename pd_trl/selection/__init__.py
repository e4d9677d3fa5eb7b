"""Which pairs to keep: gaps, the filter, its reasons and its report."""
