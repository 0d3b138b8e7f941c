"""`architecture: frame`: a transformer over frames and a small depth network over the levels of each."""
