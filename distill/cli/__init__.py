"""The `distill` command: flags, commands and what they print."""
