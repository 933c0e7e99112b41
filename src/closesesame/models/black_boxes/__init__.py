"""Models that are files of other programs, run as they are: ONNX and TFLite."""

from .body import FILES, BlackBox, FileBody, adapt_file, load_file

__all__ = ["FILES", "BlackBox", "FileBody", "adapt_file", "load_file"]
