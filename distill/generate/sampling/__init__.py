"""Sampling of codes: the sampler, and logits processors that steer it."""
