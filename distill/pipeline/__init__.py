"""The training pipeline, shared by the stages, `distill train` and the benchmarks."""
