"""The command line: one file a command. Results to stdout, words to stderr."""

import sys


def main() -> None:
    """Run the command line; errors are one sentence, and the exit code says which kind."""
    from telemetry.cli.app import app
    from telemetry.errors import TelemetryError, UsageError

    try:
        app()
    except UsageError as error:
        print(f"telemetry: {error}", file=sys.stderr)  # noqa: T201  Typer may not be up yet
        sys.exit(2)
    except TelemetryError as error:
        print(f"telemetry: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
