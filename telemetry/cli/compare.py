"""compare: is B better than A, and how sure is that."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    sides = [_side(what, label, place, narrowed) for what, label in ((a, "A"), (b, "B"))]
    spare = _side(again, "A again", place, narrowed) if again else None
    document = compare_sides(*sides, again=spare, limits=fail_if or ())
    show(document, form, output, table=compare_table, csv=compare_csv, md=compare_markdown)
    broken = [limit["limit"] for limit in document["limits"] if limit["broken"]]
    if broken:
        say(f"B breaks {', '.join(broken)}.")
        raise typer.Exit(LIMIT_BROKEN)


def _side(what: str, label: str, place: str, where: list[tuple[str, str]]) -> "Side":
    """Return the runs that an argument names, as the report has them."""
    from telemetry.join.comparing import Side

    named = Path(what).is_file()
    pairs = [*where, *([] if named or "=" not in what else [_pair(text) for text in what.split(",")])]
    uids = () if named or "=" in what else tuple(what.split(","))
    path = what if named else place
    with progress_bar(f"reading {label}") as progress:
        document, environments = asyncio.run(_read(path, uids, progress))
    runs = document["runs"]
    for key, value in pairs:
        if runs and key not in runs[0]:
            raise UsageError(f"Runs have no {key}. Use one of the report's names, such as model or batch_size.")
        runs = [run for run in runs if str(run[key]) == value]
    return Side(label=f"{label} ({what})", store=document["store"], runs=runs, environments=environments)


async def _read(path: str, uids: tuple[str, ...], progress: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    from telemetry.join import load_boards, report
    from telemetry.storage import experiments
    from telemetry.storage.store import open_store

    settings = load_settings()
    async with await open_store(Path(path).expanduser(), create=False) as opened:
        boards = load_boards(settings.profile, settings.calibration)
        document = await report(opened, uids, boards=boards, progress=progress)
        return document, await experiments.environments(opened)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key or not value:
        raise UsageError(f"{text!r} is no KEY=VALUE. Write one such as batch_size=4.")
    return key.strip(), value.strip()
