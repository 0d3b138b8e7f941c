"""Reading recordings, finding duplicates among them, and synthesising the demo corpus."""
