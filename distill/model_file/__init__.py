"""The `.distill` model file: format, building, card, inspect and verify."""
