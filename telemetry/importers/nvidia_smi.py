"""`nvidia-smi --query-gpu=… --format=csv`, as it is printed and as its users reshape it.

docs/import.md lists what is read and what is refused. A file is read whole or refused whole.
"""

from itertools import islice
from pathlib import Path

from telemetry.errors import ImportRefused, UsageError
from telemetry.importers.base import ReadOptions, Recording, Trace
from telemetry.importers.cells import CellError, unit_of
from telemetry.importers.gpus import Identity, find_identity, is_index, rows_per_loop
from telemetry.importers.layout import Layout, lay_out
from telemetry.importers.stamps import StampReader, in_range_ns, parse_start_ns
from telemetry.importers.table import Table, open_table, refused
from telemetry.importers.text import TextFile, read_text
from telemetry.importers.traces import RowReader, TraceBuilder

_SAMPLE_ROWS = 2_000  # looked at to learn whose row is whose
_MOST_PLAUSIBLE_MW = 2_500_000  # a mean above 2500 W for one GPU is mW in disguise


def read_nvidia_smi(path: Path, options: ReadOptions) -> Recording:
    """Read a file of `nvidia-smi --query-gpu` into memory; nothing is written.

    Stamps without an offset are local times of `options.tz`; without that they are read as UTC, and
    `Recording.tz_given` is False. Raises ImportRefused, with the line and what to do, for a file that cannot
    be read without guessing, and UsageError for an option that names what does not exist.
    """
    _check(options)
    text = read_text(path)
    try:
        return _read(text, options)
    except ImportRefused as error:
        raise ImportRefused(f"{path}: {error}") from error


def _check(options: ReadOptions) -> None:
    if options.gpus is not None and options.gpus < 1:
        raise UsageError(f"--gpus is {options.gpus}; a loop has one row or more.")
    if options.interval_s is not None and not 0 < options.interval_s < float("inf"):
        raise UsageError(f"--interval is {options.interval_s}, which is no time between two rows, s.")


def _read(text: TextFile, options: ReadOptions) -> Recording:
    table = open_table(text, options)
    table.check_end()
    layout = lay_out(table.columns, options)
    sample = [cells for _, cells in islice(table.rows(), _SAMPLE_ROWS)]
    if not sample:
        raise ImportRefused("it has a header and no rows: there is nothing to import.")
    gathering = _Gathering(layout, find_identity(table.columns, sample), options)
    for number, cells in table.rows():
        try:
            gathering.add(cells)
        except CellError as error:
            raise refused(number, error) from error
    _refuse_doubts(gathering, layout, sample, options)
    return Recording(
        path=text.path,
        sha256=text.sha256,
        format="nvidia-smi",
        tz_given=gathering.zone_is_known(),
        traces=gathering.traces(text.sha256),
        notes=tuple(gathering.notes(table)),
    )


class _Gathering:
    """Hands each row to its device."""

    def __init__(self, layout: Layout, identity: Identity, options: ReadOptions) -> None:
        self.identity = identity
        self.builders: dict[str, TraceBuilder] = {}
        self.early_ns: list[int] = []
        self._layout = layout
        self._options = options
        self._stamps = StampReader(options.tz)
        self._reader = RowReader(layout)
        self._key_column = identity.column
        self._time = layout.at("timestamp")
        self._start_ns = 0
        self._first_key = ""
        self._rows = 0
        self._loop_began = 0  # the row that the last loop began with
        if self._time is None:
            if options.interval_s is None:
                raise ImportRefused(
                    "there is no time column (timestamp): give --interval S, the seconds between two rows of "
                    "one GPU, and --start TIME."
                )
            if options.start is not None:
                self._start_ns = parse_start_ns(options.start, self._stamps)
        elif options.interval_s is not None or options.start is not None:
            raise ImportRefused("the file has times of its own: leave --interval and --start out.")

    def add(self, cells: list[str]) -> None:
        """Take the next row. Raises CellError."""
        if self._key_column is None:
            key = str(self._rows % (self._options.gpus or 1))
        else:
            key = cells[self._key_column.position]
        builder = self.builders.get(key)
        if builder is None:
            self.identity.check(key)
            self._first_key = self._first_key or key
            builder = self.builders[key] = TraceBuilder(self._reader, cells)
        if self._time is not None:
            t_ns = self._stamps.t_ns(cells[self._time])
        else:
            since_ns = min(builder.rows * (self._options.interval_s or 0) * 1e9, 2.0**63)
            t_ns = in_range_ns(self._start_ns + round(since_ns))
        builder.add(t_ns, cells)
        if len(self.early_ns) < _SAMPLE_ROWS:
            self.early_ns.append(t_ns)
        if key == self._first_key:
            self._loop_began = self._rows
        self._rows += 1

    def zone_is_known(self) -> bool:
        """Return whether every time came with a zone, or one was named for those that did not."""
        if self._time is None and self._options.start is None:
            return False
        return self._options.tz is not None or not self._stamps.saw_naive

    def traces(self, sha256: str) -> tuple[Trace, ...]:
        """Return the devices' traces, by index."""
        found = []
        for key, index in self._indices().items():
            uid = key if self.identity.uuid else f"import:{sha256[:12]}:{index}"
            found.append(self.builders[key].build(self._layout, uid=uid, index=index))
        return tuple(sorted(found, key=lambda trace: trace.device.index))

    def _indices(self) -> dict[str, int]:
        if self.identity.index is not None:
            position = self.identity.index.position
            cells = {key: builder.first[position] for key, builder in self.builders.items()}
            if all(is_index(cell) for cell in cells.values()) and len(set(map(int, cells.values()))) == len(cells):
                return {key: int(cell) for key, cell in cells.items()}
        return {key: order for order, key in enumerate(self.builders)}

    def notes(self, table: Table) -> list[str]:
        """Return what the user should know about how the file was read."""
        notes = [self.identity.note] if self.identity.note else []
        if table.repeated_headers:
            notes.append(f"{table.repeated_headers} repeated header lines were passed over.")
        if repeated := sum(builder.repeated for builder in self.builders.values()):
            notes.append(f"{repeated} rows were replaced by the next row of the same GPU with the same time.")
        in_last = self._rows - self._loop_began
        if in_last < len(self.builders):
            notes.append(f"The last loop is cut: it has {in_last} of {len(self.builders)} GPUs.")
        if self._time is None and self._options.start is None:
            notes.append("No --start was given: the first row was placed at 1970-01-01T00:00:00Z.")
        elif not self.zone_is_known():
            notes.append("The times have no zone and no --tz was given: they were read as UTC.")
        elif self._options.tz is not None and self._stamps.saw_aware and not self._stamps.saw_naive:
            notes.append(f"The times carry their own offsets, so --tz {self._options.tz} was not used.")
        for key, index in self._indices().items():
            notes.extend(self.builders[key].notes(self._layout, index))
        return notes


def _refuse_doubts(gathering: _Gathering, layout: Layout, sample: list[list[str]], options: ReadOptions) -> None:
    builders = gathering.builders.values()
    unnamed = gathering.identity.column is None
    count = rows_per_loop(gathering.early_ns) if unnamed and options.gpus is None else 1
    if count > 1 and layout.at("timestamp") is not None:
        raise ImportRefused(
            f"rows come in bunches of about {count} with (nearly) the same time, and no column (uuid, index, "
            f"pci.bus_id) says which GPU a row is of. Give --gpus {count} if these are {count} GPUs in turn, or "
            "--gpus 1 if it is one GPU polled faster than its times tell."
        )
    if options.gpus is not None and options.gpus != len(builders):
        raise ImportRefused(f"it has rows of {len(builders)} GPUs, and --gpus says {options.gpus}. Correct it.")
    if not any(builder.has_values(layout) for builder in builders):
        names = ", ".join(column.name for column in layout.preferred) or "the counter"
        raise ImportRefused(f"every value of {names} is missing or 0: there is no power to import.")
    for column in layout.unitless:
        mean_mw = max(builder.mean_mw(column) for builder in builders)
        in_cells = any(unit_of(cells[column.position]) for cells in sample)
        if mean_mw > _MOST_PLAUSIBLE_MW and not in_cells:
            raise ImportRefused(
                f"{column.name} names no unit, and its mean is {mean_mw / 1e3:.0f}: as watts more than any "
                "GPU draws, so probably mW. Say which with --power-unit mW (or --power-unit W)."
            )
