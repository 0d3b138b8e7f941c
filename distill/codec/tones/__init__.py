"""Tones: their codes and synthesis, their analysis, sets of partials, and a pitch meter."""
