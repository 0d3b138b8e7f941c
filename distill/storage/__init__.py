"""What lies on disk: atomic writes, shards, tables, weights, and headers of safetensors files."""
