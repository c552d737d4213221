"""The documented views, one SQL file each, in the order in which they build on each other."""

from importlib.resources import files

NAMES = (
    "v_reading",
    "v_vitals",
    "v_run",
    "v_request",
    "token",
    "v_run_energy",
    "v_run_efficiency",
    "v_run_best",
    "v_ranking",
)


def statement(name: str) -> str:
    """Return the CREATE VIEW statement of a view."""
    return f"CREATE VIEW {name} AS\n{files(__name__).joinpath(name + '.sql').read_text(encoding='utf-8')}"
