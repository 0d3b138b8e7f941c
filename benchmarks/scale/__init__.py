"""The pipeline on libraries of 1,000 to 100,000 recordings: `python -m benchmarks.scale`."""
