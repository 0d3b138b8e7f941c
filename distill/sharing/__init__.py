"""Sharing models: what leaves the computer, its card, and repositories of the Hugging Face hub to push to and pull from."""
