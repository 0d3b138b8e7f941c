"""`make bench ARGS=--peers`: what others train to make sounds, and what needs no training, beside Distill."""
