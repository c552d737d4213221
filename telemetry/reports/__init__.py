"""Results for people and programs: table, JSON, CSV, Markdown."""
