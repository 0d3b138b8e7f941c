"""Generation with a model: sampling, rejection of drafts, scores and loops, and reports on the sounds."""
