"""Acceptance of the prior's memory by measurement: `make check-memory`."""
