"""Reports: each one page, or a folder of them, that works without a network."""

from .pages.comparison import Entry, Report, Sound, report_html, write_report

__all__ = ["Entry", "Report", "Sound", "report_html", "write_report"]
