"""The folder that `tools/gpu/record.py` writes: raw readings of one GPU under known loads.

docs/import.md lists its files, what is kept and what is refused. A folder is read whole or refused whole.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from telemetry.errors import ImportRefused
from telemetry.importers.base import ReadOptions, Recording, Trace
from telemetry.importers.cells import POWER_MW, STORED_MOST, CellError
from telemetry.importers.stamps import StampReader, parse_start_ns
from telemetry.model import Device, Reading, Run

DEVICE, PHASES, READINGS, SUMMARY = "device.json", "phases.json", "readings.npz", "summary.json"
FILES = (DEVICE, PHASES, READINGS, SUMMARY)
SIGNALS = ("instant_mw", "average_mw", "energy_mj", "memory_temp_c")
_PARTS = ("", "_code", "_stamp_us")
_NAMES = ("before_ns", "after_ns", *(f"{signal}{part}" for signal in SIGNALS for part in _PARTS))
_DATED_BY_NS = 10_000_000_000  # of the recording: later the wall clock may have been set

Ints = NDArray[np.int64]
Table = Mapping[str, Ints]


def is_record(path: Path) -> bool:
    """Return whether a path is such a folder, or one of its files."""
    return path.is_dir() or path.name in FILES


def read_record(path: Path, options: ReadOptions) -> Recording:
    """Read a folder of readings, by its own path or that of one of its files, into memory; nothing is written.

    Its clock is CLOCK_MONOTONIC, dated by the driver's own stamps; `options.start` dates a recording whose
    driver gave none. Raises ImportRefused, with the file, the row or line and what to do.
    """
    folder = path if path.is_dir() else path.parent
    raw = {name: _bytes(folder / name) for name in FILES}
    told = {name: _json(folder / name, raw[name]) for name in (DEVICE, PHASES, SUMMARY)}
    place = folder / READINGS
    table = _table(place, raw[READINGS])
    polls = len(table["before_ns"])
    if told[SUMMARY].get("polls") != polls:
        raise ImportRefused(
            f"{folder / SUMMARY} speaks of {told[SUMMARY].get('polls')} polls and {READINGS} has {polls}: they are "
            "of different recordings, or one was not written to its end. Put the right files together."
        )
    sha256 = hashlib.sha256(b"".join(raw[name] for name in FILES)).hexdigest()
    offset_ns = _offset_ns(place, table, options)
    device = _device(told[DEVICE], table, uid=f"import:{sha256[:12]}:0")
    if device.energy_path is None:
        raise ImportRefused(f"{place} has neither a power nor an energy in any row: there is nothing to import.")
    readings = _readings(table, offset_ns)
    return Recording(
        path=folder,
        sha256=sha256,
        format="record",
        tz_given=True,
        traces=(Trace(device=device, readings=readings, sensors=()),),
        runs=_runs(folder / PHASES, told[PHASES], device, sha256, offset_ns),
        notes=tuple(_notes(told[PHASES], readings)),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImportRefused(
            f"{path} cannot be read: {error.strerror}. A recording is a folder with {', '.join(FILES)}; the last "
            "two are written when it ends, so without them it was broken off: record again."
        ) from error


def _json(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        told = json.loads(raw)
    except json.JSONDecodeError as error:
        raise ImportRefused(
            f"{path}: line {error.lineno}: it is no JSON ({error.msg}). Copy the file again."
        ) from error
    except UnicodeDecodeError as error:
        raise ImportRefused(f"{path} is no text ({error.reason}). Copy the file again.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or as many brackets
        raise ImportRefused(f"{path} holds what no recorder writes ({error}). Copy the file again.") from error
    try:
        orjson.dumps(told)
    except orjson.JSONEncodeError as error:
        raise ImportRefused(f"{path} holds what cannot be stored ({error}). Copy the file again.") from error
    if not isinstance(told, dict):
        raise ImportRefused(f"{path}: line 1: a JSON object is expected. Is it the file of another program?")
    return told


def _table(path: Path, raw: bytes) -> Table:
    """Return the columns, each (n,) int64, n ≥ 1, calls one after the other."""
    try:
        with np.load(BytesIO(raw), allow_pickle=False) as archive:
            table = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ImportRefused(f"{path} is no NumPy archive, or cut or damaged ({error}). Copy it again.") from error
    if missing := [name for name in _NAMES if name not in table]:
        raise ImportRefused(f"{path} has no column {', '.join(missing)}. Is it the file of another program?")
    rows = len(table["before_ns"]) if table["before_ns"].ndim == 1 else 0
    for name in _NAMES:
        if table[name].dtype != np.int64 or table[name].shape != (rows,) or not rows:
            raise ImportRefused(
                f"{path}: column {name} has type {table[name].dtype} and shape {table[name].shape}, where the "
                "same number of 64-bit integers is due in each, one at least. Is it the file of another program?"
            )
    _refuse_rows(path, "its call ends before it begins", table["after_ns"] < table["before_ns"])
    early = np.append(False, table["before_ns"][1:] < table["after_ns"][:-1])
    _refuse_rows(path, "its call begins before the one above has ended, so time ran backwards", early)
    for signal in SIGNALS[:3]:
        _refuse_rows(path, f"{signal} is negative, and not the −1 that stands for none", table[signal] < -1)
    for signal in SIGNALS[:2]:
        _refuse_rows(path, f"{signal} is more than any device draws", table[signal] > POWER_MW.most)
    for signal in SIGNALS:
        _refuse_rows(
            path, f"{signal} is stamped after the year 2261", table[f"{signal}_stamp_us"] > STORED_MOST // 1000
        )
    return table


def _refuse_rows(path: Path, reason: str, wrong: NDArray[np.bool_]) -> None:
    if wrong.any():
        raise ImportRefused(
            f"{path}: row {int(wrong.argmax())}, counted from 0: {reason}. The file is damaged: copy it, or record, "
            "again. Nothing was imported."
        )


def _offset_ns(path: Path, table: Table, options: ReadOptions) -> int:
    """Return what has to be added to the recording's clock for it to tell the time since 1970, ns.

    A stamp is at most the end of its call, whether it dates the call or the reading, so the largest difference
    is the closest.
    """
    after_ns = table["after_ns"]
    early = after_ns - after_ns[0] <= _DATED_BY_NS
    stamped = [
        table[f"{s}_stamp_us"][use] * 1000 - after_ns[use]
        for s in SIGNALS
        if (use := early & (table[f"{s}_code"] == 0) & (table[f"{s}_stamp_us"] > 0)).any()
    ]
    if stamped and options.start is not None:
        raise ImportRefused(f"{path} has times of its own: leave --start out.")
    if stamped:
        return max(int(found.max()) for found in stamped)
    if options.start is None:
        raise ImportRefused(f"{path} has no time since 1970: the driver stamped no reading. Give --start TIME.")
    try:
        return parse_start_ns(options.start, StampReader(options.tz)) - int(table["before_ns"][0])
    except CellError as error:
        raise ImportRefused(f"--start: {error}.") from error


def _device(told: Mapping[str, Any], table: Table, *, uid: str) -> Device:
    has = {signal: bool(((table[f"{signal}_code"] == 0) & (table[signal] > 0)).any()) for signal in SIGNALS}
    name = _text(told, "name") or "GPU (imported)"
    limit_mw = told.get("limit_mw")
    return Device(
        uid=_text(told, "uuid") or uid,
        name=name,
        index=0,
        simulated=name.endswith("(simulated)"),
        integral_of="instant" if has["instant_mw"] else "average" if has["average_mw"] else None,
        has_counter=has["energy_mj"],
        driver=_text(told, "driver"),
        vbios=_text(told, "vbios"),
        power_limit_mw=limit_mw if type(limit_mw) is int and limit_mw > 0 else None,
    )


def _text(told: Mapping[str, Any], key: str) -> str | None:
    """Return what the driver said of itself; None for the sentence that stands where it refused."""
    value = told.get(key)
    return None if not isinstance(value, str) or value.startswith("error: ") else value


def _readings(table: Table, offset_ns: int) -> tuple[Reading, ...]:
    values = {}
    reasons: list[list[str]] = [[] for _ in table["before_ns"]]
    for signal in SIGNALS:
        code, value = table[f"{signal}_code"], table[signal]
        name = {"instant_mw": "power_instant", "average_mw": "power_average"}.get(signal, signal.rpartition("_")[0])
        zero = (value == 0) & (signal != "memory_temp_c")  # a powered board never draws 0 W, nor has drawn 0 J
        absent = (code != 0) | zero | (value == -1) & (signal != "memory_temp_c")
        for row in np.flatnonzero(absent):
            why = f"nvml_{code[row]}" if code[row] else "zero" if zero[row] else "range"
            reasons[row].append(f"{name}:{why}")
        values[signal] = [None if gone else v for v, gone in zip(value.tolist(), absent.tolist(), strict=True)]
    before, after = table["before_ns"].tolist(), table["after_ns"].tolist()
    return tuple(
        Reading(
            t_ns=(before[row] + after[row]) // 2 + offset_ns,
            latency_ns=after[row] - before[row],
            power_instant_mw=values["instant_mw"][row],
            power_average_mw=values["average_mw"][row],
            energy_mj=values["energy_mj"][row],
            memory_temp_c=values["memory_temp_c"][row],
            missing=tuple(reasons[row]),
        )
        for row in range(len(before))
    )


def _runs(
    path: Path, told: Mapping[str, Any], device: Device, sha256: str, offset_ns: int
) -> tuple[tuple[Run, int], ...]:
    phases = told.get("phases")
    if not isinstance(phases, list):
        raise ImportRefused(f"{path} has no list of phases. Is it the file of another program?")
    runs = []
    for number, phase in enumerate(phases):
        try:
            about = dict(phase)
            name, t0_ns, t1_ns = str(about.pop("name")), int(about.pop("t0_ns")), int(about.pop("t1_ns"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ImportRefused(
                f"{path}: phase {number}, counted from 0, has not a name, a t0_ns and a t1_ns: {error}. Record again."
            ) from error
        if t1_ns <= t0_ns:
            raise ImportRefused(f"{path}: phase {number} ({name}) ends before it begins. Record again.")
        run = Run(
            uid=f"{number:04x}{sha256[:28]}",
            start_ns=t0_ns + offset_ns,
            name=name,
            experiment=f"record {sha256[:12]}",
            runner="record",
            position=number,
            settings={**about, "loaded": bool(told.get("loaded"))},
            devices=(device.uid,),
        )
        runs.append((run, t1_ns + offset_ns))
    return tuple(runs)


def _notes(phases: Mapping[str, Any], readings: tuple[Reading, ...]) -> list[str]:
    notes = []
    if not phases.get("loaded"):
        notes.append("No load was run, for torch with CUDA was missing: all phases were recorded without one.")
    fields = {"INSTANT": "power_instant_mw", "AVERAGE": "power_average_mw", "the counter": "energy_mj"}
    for name, field in fields.items():
        gone = sum(getattr(reading, field) is None for reading in readings)
        if gone:
            notes.append(f"{gone} of {len(readings)} values of {name} are missing.")
    return notes
