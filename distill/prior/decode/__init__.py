"""Fast step-by-step decoders of the priors, each held to the forward pass of its network by tests."""
