"""Gradient rules for `fit`."""
