"""A kit: an instrument for samplers, made of sounds that a model draws."""
