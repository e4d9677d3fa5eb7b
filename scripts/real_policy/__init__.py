"""What `scripts/bench_policy.py` is made of: pairs and arms, training, measures, cells on disk, tables, generations."""
