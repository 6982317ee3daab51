"""The command line: typed options → one call → a table, result.json, pictures.

JAX and all else that is slow to import is imported after the options were read, so that --help and a mistyped option
are answered at once. Exit status: 0 done, 1 the run failed, 2 the request was wrong.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from funcgrad import report
from funcgrad.cli import data as data_commands
from funcgrad.cli import parser as options
from funcgrad.cli.signals import Deferred, watched

Call = Callable[..., Any]  # one of `funcgrad.cli.demo`, its options bound: (dataset, bars=…) → Outcome

_NOT_CONFIG = ("command", "out", "resume", "json", "quiet", "debug", "distributed")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = options.parser().parse_args(argv)
    try:
        with watched() as deferred:
            status = _COMMANDS[arguments.command](arguments, deferred)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output, like `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as raised:
        if arguments.debug:
            traceback.print_exc()
        error = raised.cause if isinstance(raised, _Unfinished) else raised
        kept = f"; {raised}" if isinstance(raised, _Unfinished) else ""
        status, said = 1, f"{type(error).__name__}: {error} (--debug shows where){kept}"
        if isinstance(error, KeyboardInterrupt):
            said = f"interrupted{kept or '; nothing was written'}"
        elif isinstance(error, ValueError | TypeError | OSError):
            status, said = 2, f"{error}{kept}"
        print(f"funcgrad {arguments.command}: {_one_line(said)}", file=sys.stderr, flush=True)
        if isinstance(error, KeyboardInterrupt) and argv is None:  # the process is ours alone
            os._exit(status)  # Python's own way out crashes while JAX is still computing
        return status


class _Unfinished(Exception):
    """Says what is kept of a run that ended by its cause."""

    def __init__(self, said: str, cause: BaseException) -> None:
        super().__init__(said)
        self.cause = cause


def _one_line(text: str) -> str:
    return " ".join(text.split())


# The commands: the first five turn options into a call of `funcgrad.cli.demo`, which `_run` makes.


def _demo(runs: Any, arguments: argparse.Namespace) -> Call:
    return partial(runs.demo, seed=arguments.seed)


def _knn(runs: Any, arguments: argparse.Namespace) -> Call:
    names = ("metric", "p", "weights", "temperature", "precision", "memory", "devices")
    chosen = runs.KnnOptions(**_named(arguments, *names), **_kept(arguments), ks=_distinct("--k", arguments.k))
    return partial(runs.knn, options=chosen)


def _kept(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.resume and arguments.out is None:
        raise ValueError("--resume: goes on from what is in --out DIR, and needs it")
    return {"resume": arguments.resume, "folder": _unfinished(arguments)}


def _unfinished(arguments: argparse.Namespace) -> Path | None:
    """Where a run that can be resumed keeps what it has finished."""
    if "resume" not in arguments or arguments.out is None:
        return None
    return arguments.out / ("checkpoints" if _trains(arguments) else "partial")


def _trains(arguments: argparse.Namespace) -> bool:
    return arguments.command.startswith("train ")


def _train(runs: Any, arguments: argparse.Namespace) -> Call:
    names = ["validation", "patience", "augment", "mixup", "dtype", "skip_nonfinite"]
    names += ["checkpoint_every", "keep", "devices", "split_hidden"]
    given = {**_train_options(arguments), **_named(arguments, *runs.SWEPT, *names), **_kept(arguments)}
    if given["devices"] is None and arguments.distributed is None:
        given["devices"] = given["split_hidden"]
    chosen = runs.TrainOptions(**{**given, "folder": arguments.out})
    return partial(runs.train, options=chosen, seed=arguments.seed)


def _predict(runs: Any, arguments: argparse.Namespace) -> Call:
    return partial(runs.predict, folder=arguments.model, split=arguments.split)


def _crossval_knn(runs: Any, arguments: argparse.Namespace) -> Call:
    given = _named(arguments, "weights", "memory", "p")
    chosen = runs.KnnOptions(**given, **_kept(arguments), ks=_distinct("--k", arguments.k))
    folds = {**_named(arguments, "seed", "folds", "stratified"), "shuffled": arguments.shuffle}
    return partial(runs.crossval_knn, options=chosen, metric_names=_distinct("--metric", arguments.metric), **folds)


def _crossval_training(runs: Any, arguments: argparse.Namespace) -> Call:
    given = _named(arguments, *runs.SWEPT)
    swept = {name: values for name, values in given.items() if len(values) > 1} or {"lr": given["lr"]}
    fixed = {name: values[0] for name, values in given.items() if name not in swept}
    chosen = runs.TrainOptions(**_train_options(arguments), **fixed)
    folds = _named(arguments, "seed", "folds", "seeds", "stratified", "memory")
    return partial(runs.crossval_training, options=chosen, swept=swept, **folds)


def _train_options(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ["loss", "optimizer", "schedule", "clip_norm", "initialization", "warmup", "epochs", "batch_size"]
    model = arguments.command.split()[-1]
    if model == "mlp":
        names += ["hidden", "activation", "dropout", "layer_norm", "residual"]
    return {"model": model, **_named(arguments, *names)}


def _named(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}


def _distinct(option: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"{option}: each value once, got {' '.join(map(str, values))}")
    return tuple(values)


def _run(arguments: argparse.Namespace, deferred: Deferred) -> int:
    """Loads the data, calls one of `funcgrad.cli.demo`, and writes and prints what comes out."""
    from funcgrad.cli import demo as runs
    from funcgrad.neighbors import resumable as resume

    speaks = _joins(arguments)
    call = _CALLS[arguments.command](runs, arguments)
    unfinished = _unfinished(arguments)
    with report.output(arguments.out if speaks else None) as aside, _saying_what_is_kept(unfinished):
        bars = partial(report.progress, shown=speaks and not (arguments.quiet or arguments.json))
        start = time.perf_counter()
        with bars("decoding") as bar:
            dataset = _load(arguments, bar)
        load = time.perf_counter() - start
        stops = unfinished is not None and _trains(arguments)
        with deferred() if stops else nullcontext() as should_stop:
            outcome = call(dataset, bars=bars, **({"should_stop": should_stop} if stops else {}))
        result = _result(arguments, dataset, outcome, load)
        written = [] if aside is None else _write(aside, outcome, result)
    if unfinished is not None and not stops:
        resume.remove(unfinished)
    if not speaks:
        return 1 if outcome.failed else 0
    for note in outcome.notes:
        print(f"funcgrad {arguments.command}: {note}", file=sys.stderr)
    if arguments.json:
        report.print_json(result)
    elif not arguments.quiet:
        notes = [dataset.split] if dataset.split else []
        notes.append(", ".join(f"{key} {value:.1f} s" for key, value in result["seconds"].items()))
        if written:
            notes.append(f"{arguments.out}/: {', '.join(written)}")
        counts = f"{len(dataset.train.labels):,} train, {len(dataset.test.labels):,} test"
        report.print_table(f"{dataset.name}: {counts}", outcome.columns, outcome.rows, notes)
    if outcome.failed:
        kept = f"; {words}" if (words := _what_is_kept(unfinished)) else ""
        print(f"funcgrad {arguments.command}: {outcome.failed}{kept}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _joins(arguments: argparse.Namespace) -> bool:
    """Whether this is the process that prints and writes; joins the others first where there are some."""
    how = getattr(arguments, "distributed", None)
    if how is None:
        return True
    from funcgrad import sharding

    given: list[Any] = [] if how == "auto" else how.rsplit(",", 2)
    try:
        given[1:] = map(int, given[1:])
        if len(given) not in (0, 3):
            raise ValueError
    except ValueError:
        raise ValueError(f"--distributed: needs HOST:PORT,PROCESSES,NUMBER or auto, got {how!r}") from None
    sharding.start(*given)
    import jax

    return jax.process_index() == 0


def _write(folder: Path, outcome: Any, result: Any) -> list[str]:
    """Everything into the folder; returns the names, the result first."""
    from funcgrad import plots

    names = [*outcome.figures, *outcome.arrays]
    for file, draw in outcome.figures.items():
        plots.save(draw(), folder / file)
    for file, compute in outcome.arrays.items():
        report.write_arrays(folder / file, compute())
    if outcome.writes is not None:
        names += outcome.writes(folder)
    report.write_json(folder / "result.json", result)
    return ["result.json", *sorted(names)]


@contextmanager
def _saying_what_is_kept(folder: Path | None) -> Iterator[None]:
    """Raises `_Unfinished` from whatever ends the run early, if some of it is kept in the folder."""
    from funcgrad.neighbors import resumable as resume
    from funcgrad.training import checkpoint

    try:
        yield
    except BaseException as error:
        if not isinstance(error, resume.Differs | checkpoint.Differs) and (words := _what_is_kept(folder)):
            raise _Unfinished(words, error) from error
        raise


def _what_is_kept(folder: Path | None) -> str:
    from funcgrad.neighbors import resumable as resume
    from funcgrad.training import checkpoint

    if folder is None:
        return ""
    if folder.name == "partial":
        return resume.what_is_kept(folder)
    steps = checkpoint.steps(folder)
    return f"the checkpoint of step {steps[-1]:,} is kept in {folder}, and --resume goes on" if steps else ""


def _result(arguments: argparse.Namespace, dataset: Any, outcome: Any, load: float) -> Any:
    data = {
        "name": dataset.name,
        "train": len(dataset.train.labels),
        "test": len(dataset.test.labels),
        "classes": dataset.classes,
        "shape": dataset.train.images.shape[1:],
        "fingerprint": dataset.fingerprint,
    }
    return report.plain(
        {
            "command": arguments.command,
            "config": {key: value for key, value in vars(arguments).items() if key not in _NOT_CONFIG},
            "dataset": data,
            "metrics": outcome.metrics,
            "seconds": {"load": load, **outcome.seconds},
            "environment": report.environment(),
        }
    )


def _load(arguments: argparse.Namespace, bar: Any) -> Any:
    from funcgrad import datasets

    if arguments.command == "demo":
        return datasets.load("digits")
    return datasets.load(
        arguments.data[0] if len(arguments.data) == 1 else arguments.data,
        data_dir=arguments.data_dir,
        limit_train=arguments.limit_train,
        limit_test=arguments.limit_test,
        classes=arguments.classes,
        size=arguments.size,
        test_fraction=arguments.test_fraction,
        progress=bar,
    )


def _explain(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import explain

    told = explain.explain(arguments.expression, arguments.variables)
    if arguments.svg is not None:
        explain.write_svg(told, arguments.svg)
    if arguments.json:
        report.print_json(explain.as_data(told))
    elif not arguments.quiet:
        explain.show(told)
    return 0


def _gradcheck(arguments: argparse.Namespace, _: Any) -> int:
    if (arguments.fun is None) != (arguments.at is None):
        raise ValueError("--fun FILE.py:NAME and --at NUMBERS belong together")
    from funcgrad import gradcheck

    if arguments.fun is not None:
        fun = gradcheck.load_function(arguments.fun)
        gradcheck.check_call(fun, arguments.at)
        checked = gradcheck.compare(fun, *arguments.at, order=arguments.order)
    else:
        counts = _named(arguments, "programs", "points", "seed", "order")
        processes = min(os.cpu_count() or 1, 1 + arguments.programs // 50)  # each has to compile for itself
        with report.progress("gradcheck", shown=not (arguments.quiet or arguments.json)) as bar:
            checked = gradcheck.fuzz(**counts, processes=processes, progress=bar)
    if arguments.json:
        config = {key: value for key, value in vars(arguments).items() if key not in _NOT_CONFIG}
        report.print_json({"command": arguments.command, "config": config, **checked.as_data()})
    elif not arguments.quiet:
        print(checked)
    if not checked.ok:
        print(f"funcgrad gradcheck: {checked.notes()[0].rstrip(':')}", file=sys.stderr)
    return 0 if checked.ok else 1


_CALLS: dict[str, Callable[[Any, argparse.Namespace], Call]] = {
    "demo": _demo,
    "knn": _knn,
    "train linear": _train,
    "train mlp": _train,
    "predict": _predict,
    "crossval knn": _crossval_knn,
    "crossval linear": _crossval_training,
    "crossval mlp": _crossval_training,
}
_COMMANDS: dict[str, Callable[[argparse.Namespace, Deferred], int]] = {
    **dict.fromkeys(_CALLS, _run),
    "data list": data_commands.listed,
    "data info": data_commands.info,
    "data prepare": data_commands.prepared,
    "explain": _explain,
    "gradcheck": _gradcheck,
}
