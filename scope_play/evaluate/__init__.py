"""Measuring a world against the arena, which knows what should have happened."""
