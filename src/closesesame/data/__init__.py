"""Data sets: what they are, and where they come from."""

from .dataset import Dataset, Splits
from .folders import Read, load_folder, load_splits, read_folder, read_splits
from .report import ReadingReport
from .unlabelled import ReadAudio, read_audio

__all__ = [
    "Dataset",
    "Read",
    "ReadAudio",
    "ReadingReport",
    "Splits",
    "load_folder",
    "load_splits",
    "read_audio",
    "read_folder",
    "read_splits",
]
