"""Results for people and programs: table, JSON, CSV, Markdown."""

from telemetry.reports.flat import list_csv, to_csv, window_csv
from telemetry.reports.render import (
    list_markdown,
    list_table,
    to_json,
    to_markdown,
    to_table,
    window_markdown,
    window_table,
)
from telemetry.reports.requests import requests_csv, requests_markdown, requests_table
from telemetry.reports.schema import schema
from telemetry.reports.wording import format_number, interval

__all__ = [
    "format_number",
    "interval",
    "list_csv",
    "list_markdown",
    "list_table",
    "requests_csv",
    "requests_markdown",
    "requests_table",
    "schema",
    "to_csv",
    "to_json",
    "to_markdown",
    "to_table",
    "window_csv",
    "window_markdown",
    "window_table",
]
