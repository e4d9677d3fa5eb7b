"""What `scripts/bench_real.py` is made of: sets and folds, proxies, cached cells, agreement with its intervals, tables, figures."""
