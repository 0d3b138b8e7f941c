"""The synthesised corpora: the demo, and recordings of motifs that return."""
