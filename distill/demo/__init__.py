"""The demo corpus, synthesised."""
