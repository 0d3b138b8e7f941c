"""Speed and quality beside peers, measured in the same run. `make bench` runs them all."""
