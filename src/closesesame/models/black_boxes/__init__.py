"""Models that are files of other programs, run as they are: ONNX and TFLite."""

from .body import FileBody
from .files import FILES, adapt_file, load_file
from .ports import BlackBox

__all__ = ["FILES", "BlackBox", "FileBody", "adapt_file", "load_file"]
