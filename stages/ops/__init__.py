"""What stages need around them: DVC, with its habits mended, several processes, and a summary."""
