"""Tones: their codes and what they sound like, their analysis, the partials they are made of, and the pitch that is heard."""
