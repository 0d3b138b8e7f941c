"""`distill` command: flags, commands and their output."""
