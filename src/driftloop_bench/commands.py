"""`driftloop benchmark` and `driftloop demo`: parse, call, print."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from driftloop import durable, settings
from driftloop.errors import DriftloopError, ExitCode
from driftloop.fleets.cmapss.files import SPLITS, SUBSETS
from driftloop_bench.experiment.recording import Plan, Through
from driftloop_bench.experiment.source import Source, part
from driftloop_bench.experiment.traffic import Change, Kind
from driftloop_bench.first_aid.command import first_aid

app = typer.Typer(no_args_is_help=True, help="Measure the model and the drift detector by a fixed protocol.")
app.command("first-aid")(first_aid)


@app.callback()
def _benchmark() -> None:
    """Measure the model and the drift detector by a fixed protocol."""


@app.command()
def rul(
    subsets: Annotated[str, typer.Option(help="Subsets, separated by commas.")] = ",".join(SUBSETS),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings, each with an engine split of its own.")] = 5,
    per_subset: Annotated[
        bool, typer.Option("--per-subset", help="Train a model for each subset instead of one for all.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A moment on a small simulated fleet: shows that it works, nothing else.")
    ] = False,
    cross_validate: Annotated[
        bool, typer.Option("--cross-validate", help="Judge on held-out training engines; no test set is read.")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Parts that the engines are dealt into to cross-validate; by default 3.")
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="JSON of what to change in the configuration; to cross-validate it.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for results, table and figures.")] = Path("data/benchmark/rul"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """RUL of every test engine after its last row: the network, gradient boosting and the literature in one table.

    With --cross-validate the same two models are compared on training engines alone, which is how their
    configurations were chosen. A run that was stopped goes on where it was: finished seeds are kept in the state
    folder.
    """
    from driftloop.training import configuration
    from driftloop_bench.rul import benchmark, cross_validation
    from driftloop_bench.rul import report as benchmark_report

    configured = settings.from_environment()
    errors, console = Console(stderr=True, highlight=False), Console(highlight=False)
    plan = benchmark.make_plan(subsets, seeds, per_subset=per_subset, quick=quick)
    if folds is not None and not cross_validate:
        raise DriftloopError("only cross-validation has folds", where="--folds", remedy="add --cross-validate")
    if config_file is not None:
        if not cross_validate:
            raise DriftloopError(
                "the test sets are not for trying configurations", where="--config", remedy="add --cross-validate"
            )
        plan = replace(plan, config=configuration.read(config_file, plan.config))
    data = benchmark.load_data(plan, configured, ("train",) if cross_validate else SPLITS)
    if data.warning:
        errors.print(f"[bold yellow]{data.warning}[/]")
    cache, count = configured.state_dir / "benchmark" / "rul", folds or cross_validation.FOLDS
    with benchmark_report.progress(plan, errors) as report:
        if cross_validate:
            results = cross_validation.run(plan, data, cache, report, count=count)
        else:
            results = benchmark.run(plan, data, cache, report)
    if cross_validate:
        summary = cross_validation.summarise(plan, data, results, count=count)
        paths = [output / "rul-cross-validation.json"]
        durable.write_json(paths[0], summary)
        shown = cross_validation.tables(summary)
    else:
        summary = benchmark_report.summarise(plan, data, results)
        paths = benchmark_report.write(summary, results, output)
        shown = benchmark_report.tables(summary)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for table in shown:
        console.print(table)
    console.print("Results: " + ", ".join(str(path) for path in paths))


@app.command()
def drift(
    requests: Annotated[int | None, typer.Option(min=1000, help="Healthy requests; by default 6 million.")] = None,
    splits: Annotated[int | None, typer.Option(min=1, help="Engine splits, each with models of its own.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the traffic.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A moment on a small simulated fleet: shows that it works, nothing else.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder for results, tables and figures.")] = Path(
        "data/benchmark/drift"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """False alarms and detection delays of the drift watch, and of other detectors on the same traffic.

    Fleets of engines that no model has seen age at once; their requests are judged as the watch judges them. A run
    that was stopped goes on where it was: what is finished is kept in the state folder.
    """
    from driftloop_bench.drift import command as drift_command

    errors = Console(stderr=True, highlight=False)
    plan = drift_command.make_plan(requests, splits, seed, quick=quick)
    summary, paths = drift_command.measure(plan, settings.from_environment(), output, errors, quick=quick)
    if as_json:
        typer.echo(json.dumps(summary))
        return
    console = Console(highlight=False)
    drift_command.show(summary, console)
    console.print("Results: " + ", ".join(str(path) for path in paths))


@app.command()
def fleet(
    fleet_file: Annotated[str, typer.Argument(metavar="FLEET", help="Fleet file, or the folder that has one.")],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files or folders with the fleet's runs.")],
    folds: Annotated[int, typer.Option(min=2, help="Parts that the units are dealt into.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Dealings, each with trainings of its own.")] = 1,
    leave_out: Annotated[
        list[str] | None, typer.Option("--without", help="A sensor to leave out; again for more.")
    ] = None,
    boost: Annotated[bool, typer.Option(help="Compare with gradient boosting.")] = True,
    damage: Annotated[
        bool, typer.Option("--damage", help="Ask also with 5 and 20 % of readings missing and with each sensor dead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Cross-validate the loop's network on any fleet, unit by unit, beside gradient boosting and the best constant."""
    from rich.progress import Progress

    from driftloop import fleets
    from driftloop.fleet import tables
    from driftloop_bench import fleet_benchmark

    schema = fleets.load(fleet_file)
    runs, schema = fleet_benchmark.without(tables.read(data, schema).runs, schema, leave_out or [])
    harm = fleet_benchmark.damages(schema) if damage else [fleet_benchmark.WHOLE]
    found, answered = [], []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("folds", total=folds * seeds)
        for seed in range(seeds):
            asked, seconds = fleet_benchmark.cross_validate(
                runs, schema, folds=folds, seed=seed, boost=boost, harm=harm, tell=lambda _: bar.advance(task)
            )
            answered.append(asked["none"])
            shown = {name: fleet_benchmark.figures(answers) for name, answers in asked.items()}
            found.append({"seed": seed, "training_cpu_s": round(seconds, 2), **shown.pop("none"), "damaged": shown})
    apart = fleet_benchmark.difference(answered) if boost else None
    if as_json:
        summary = {"fleet": schema.name, "without": leave_out or [], "folds": folds, "seeds": found}
        typer.echo(json.dumps({**summary, "network_minus_boosting": apart}))
        return
    console = Console(highlight=False)
    for one in found:
        console.print(
            f"seed {one['seed']}: {one['units']} units, {one['rows']} rows, {one['training_cpu_s']} s a training"
        )
        for model, values in one.items():
            if isinstance(values, dict) and model != "damaged":
                console.print(f"  {model}: " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))
        for name, values in one["damaged"].items():
            rmse = ", ".join(f"{m} {values[m]['rmse_units_alike']:.2f}" for m in fleet_benchmark.MODELS if m in values)
            console.print(f"  {name}: RMSE {rmse}, coverage {values['network']['coverage_by_unit']:.2f}")
    if apart is not None:
        told = f"{apart['value']:+.2f} ({apart['lower']:+.2f} to {apart['upper']:+.2f}, 95 % over units)"
        console.print(f"network minus boosting over {seeds} seeds: {told}")


@app.command()
def plan(
    fleet_file: Annotated[
        str | None, typer.Argument(metavar="[FLEET", help="Fleet file, or the folder that has one; else C-MAPSS.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Argument(metavar="DATA...]", help="Files or folders with the fleet's runs.")
    ] = None,
    failure: Annotated[list[float] | None, typer.Option(help="Cost of a failure; again for more.")] = None,
    planned: Annotated[float, typer.Option(help="Cost of planned work.")] = 1.0,
    folds: Annotated[int, typer.Option(min=2, help="Parts that the units are dealt into; not of C-MAPSS.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What following the maintenance plan costs, beside running to failure, a fixed age, the point and foresight.

    On NASA's test engines, each subset by itself, or on any fleet by cross-validation over units.
    """
    from rich.table import Table

    from driftloop import fleets
    from driftloop.fleet import tables
    from driftloop.units.plan.costs import Costs, checked
    from driftloop_bench import worth

    all_costs = [checked(Costs(each, planned)) for each in failure or [5.0, 20.0]]
    errors = Console(stderr=True, highlight=False)
    with errors.status("reading") as status:
        if fleet_file is None:
            found = [worth.cmapss_parts(seed, settings.from_environment(), status.update) for seed in range(seeds)]
            groups = {part.name: [[each[at]] for each in found] for at, part in enumerate(found[0])}
        else:
            schema = fleets.load(fleet_file)
            runs = tables.read(data or [], schema).runs
            groups = {
                schema.name: [worth.fleet_parts(runs, schema, folds, seed, status.update) for seed in range(seeds)]
            }
        shown = {name: [worth.figures(parts, costs) for costs in all_costs] for name, parts in groups.items()}
    if as_json:
        typer.echo(json.dumps(shown))
        return
    console = Console(highlight=False)
    for name, each in shown.items():
        for one in each:
            costs = one["costs"]
            title = (
                f"{name}: a failure costs {costs['failure']:g}, planned work {costs['planned']:g}; {one['units']} units"
            )
            table = Table("policy", "cost per 1,000 steps", "failed", "way from age to foresight", title=title)
            for policy in worth.POLICIES:
                told = one[policy]
                cost, way = told["cost_per_1000_steps"], told["way_from_age_to_foresight"]
                table.add_row(
                    policy,
                    f"{cost['value']:.2f} ({cost['lower']:.2f} to {cost['upper']:.2f})",
                    f"{told['failed_share']:.1%}",
                    f"{way['value']:.2f} ({way['lower']:.2f} to {way['upper']:.2f})",
                )
            console.print(table)


@app.command()
def parts(
    fleet_file: Annotated[str, typer.Argument(metavar="FLEET", help="Fleet file, or the folder that has one.")],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Files or folders with the fleet's runs.")],
    groups: Annotated[str, typer.Option(metavar="FILE:COLUMN", help="Table of units, its column with parts.")],
    healthy: Annotated[str, typer.Option(help="Part of the fleet that the champion knows.")],
    changed: Annotated[list[str], typer.Option(help="Part that takes over; again for more.")],
    hide_settings: Annotated[bool, typer.Option("--hide-settings", help="Leave the settings out.")] = False,
    splits: Annotated[int, typer.Option(min=1, help="Dealings of units, each with a champion of its own.")] = 3,
    requests: Annotated[int, typer.Option(min=1000, help="Healthy requests in all.")] = 300_000,
    units: Annotated[int | None, typer.Option(min=1, help="Units in service at once; by default all held out.")] = None,
    state: Annotated[Path, typer.Option(help="Folder where champions are kept.")] = Path("data/benchmark/parts"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """False alarms of the drift watch on a part of any fleet, and how soon it names a change to another part."""
    from driftloop_bench.drift import parts as drift_parts

    configured, source = settings.from_environment(fleet=fleet_file), Source(tuple(data), groups)
    runs = {name: part(name, source, configured).runs for name in (healthy, *changed)}
    schema = configured.schema
    if hide_settings:
        bare = {name: drift_parts.hidden(found, schema) for name, found in runs.items()}
        runs, schema = {name: found for name, (found, _) in bare.items()}, bare[healthy][1]
    errors = Console(stderr=True)
    measured = drift_parts.measure(
        healthy, runs, schema, state, splits=splits, healthy=requests, in_service=units, tell=errors.print
    )
    if as_json:
        typer.echo(json.dumps(measured))
        return
    console, calm = Console(highlight=False), measured["healthy"]
    console.print(
        f"{calm['requests']} healthy requests: {calm['alarms']} alarms, at most one in {1 / calm['rate_upper_95']:.0f} "
        f"(95 %); claimed is at most one in {1 / calm['claimed_rate']:.0f}"
    )
    for name, said in measured["changes"].items():
        console.print(
            f"{healthy} to {name}: {said['found']} of {said['streams']} found, median {said['median']}, "
            f"90 % within {said['90_percent']} requests; {said['kinds']}; blamed {said['blamed']}"
        )


def demo(
    kind: Annotated[Kind, typer.Option(help="What changes at T0.")] = "fleet",
    subset: Annotated[str, typer.Option(help="Part of the fleet that the changed units come from.")] = "FD002",
    healthy: Annotated[str, typer.Option(help="Part of the fleet that the champion knows.")] = "FD001",
    data: Annotated[
        list[Path] | None, typer.Option(help="File or folder with the rows of another fleet; again for more.")
    ] = None,
    groups: Annotated[str, typer.Option(metavar="FILE:COLUMN", help="Table of units, its column with parts.")] = "",
    share: Annotated[float, typer.Option(min=0.05, max=1, help="Share of requests from changed engines.")] = 1.0,
    sensor: Annotated[int, typer.Option(min=1, help="Number of the faulty sensor (kinds bias and stuck).")] = 11,
    sigmas: Annotated[float, typer.Option(help="Bias in standard deviations within an operating regime.")] = 2.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn: the same seed gives the same.")] = 0,
    labels: Annotated[
        str,
        typer.Option(help="When the changed units' completed runs arrive: at-once, never, or after:SECONDS from T0."),
    ] = "after:60",
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest time after T0, in seconds.")] = 180.0,
    through: Annotated[
        Through, typer.Option(help="predict: windows to the server; telemetry: rows of units, which fail and label.")
    ] = "predict",
    units: Annotated[int, typer.Option(min=1, help="Units in service, through telemetry.")] = 50,
    results: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("data/drift"),
    state: Annotated[
        Path | None, typer.Option(help="State folder; by default `demo` in the usual one, made new.")
    ] = None,
    champion_state: Annotated[
        Path | None,
        typer.Option(help="Start from a copy of this stopped platform with a trained champion; made where missing."),
    ] = None,
    reference: Annotated[bool, typer.Option(help="Train the reference model that T5 needs.")] = True,
    report: Annotated[bool, typer.Option(help="Make the Evidently report.")] = True,
    fast: Annotated[bool, typer.Option("--fast", help="Shorter phases and no Evidently report.")] = False,
    simulated: Annotated[bool, typer.Option("--simulated", help="Use the fleet simulator, with small fleets.")] = False,
) -> None:
    """Train a champion, change the fleet under it, and watch the platform recover; then everything stops.

    A part of the fleet is a subset of C-MAPSS; of any other fleet a group that --groups tells apart, or simply a file.

    Exit code 0: recovered (or, for a sensor fault, detected and not trained on); 1: not.
    """
    from driftloop_bench.demo import run_demo
    from driftloop_bench.experiment.run import labels_after

    plan = Plan(
        Change(kind, subset, share, sensor, sigmas),
        rate=rate,
        seed=seed,
        healthy_s=10.0 if fast else 20.0,
        timeout_s=timeout_s,
        healthy_subset=healthy,
        answers=1000 if fast else 3000,
        source=Source(tuple(data or ()), groups),
        labels_after_s=labels_after(labels),
        units=units if through == "telemetry" else 0,
    )
    succeeded = run_demo(
        plan, results, state=state, champion_state=champion_state, with_reference=reference,
        with_report=report and not fast, simulated=simulated,
    )  # fmt: skip
    raise typer.Exit(ExitCode.DONE if succeeded else ExitCode.NO)


@app.command()
def units(
    sizes: Annotated[str, typer.Option(help="Units in service, separated by commas.")] = "100,10000",
    seconds: Annotated[float, typer.Option(min=1, help="Length of each measurement.")] = 20.0,
    database: Annotated[
        list[str] | None,
        typer.Option(
            help="SQLAlchemy URL of a server where a database of its own can be made, or `sqlite`; again for several. "
            "By default a new SQLite file."
        ),
    ] = None,
    server: Annotated[str, typer.Option(help="A running prediction server; by default one of its own.")] = "",
    model: Annotated[
        bool, typer.Option("--model", help="Its own server serves the version in production of the registry.")
    ] = False,
    history: Annotated[
        int, typer.Option(min=0, help="Rows that each unit has before; 0: as many as the model looks at.")
    ] = 0,
    output: Annotated[Path, typer.Option(help="File for the results.")] = Path("data/benchmark/units.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rows a second that the service of the fleet in service takes, when they are readable, and what a row costs.

    A server of its own answers with the stub, which looks at one row: --model is for figures of the whole way.
    """
    from rich.table import Table

    from driftloop_bench import units as benchmark

    errors, console = Console(stderr=True, highlight=False), Console(highlight=False)
    try:
        counts = [int(size) for size in sizes.split(",")]
    except ValueError:
        raise DriftloopError(f"{sizes!r} are no numbers", where="--sizes", remedy="write --sizes 100,10000") from None
    databases = ["" if url == "sqlite" else url for url in database or ["sqlite"]]
    asked = benchmark.Asked(counts, seconds, databases, server, model, history)
    results = benchmark.run(settings.load() if model else settings.from_environment(), asked, errors.print)
    durable.write_json(output, results)
    if as_json:
        typer.echo(json.dumps(results))
        return
    # A figure a line: beside each other they would be cut in a terminal of 80 columns.
    heads, *rows = zip(*benchmark.table(results), strict=True)
    shown = Table(*heads, caption=f"written to {output}", caption_justify="left")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
