"""The measurements of bench_speed.py."""
