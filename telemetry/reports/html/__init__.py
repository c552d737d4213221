"""A report as one HTML file that opens offline: everything it needs is inside it."""

from telemetry.reports.html.page import to_html

__all__ = ["to_html"]
