"""db upgrade: a store of an older version, brought up to date."""

from pathlib import Path

from telemetry.cli.common import StoreOption, say
from telemetry.settings import load_settings


def upgrade(store: StoreOption = None) -> None:
    """Bring a store of an older version up to date; the old file is kept beside it."""
    from telemetry.errors import StoreError
    from telemetry.storage import schema

    path = Path(load_settings({"store": store}).store).expanduser().resolve()
    if not path.exists():
        raise StoreError(f"There is no store at {path}. Name another with --store or TELEMETRY_STORE.")
    done = schema.upgrade(path)
    if done is None:
        say(f"{path} is up to date (revision {schema.HEAD}).")
    else:
        say(f"{path} was of revision {done[0]} and is now of {schema.HEAD}. As it was, it is kept as {done[1]}.")
