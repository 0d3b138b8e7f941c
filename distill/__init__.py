"""Distill learns a generative model of a musician's own sounds."""

__version__ = "0.1.0"
