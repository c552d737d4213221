"""`python -m telemetry.cli`: the same as the command."""

from telemetry.cli import main

main()
