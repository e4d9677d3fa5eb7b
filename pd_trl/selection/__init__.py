"""Which pairs to keep: gaps, the filter, its decision and its report."""
