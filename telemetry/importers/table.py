"""A text file as rows of cells under named columns: where the header is, and which lines are rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from telemetry.errors import ImportRefused
from telemetry.importers.base import ReadOptions
from telemetry.importers.cells import CellError, is_nothing, is_number, split_line
from telemetry.importers.columns import Column, looks_like_header, parse_header
from telemetry.importers.cut import why_cut
from telemetry.importers.stamps import StampReader
from telemetry.importers.text import TextFile


@dataclass(slots=True, kw_only=True)
class Table:
    """The rows of a text file. `repeated_headers` counts those met by the last pass over the rows."""

    text: TextFile
    columns: tuple[Column, ...]
    header_line: int  # 0: the file has none
    own_names: bool  # the columns were named by the user, so any header line in the file is passed over
    repeated_headers: int = field(default=0, init=False)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line number and the cells of every row. Raises ImportRefused for one that is none."""
        self.repeated_headers = 0
        width = len(self.columns)
        probe = next((c.position for c in self.columns if c.known == "timestamp"), 0)
        for number, line in enumerate(self.text.lines[self.header_line :], start=self.header_line + 1):
            # In a table of one column a blank line is a row without a value, and takes its interval.
            if width > 1 and not line.strip():
                continue
            try:
                cells = split_line(line)
            except CellError as error:
                raise refused(number, error) from error
            # Values begin with a digit or a bracket; names with a letter, and are looked at closely.
            if len(cells) == width and not cells[probe][:1].isalpha():
                yield number, cells
            elif looks_like_header(cells):
                self._pass_header(number, cells)
            elif len(cells) == width:
                yield number, cells
            else:
                named = "--columns names" if self.own_names else "the header has"
                more = " (a decimal comma, or a comma at its end?)" if len(cells) > width else ""
                raise refused(number, CellError(f"it has {len(cells)} cells where {named} {width}{more}"))

    def _pass_header(self, number: int, cells: list[str]) -> None:
        if not self.own_names and parse_header(cells) != self.columns:
            raise ImportRefused(
                f"line {number} is another header, with other columns than before: logs of different queries "
                f"were put together. Cut the file in two before line {number} and import both."
            )
        self.repeated_headers += 1

    def check_end(self) -> None:
        """Raise ImportRefused when the last line is cut, or may be."""
        lines = self.text.lines
        if len(lines) == self.header_line:
            raise ImportRefused("it has a header and no rows: there is nothing to import.")
        try:
            cells = split_line(lines[-1])
            if self.text.ended and looks_like_header(cells):  # a log begun again, and nothing written since
                return
            # Where the first row is short too the names are too many, and `rows` will say so.
            full = len(lines[self.header_line].split(",")) >= len(self.columns)
            short = full and len(cells) < len(self.columns)
            reason = f"it has {len(cells)} of {len(self.columns)} cells" if short else None
        except CellError as error:
            reason = str(error)
        if reason is None and not self.text.ended:
            reason = why_cut(lines[self.header_line :])
        if reason:
            last = len(lines)
            whole = "" if self.text.ended else ", or end it with a line break if it is whole"
            raise ImportRefused(
                f"line {last}, the last, is cut in the middle: {reason}. Remove line {last}{whole}. "
                "Nothing was imported."
            )


def refused(number: int, error: CellError) -> ImportRefused:
    """Return the refusal of a file for what is wrong in one line."""
    return ImportRefused(f"line {number}: {error}. Mend or remove line {number}. Nothing was imported.")


def open_table(text: TextFile, options: ReadOptions) -> Table:
    """Find the header of a file, or take the names from the options.

    Raises ImportRefused when the file has no header and the options name no columns.
    """
    if options.columns:
        columns = parse_header(options.columns.split(","))
        return Table(text=text, columns=columns, header_line=0, own_names=True)
    number = next(n for n, line in enumerate(text.lines, start=1) if line.strip())
    try:
        cells = split_line(text.lines[number - 1])
    except CellError as error:
        raise refused(number, error) from error
    if not looks_like_header(cells) and any(_is_value(cell) for cell in cells):
        raise ImportRefused(_no_header(text, number, cells))
    return Table(text=text, columns=parse_header(cells), header_line=number, own_names=False)


def _is_value(cell: str) -> bool:
    if is_number(cell) or (cell and is_nothing(cell)):
        return True
    try:
        StampReader(None).t_ns(cell)
    except CellError:
        return False
    return True


def _no_header(text: TextFile, number: int, cells: list[str]) -> str:
    if len(cells) == 1 and is_number(cells[0]):
        count = sum(1 for line in text.lines if line.strip())
        return (
            f"{count} numbers, no header, no time: give --columns power.draw --interval S (and --start), "
            "S being the seconds between two of them."
        )
    return (
        f"line {number} holds values, so there is no header: name its {len(cells)} columns in order, such as "
        "--columns timestamp,index,power.draw."
    )
