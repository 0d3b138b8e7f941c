"""Whether a memory does what it is for, from measurements made here and now: behind `make check-memory`."""
