"""Which GPUs are meant: `--gpus` and CUDA_VISIBLE_DEVICES, as a plain decision over what exists."""

from collections.abc import Mapping, Sequence

from telemetry.errors import SourceUnavailable, UsageError

_MIG = (
    "{entry} is a slice of a GPU (MIG). Power and energy exist for the whole GPU only, so what a slice draws "
    "cannot be measured. Name the GPU itself with --gpus."
)


def choose_gpus(gpus: str, environ: Mapping[str, str], uuids: Sequence[str]) -> list[int]:
    """Return the positions in `uuids` of the GPUs that are meant.

    gpus: "all", or positions and UUIDs (a beginning that fits one only is enough) between commas.
    "all" honours CUDA_VISIBLE_DEVICES, read as CUDA reads it: up to its first entry that names no GPU. Its
    numbers are taken in the driver's order, which is CUDA's own under CUDA_DEVICE_ORDER=PCI_BUS_ID or where
    all GPUs are alike.
    Raises UsageError for a GPU that does not exist or a MIG slice, SourceUnavailable when
    CUDA_VISIBLE_DEVICES leaves none.
    """
    if gpus.strip() != "all":
        return _named(gpus, uuids)
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for entry in visible.split(","):
        found = _find(entry.strip(), uuids)
        if found is None or found in chosen:
            break
        chosen.append(found)
    if not chosen:
        raise SourceUnavailable(
            f"CUDA_VISIBLE_DEVICES={visible!r} leaves none of the {len(uuids)} GPUs here visible. "
            "Unset it, or name the GPUs to measure with --gpus, which goes before it."
        )
    return chosen


def _named(gpus: str, uuids: Sequence[str]) -> list[int]:
    chosen: list[int] = []
    for entry in gpus.split(","):
        found = _find(entry.strip(), uuids)
        if found is None:
            here = ", ".join(f"{i} ({uuid})" for i, uuid in enumerate(uuids))
            raise UsageError(
                f"--gpus names {entry.strip()!r}, which is not one GPU here. There are: {here}. "
                "Write all, or numbers and UUIDs between commas."
            )
        if found not in chosen:
            chosen.append(found)
    return chosen


def _find(entry: str, uuids: Sequence[str]) -> int | None:
    if entry.upper().startswith("MIG"):
        raise UsageError(_MIG.format(entry=entry))
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.upper().startswith("GPU-"):
        return None
    fitting = [i for i, uuid in enumerate(uuids) if uuid.lower().startswith(entry.lower())]
    return fitting[0] if len(fitting) == 1 else None
