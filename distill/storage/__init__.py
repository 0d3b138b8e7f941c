"""Storage: atomic writes, shards, tables, weights, and headers of safetensors files."""
