"""Making a store, and refusing a file that is none or of another version."""

import fcntl
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Connection, create_engine

from telemetry.errors import StoreError
from telemetry.storage import migrations

APPLICATION_ID = 0x544C4D54  # "TLMT", so that `file` and we know our own
HEAD = "0003"


def migrate(connection: Connection, revision: str = "head") -> None:
    """Bring an open store to a revision; `base` empties it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    if revision == "base":
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def create(path: Path) -> None:
    """Make an empty store at `path`, whole or not at all; one that has appeared meanwhile is left alone.

    Raises StoreError where the folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(f"sqlite:///{draft}")
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
                migrate(connection)
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        finally:
            engine.dispose()
        with suppress(FileExistsError):  # another process was first: its store serves as well
            path.hardlink_to(draft)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(_no_place(path, str(error))) from error
    except Exception as error:
        if "unable to open" in str(error) or "readonly" in str(error):
            raise StoreError(_no_place(path, "no permission to write there")) from error
        raise
    finally:
        with suppress(NotADirectoryError):  # the folder is a file: said above, and there is no draft
            draft.unlink(missing_ok=True)


def upgrade(path: Path) -> tuple[str, Path] | None:
    """Bring a store of an older version up to date; return that version and where the old file is kept.

    None where it is up to date. The work is done on a copy that then takes the store's place: a crash leaves one or
    the other. Raises StoreError for what is no store, is of a newer version, or is being written to.
    """
    check(path)
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.2)) as old:
        found = old.execute("SELECT version_num FROM alembic_version").fetchone()
        revision = str(found[0]) if found else "none"
        if revision == HEAD:
            return None
        if revision > HEAD:
            check_revision(str(path), revision)
        draft, kept = path.with_name(f".{path.name}.{os.getpid()}.new"), path.with_name(f"{path.name}.{revision}")
        try:
            if old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise sqlite3.OperationalError("another process has it open")
            old.execute("PRAGMA locking_mode=EXCLUSIVE")
            old.execute("BEGIN EXCLUSIVE")  # nobody writes between the copy and its taking the place
            old.execute("COMMIT")
            old.execute("VACUUM INTO ?", (str(draft),))
            engine = create_engine(f"sqlite:///{draft}")
            with engine.begin() as connection:
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
                migrate(connection)
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            engine.dispose()
            kept.hardlink_to(path)
            draft.replace(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{path} cannot be brought up to date: {error}. It was left as it was: stop what uses it, and see that "
                f"its folder has room for a second copy and holds no {kept.name}."
            ) from error
        finally:
            draft.unlink(missing_ok=True)
    return revision, kept


def put_in_place(draft: Path, path: Path) -> bool:
    """Make a whole store the one at `path` where there is none; return whether it was needed. The draft is gone."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two processes may find the same store gone
        if path.exists():
            return False
        with sqlite3.connect(draft) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        for log in (f"{path}-wal", f"{path}-shm"):  # of the file that is gone: SQLite would apply them to this one
            Path(log).unlink(missing_ok=True)
        draft.rename(path)
        return True
    finally:
        os.close(folder)
        draft.unlink(missing_ok=True)


def _no_place(path: Path, why: str) -> str:
    return f"No store can be made at {path}: {why}. Name another place with --store or TELEMETRY_STORE."


def check(path: Path) -> None:
    """Refuse a file that is not a store of this version, without changing it. Raises StoreError."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder. A store is one file: name it with --store.")
    with path.open("rb") as file:
        head = file.read(72)
    if head[:16] != b"SQLite format 3\0" or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise StoreError(
            f"{path} is not a telemetry store: it is another kind of file and was left untouched. "
            "Name another place with --store."
        )


def check_revision(path: str, revision: str | None) -> None:
    """Refuse a store of another version. Raises StoreError."""
    if revision == HEAD:
        return
    if revision is None or revision < HEAD:
        raise StoreError(
            f"{path} was made by an older version (revision {revision or 'none'}, this one writes {HEAD}). "
            "Bring it up to date with `telemetry db upgrade`, or start a new store with --store."
        )
    raise StoreError(
        f"{path} was made by a newer version (revision {revision}, this one knows {HEAD}). "
        "Upgrade telemetry to read it."
    )
