"""`architecture: flat`: a transformer over flattened codes, the reference."""
