"""Choice among several drafts of a sound, by a critic that distinguishes drafts from recordings."""
