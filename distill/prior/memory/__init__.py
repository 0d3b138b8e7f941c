"""`architecture: memory`: as `frame`, with a memory in each block and retrieval, for long recordings."""
