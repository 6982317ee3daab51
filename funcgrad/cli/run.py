"""A command on a data set, from its options to what it prints and writes: the same for all of them."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from funcgrad import files, report
from funcgrad.cli import compile_cache, console, options, parser

ShowProgress = Callable[..., AbstractContextManager[console.ReportProgress | None]]  # see `console.progress`
DeferInterrupts = Callable[[], AbstractContextManager[Callable[[], bool]]]  # see `signals.handle_signals`


class Run(NamedTuple):
    """What a command needs beside its options and the data."""

    seed: int = 0
    out: Path | None = None  # where a run that can be resumed saves what it has finished
    resume: bool = False
    progress: ShowProgress = partial(console.progress, shown=False)
    defer_interrupts: DeferInterrupts = lambda: nullcontext(lambda: False)
    chunk: int | None = None  # queries in each saved part of a search; some seconds of work by default


class Outcome(NamedTuple):
    """The result of a command."""

    metrics: dict[str, Any]
    seconds: dict[str, float]  # "compile" and "run"
    columns: list[str]
    rows: list[list[str]]  # of the printed table
    figures: dict[str, Callable[[], Any]]  # file name → what draws it, when there is somewhere to write it
    failed: str = ""  # what went wrong, where the run ended and its result is worth nothing
    predictions: report.Predictions | None = None  # they are measured by class, drawn and written
    write: Callable[[Path], list[str]] | None = None  # writes other files into a folder, and returns their names
    notes: Sequence[str] = ()  # what a user should know


def load_dataset(values: Mapping[str, Any], report_progress: console.ReportProgress | None) -> Any:
    """The data set that `DataOptions` name. Raises `ValueError` if all of it is of one class."""
    from funcgrad import datasets

    dataset = datasets.load(**data_arguments(values), progress=report_progress)
    if len(dataset.classes) < 2:
        only = files.shown(dataset.classes[0])
        raise ValueError(f"--data: two classes or more are needed, and all of {dataset.name} is of class {only}")
    return dataset


def data_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `datasets.load`."""
    given = dict(vars(options.pick(options.DataOptions, values)))
    name = given.pop("data")
    return {"name": name[0] if len(name) == 1 else name, **given}


class DataCommand(NamedTuple):
    """How a command is run, and what it leaves in --out DIR when it does not reach its end."""

    options: type[options.Options]
    run: Callable[[Any, Any, Run], Outcome]  # (data, options, run)
    describe_saved: Callable[[Path], str] = lambda out: ""  # what is saved there, and can be resumed
    remove_saved: Callable[[Path], None] = lambda out: None  # once all is done
    load: Callable[[Mapping[str, Any], console.ReportProgress | None], Any] = load_dataset  # (values of options, …)


class Unfinished(Exception):
    """A run ended early, by its `__cause__`; the message says what is saved of it."""


def run_on_data(command: DataCommand, arguments: argparse.Namespace, **given: Any) -> int:
    """Runs a command, writes and prints what comes out, and returns the exit status; `given` goes into `Run`."""
    groups, values = parser.COMMANDS[arguments.command].groups, vars(arguments)
    options.check(groups, values)
    if values.get("resume") and arguments.out is None:
        raise ValueError("--resume: continues what is saved in --out DIR, which is missing")
    is_coordinator = join_distributed_run(values.get("distributed"))
    compile_cache.use_compile_cache(values.get("compile_cache", "off"))
    chosen = options.pick(command.options, {"model": arguments.command.split()[-1], **values})
    if not is_coordinator or arguments.quiet or arguments.json:
        given["progress"] = partial(given["progress"], shown=False)
    run = Run(arguments.seed, arguments.out, values.get("resume", False), **given)
    describe_saved = (lambda: "") if run.out is None else partial(command.describe_saved, run.out)
    show_note = (lambda note: None) if arguments.quiet else partial(console.print_error, arguments.command)
    if is_coordinator and run.out is not None and (note := report.replaces(run.out, arguments.command)):
        show_note(note)
    try:
        with report.output(run.out if is_coordinator else None) as folder:
            start = time.perf_counter()
            with run.progress("decoding") as report_progress:
                data = command.load(values, report_progress)
            load = time.perf_counter() - start
            outcome = command.run(data, chosen, run)
            config, seconds = options.recorded(groups, values), {"load": load, **outcome.seconds}
            metrics = {**outcome.metrics, **_measured(outcome)}
            written = [] if folder is None else _write(folder, outcome)
            content = config, data, metrics, seconds, outcome.notes, written
            result = report.make_result(arguments.command, *content, arguments.command_line)
            if folder is not None:
                report.write_json(folder / "result.json", result)
    except (Exception, KeyboardInterrupt) as error:
        if not isinstance(error, files.DifferentRun) and (saved := describe_saved()):
            raise Unfinished(saved) from error
        raise
    if run.out is not None:
        command.remove_saved(run.out)
    if is_coordinator:
        for note in [*(() if arguments.json else data.notes), *outcome.notes]:  # the JSON has the data's itself
            show_note(note)
        _print(arguments, data, outcome, result)
        if outcome.failed:
            console.print_error(arguments.command, "; ".join(filter(None, [outcome.failed, describe_saved()])))
    return 1 if outcome.failed else 0


def join_distributed_run(address: Sequence[Any] | None) -> bool:
    """Joins the other processes of a run, if there are any; whether this is the one that prints and writes.

    address: see `values.distributed`.
    """
    if address is None:
        return True
    from funcgrad import sharding

    sharding.start(*address)
    import jax

    return jax.process_index() == 0


def _measured(outcome: Outcome) -> dict[str, Any]:
    if outcome.predictions is None or (matrix := report.confusion_matrix(outcome.predictions)) is None:
        return {}
    return report.by_class(matrix, outcome.predictions.classes)


def _write(folder: Path, outcome: Outcome) -> list[str]:
    """Everything but the result into the folder; returns the names."""
    from funcgrad import plots

    figures, predictions, names = dict(outcome.figures), outcome.predictions, list[str]()
    if predictions is not None:
        names += report.write_predictions(folder, predictions)
        if (matrix := report.confusion_matrix(predictions)) is not None:
            figures["confusion.png"] = partial(
                plots.confusion_matrix, matrix, predictions.classes, title=predictions.title
            )
    for file, draw in figures.items():
        plots.save(draw(), folder / file)
    if outcome.write is not None:
        names += outcome.write(folder)
    return sorted([*names, *figures])


def _print(arguments: argparse.Namespace, data: Any, outcome: Outcome, result: Any) -> None:
    if arguments.json:
        console.print_json(result)
    elif not arguments.quiet:
        notes = list(filter(None, [result["dataset"]["split"]]))
        notes.append(", ".join(f"{key} {value:.1f} s" for key, value in result["seconds"].items()))
        if result["files"]:
            notes.append(f"{arguments.out}/: {', '.join(['result.json', *result['files']])}")
        sizes = {part: result["dataset"].get(part) for part in ("train", "validation", "test", "examples")}
        counts = ", ".join(f"{size:,} {part}" for part, size in sizes.items() if size)
        console.print_table(f"{data.name}: {counts}", outcome.columns, outcome.rows, notes)
