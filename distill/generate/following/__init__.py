"""Contours of a recording, and logits processors that make sampling follow them."""
