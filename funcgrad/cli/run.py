"""A command on a data set, from its options to what it prints and writes: the same for all of them."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
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
    arrays: Mapping[str, Callable[[], Mapping[str, Any]]] = MappingProxyType({})  # likewise, for its content
    write: Callable[[Path], list[str]] | None = None  # writes other files into a folder, and returns their names
    notes: Sequence[str] = ()  # what a user should know


class DataCommand(NamedTuple):
    """How a command is run, and what it leaves in --out DIR when it does not reach its end."""

    options: type[options.Options]
    run: Callable[[Any, Any, Run], Outcome]  # (dataset, options, run)
    describe_saved: Callable[[Path], str] = lambda out: ""  # what is saved there, and can be resumed
    remove_saved: Callable[[Path], None] = lambda out: None  # once all is done


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
    try:
        with report.output(run.out if is_coordinator else None) as folder:
            start = time.perf_counter()
            with run.progress("decoding") as report_progress:
                dataset = _load(arguments, report_progress)
            load = time.perf_counter() - start
            outcome = command.run(dataset, chosen, run)
            config, seconds = options.recorded(groups, values), {"load": load, **outcome.seconds}
            result = report.make_result(arguments.command, config, dataset, outcome.metrics, seconds)
            written = [] if folder is None else _write(folder, outcome, result)
    except (Exception, KeyboardInterrupt) as error:
        if not isinstance(error, files.DifferentRun) and (saved := describe_saved()):
            raise Unfinished(saved) from error
        raise
    if run.out is not None:
        command.remove_saved(run.out)
    if is_coordinator:
        _print(arguments, dataset, outcome, result, written)
        if outcome.failed:
            message = "; ".join(filter(None, [outcome.failed, describe_saved()]))
            print(f"funcgrad {arguments.command}: {message}", file=sys.stderr)
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


def _load(arguments: argparse.Namespace, report_progress: console.ReportProgress | None) -> Any:
    from funcgrad import datasets

    given = dict(vars(options.pick(options.DataOptions, vars(arguments))))
    name = given.pop("data")
    return datasets.load(name[0] if len(name) == 1 else name, **given, progress=report_progress)


def _write(folder: Path, outcome: Outcome, result: Any) -> list[str]:
    """Everything into the folder; returns the names, the result first."""
    from funcgrad import plots

    names = [*outcome.figures, *outcome.arrays]
    for file, draw in outcome.figures.items():
        plots.save(draw(), folder / file)
    for file, compute in outcome.arrays.items():
        report.write_arrays(folder / file, compute())
    if outcome.write is not None:
        names += outcome.write(folder)
    report.write_json(folder / "result.json", result)
    return ["result.json", *sorted(names)]


def _print(arguments: argparse.Namespace, dataset: Any, outcome: Outcome, result: Any, written: list[str]) -> None:
    for note in outcome.notes:
        print(f"funcgrad {arguments.command}: {note}", file=sys.stderr)
    if arguments.json:
        console.print_json(result)
    elif not arguments.quiet:
        notes = [dataset.split] if dataset.split else []
        notes.append(", ".join(f"{key} {value:.1f} s" for key, value in result["seconds"].items()))
        if written:
            notes.append(f"{arguments.out}/: {', '.join(written)}")
        counts = f"{len(dataset.train.labels):,} train, {len(dataset.test.labels):,} test"
        console.print_table(f"{dataset.name}: {counts}", outcome.columns, outcome.rows, notes)
