"""compare: is B better than A, and how sure is that."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetry.cli.asking import ask, known_boards
from telemetry.cli.common import Format, FormatOption, OutputOption, StoreOption, progress_bar, say, show
from telemetry.errors import UsageError
from telemetry.settings import load_settings

if TYPE_CHECKING:
    from telemetry.join.comparing import Side

LIMIT_BROKEN = 4


def compare(
    a: Annotated[str, typer.Argument(help="Runs by uid (separated by commas), a group (KEY=VALUE,…) or a store.")],
    b: Annotated[str, typer.Argument(help="What is compared with it, named in the same way.")],
    where: Annotated[
        list[str] | None, typer.Option("--where", help="KEY=VALUE: of both, only the runs of which this holds.")
    ] = None,
    again: Annotated[
        str | None, typer.Option("--again", help="The setting of A once more: what it differs by is noise.")
    ] = None,
    fail_if: Annotated[
        list[str] | None, typer.Option("--fail-if", help="Such as 'j_per_token>+5%': exit 4 where B is so.")
    ] = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Compare two settings: effect, interval, verdict, and the smallest effect that these runs could have shown."""
    from telemetry.join.comparing import compare_sides
    from telemetry.reports.comparing import compare_csv, compare_markdown, compare_table

    place = load_settings({"store": store}).store
    narrowed = [_pair(text) for text in where or ()]
    read = functools.cache(_read)  # groups of one store are read together
    sides = [_side(what, label, place, narrowed, read) for what, label in ((a, "A"), (b, "B"))]
    spare = _side(again, "A again", place, narrowed, read) if again else None
    document = compare_sides(*sides, again=spare, limits=fail_if or ())
    show(document, form, output, table=compare_table, csv=compare_csv, md=compare_markdown)
    broken = [limit["limit"] for limit in document["limits"] if limit["broken"]]
    if broken:
        say(f"B breaks {', '.join(broken)}.")
        raise typer.Exit(LIMIT_BROKEN)


def _side(what: str, label: str, place: str, where: list[tuple[str, str]], read: Callable[..., Any]) -> "Side":
    """Return the runs that an argument names, as the report has them."""
    from telemetry.join.comparing import Side

    named = Path(what).is_file()
    pairs = [*where, *([] if named or "=" not in what else [_pair(text) for text in what.split(",")])]
    uids = () if named or "=" in what else tuple(what.split(","))
    document, environments = read(what if named else place, uids)
    runs = document["runs"]
    for key, value in pairs:
        if runs and key not in runs[0]:
            raise UsageError(f"Runs have no {key}. Use one of the report's names, such as model or batch_size.")
        runs = [run for run in runs if str(run[key]) == value]
    return Side(label=f"{label} ({what})", store=document["store"], runs=runs, environments=environments)


def _read(path: str, uids: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a store's report of these runs, or of all, and the environments that it knows."""
    from telemetry.join import report
    from telemetry.storage import experiments

    async def question(opened: Any) -> Any:
        document = await report(opened, uids, boards=known_boards(), progress=progress)
        return document, await experiments.environments(opened)

    with progress_bar(f"reading {path}") as progress:
        found: tuple[dict[str, Any], dict[str, Any]] = ask(path, question)
    return found


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key or not value:
        raise UsageError(f"{text!r} is no KEY=VALUE. Write one such as batch_size=4.")
    return key.strip(), value.strip()
