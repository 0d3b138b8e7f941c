"""Web page: a view of files and commands, without logic of its own (extra `ui`)."""
