"""Benchmarks of speed and quality against peers, measured in the same run: `make bench`."""
