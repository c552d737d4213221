"""Was a file cut in the middle of its last line?"""

from telemetry.importers.cells import is_nothing, is_number, split_line, unit_of

_COMPARED = 1_000  # lines before the last: enough to know how its last cell is written


def why_cut(lines: list[str]) -> str | None:
    """Return what suggests that a last line without a line end is cut in its last cell; None: nothing.

    nvidia-smi ends every line, so a missing line end means that the file was cut, or that an editor or a
    script took the end away. Cut inside its last cell a line still parses: 1410 becomes 141. So the line is
    believed only when the way its last cell is written proves it whole: a closing quote, the unit that the
    other rows have, `[N/A]`, as many decimals as every other row, or as many characters as the longest.
    Otherwise 9 after 87 may be 9, or 91 cut: then nobody can know, and a person has to say.
    """
    *before, last_line = lines
    if last_line.endswith('"'):
        return None
    last = split_line(last_line)[-1]
    others = [cell for cell in (split_line(line)[-1] for line in before[-_COMPARED:]) if not is_nothing(cell)]
    numbers = [cell for cell in others if is_number(cell)]
    if is_nothing(last):
        return "its last cell is empty" if not last else None
    units = {unit_of(cell) for cell in numbers} - {None}
    if units:
        return None if unit_of(last) in units else f"its last cell {last!r} lacks the unit of the other rows"
    decimals = {len(cell.partition(".")[2]) for cell in numbers}
    if len(decimals) == 1 and decimals != {0}:
        return None if len(last.partition(".")[2]) in decimals else f"its last cell {last!r} lacks decimals"
    if others and len(last) >= max(map(len, others)):
        return None
    return f"its last cell {last!r} is shorter than that of other rows, and may be cut"
