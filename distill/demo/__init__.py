"""Synthesised corpora: the demo corpus, and long recordings of recurring motifs."""
