"""Whose energy makes a run's figure: devices of one boundary, unless all are asked for."""

from collections.abc import Sequence

from telemetry.storage.reader import StoredDevice

# The first of which a run has devices is its boundary. A module takes the place of its GPU.
ORDER = (("gpu-board", "module"), ("cpu-package",), ("dram",), ("wall",))


def headline(devices: Sequence[StoredDevice], *, all_boundaries: bool = False) -> list[StoredDevice]:
    """Return those of a run's devices whose energies are summed.

    all_boundaries: all but a meter at the wall, behind which the others are.
    """
    if all_boundaries:
        behind = [d for d in devices if d.boundary != "wall"]
        return behind or list(devices)
    each = ([d for d in devices if d.boundary in boundaries] for boundaries in ORDER)
    return next((some for some in each if some), [])


def named(devices: Sequence[StoredDevice]) -> str | None:
    """Return what the energy of devices covers together."""
    return "+".join(sorted({d.boundary for d in devices})) or None
