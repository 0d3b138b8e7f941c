"""Operations around stages: DVC and repairs of its files, several processes, and a summary."""
