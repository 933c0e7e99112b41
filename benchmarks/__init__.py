"""Recipes, measurements and results; `python -m benchmarks` lists what can be run."""
