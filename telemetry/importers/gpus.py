"""Whose row is it? Found from the values of a file's columns, not from the columns' names alone."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from telemetry.importers.cells import CellError, is_nothing
from telemetry.importers.columns import Column

_MOST_GPUS = 64
_INDICES = frozenset(map(str, range(_MOST_GPUS)))
_INDEX_NAMES = ("index", "gpu_index", "gpu")  # in the order of trust where the values decide nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The columns that tell one GPU's rows from another's; None: the file has none."""

    uuid: Column | None
    index: Column | None
    bus_id: Column | None
    note: str | None = None

    @property
    def column(self) -> Column | None:
        """The column whose cells name the GPU of a row."""
        return self.uuid or self.index or self.bus_id

    def check(self, cell: str) -> None:
        """Raise CellError when a cell of that column names no GPU."""
        if self.column is None:
            return
        if is_nothing(cell):
            raise CellError(f"{self.column.name} is {cell!r}: nothing says which GPU the row is of")
        if self.column is self.index and not is_index(cell):
            raise CellError(f"{self.column.name} is {cell!r}, which is no GPU's number")


def find_identity(columns: tuple[Column, ...], sample: list[list[str]]) -> Identity:
    """Return which column names the GPU of a row: the UUID, else the one whose values go round, else the bus ID.

    sample: the cells of the first rows. Users rename columns, and a column called `index` has been seen to
    hold a utilisation; so of several candidates the one is taken whose distinct small integers repeat in one
    fixed order, the longest such round first.
    """
    uuid, bus_id = (
        next((c for c in columns if c.known == name and not _all_nothing(c, sample)), None)
        for name in ("uuid", "pci.bus_id")
    )
    candidates = [
        column for name in _INDEX_NAMES for column in columns if column.known == name and _holds_indices(column, sample)
    ]
    if uuid is not None or len(candidates) < 2:
        return Identity(uuid=uuid, index=candidates[0] if candidates else None, bus_id=bus_id)
    rounds = [_round([cells[column.position] for cells in sample]) for column in candidates]
    chosen = candidates[rounds.index(max(rounds))]  # the first of equals
    if chosen is candidates[0]:
        return Identity(uuid=None, index=chosen, bus_id=bus_id)
    note = (
        f"GPUs were told apart by the column {chosen.name}, whose values go round over {max(rounds)}, "
        f"and not by {candidates[0].name}, which does not number the rows of a loop."
    )
    return Identity(uuid=None, index=chosen, bus_id=bus_id, note=note)


def rows_per_loop(t_ns: list[int]) -> int:
    """Return how many GPUs the spacing of the rows suggests: 1 unless rows come in regular bunches.

    t_ns: the stamps of the first rows. Rows of one loop are equal or a few ms apart, and then comes the
    pause; so for n GPUs every n-th gap is long, in the middle of the many. Wrong for a GPU polled faster
    than its stamps tell, which looks the same: a person has to say.
    """
    gaps = [after - before for before, after in pairwise(t_ns)]
    for count in range(min(_MOST_GPUS, len(t_ns) // 3), 1, -1):
        phases = [median(gaps[phase::count]) for phase in range(count)]
        if phases[-1] > 4 * max(phases[:-1]):
            return count
    shared = sum(gap == 0 for gap in gaps)
    if shared > len(gaps) // 10:  # a single fast poller now and then has two rows in one ms
        return round(len(t_ns) / (len(t_ns) - shared)) or 1
    return 1


def is_index(cell: str) -> bool:
    """Return whether a cell can be a GPU's number."""
    return cell in _INDICES


def _holds_indices(column: Column, sample: list[list[str]]) -> bool:
    """Return whether most values are small integers; the row of one that is not will be refused."""
    return sum(is_index(cells[column.position]) for cells in sample) * 2 > len(sample)


def _all_nothing(column: Column, sample: list[list[str]]) -> bool:
    return all(is_nothing(cells[column.position]) for cells in sample)


def _round(values: list[str]) -> int:
    """Return the length of the round that values go, 0 when they go none (one in five may break it)."""
    first = list(dict.fromkeys(values))
    following = dict(zip(first, first[1:] + first[:1], strict=True))
    kept = sum(following[before] == after for before, after in pairwise(values))
    return len(first) if kept * 5 >= (len(values) - 1) * 4 else 0
