"""Requests for sounds, one module a kind, and the loop that generates drafts until they are accepted."""
