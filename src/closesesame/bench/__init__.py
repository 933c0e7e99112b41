"""Grids: one recipe in, evidence out, nothing lost."""
