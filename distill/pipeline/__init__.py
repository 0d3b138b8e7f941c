"""The pipeline, wired once: for the stages, `distill train` and the benchmarks."""
