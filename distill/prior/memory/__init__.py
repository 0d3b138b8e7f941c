"""`architecture: memory`: `frame` plus a memory in each block and retrieval, for long recordings."""
