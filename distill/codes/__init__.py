"""Codes on disk, their order as tokens, and which recordings are held out."""
