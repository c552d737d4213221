"""The application that the commands register with."""

import typer

from telemetry.cli import baseline, bench, collect, compare, data, db, demo, doctor, probe, proxy, reading, run

app = typer.Typer(
    name="telemetry",
    help="What a token costs in joules: GPU energy beside LLM inference, with bounds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich, which only frames the help, would take a third of the time to the first line
)
run_app = typer.Typer(help="Measure one experiment.", no_args_is_help=True)
run_app.command("llama")(run.llama)
run_app.command("transformers")(run.transformers)
run_app.command("openai")(run.openai)
app.add_typer(run_app, name="run")
app.command("bench")(bench.bench)
app.command("collect", cls=collect.CollectCommand, context_settings={"allow_interspersed_args": False})(collect.collect)
app.command("status")(collect.status)
app.command("stop")(collect.stop)
app.command("baseline")(baseline.baseline)
app.command("list")(reading.list_runs)
app.command("show")(reading.show)
app.command("report")(reading.report)
app.command("analyse")(reading.analyse)
app.command("compare")(compare.compare)
app.command("window")(reading.window)
app.command("sql")(data.sql)
app.command("import")(data.import_files)
db_app = typer.Typer(help="Look after a store.", no_args_is_help=True)
db_app.command("upgrade")(db.upgrade)
app.add_typer(db_app, name="db")
app.command("doctor")(doctor.doctor)
app.command("config")(doctor.config)
app.command("probe")(probe.probe)
app.command("proxy")(proxy.proxy)
app.command("demo")(demo.demo)
