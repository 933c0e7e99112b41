"""Measurements that are no grid, one a file: `python -m benchmarks NAME`; each writes a result file."""

from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
RECIPES = Path(__file__).parents[1] / "recipes"
