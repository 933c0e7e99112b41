"""Data sets: what they are, and where they come from."""

from .dataset import Dataset, Splits
from .folders import load_folder, load_splits

__all__ = ["Dataset", "Splits", "load_folder", "load_splits"]
