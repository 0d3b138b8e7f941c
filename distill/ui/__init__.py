"""The web page: a view over files and commands, with no logic of its own (extra `ui`)."""
