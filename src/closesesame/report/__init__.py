"""The report: one page that works without a network, for those who decide and those who check."""

from .pages.comparison import Entry, Report, Sound, render, write

__all__ = ["Entry", "Report", "Sound", "render", "write"]
