"""The command line: typed options → one call → a table, result.json, pictures.

JAX and all else that is slow to import is imported after the options were read, so that --help and a mistyped option
are answered at once. Exit status: 0 done, 1 the run failed, 2 the request was wrong.
"""

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from funcgrad import options

Call = Callable[..., Any]  # one of `funcgrad.runs`, its options bound: (dataset, bars=…) → Outcome

_NOT_CONFIG = ("command", "out", "resume", "json", "quiet", "debug")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    arguments = options.parser().parse_args(argv)
    try:
        with _interrupts() as raise_if_interrupted:
            status = _COMMANDS[arguments.command](arguments, raise_if_interrupted)
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


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Gives a function that raises KeyboardInterrupt if there has been one: NumPy swallows it while it is imported.

    Where Python itself must ignore it, in a destructor or a callback of the garbage collector, it is raised again.
    SIGTERM, which is how batch systems stop a run, does the same. What someone else handles or ignores is left alone.
    """
    came = 0
    usual_unraisable = sys.unraisablehook

    def note(number: int, _: Any) -> NoReturn:
        nonlocal came
        came = number
        raise KeyboardInterrupt

    def raise_if_interrupted() -> None:
        if came:
            raise KeyboardInterrupt

    def again(ignored: Any) -> None:
        if ignored.exc_type is not KeyboardInterrupt:
            return usual_unraisable(ignored)
        return threading.Timer(0.05, os.kill, [os.getpid(), came]).start()  # when we are out of the callback

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in usual.items() if main_thread and signal.getsignal(number) is handler]
    for number in ours:
        signal.signal(number, note)
    if ours:
        sys.unraisablehook = again
    try:
        yield raise_if_interrupted
    finally:
        for number in ours:
            signal.signal(number, usual[number])
        if ours:
            sys.unraisablehook = usual_unraisable


def _one_line(text: str) -> str:
    return " ".join(text.split())


# The commands: the first five turn options into a call of `funcgrad.runs`, which `_run` makes.


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
    return arguments.out / "partial" if "resume" in arguments and arguments.out is not None else None


def _train(runs: Any, arguments: argparse.Namespace) -> Call:
    chosen = runs.TrainOptions(**_train_options(arguments), **_named(arguments, *runs.SWEPT, "validation"))
    return partial(runs.train, options=chosen, seed=arguments.seed)


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
    folds = _named(arguments, "seed", "folds", "seeds", "stratified")
    return partial(runs.crossval_training, options=chosen, swept=swept, **folds)


def _train_options(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ["loss", "optimizer", "schedule", "warmup", "epochs", "batch_size"]
    model = arguments.command.split()[-1]
    if model == "mlp":
        names += ["hidden", "activation", "dropout", "layer_norm"]
    return {"model": model, "smoothing": arguments.label_smoothing, **_named(arguments, *names)}


def _named(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in names}


def _distinct(option: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"{option}: each value once, got {' '.join(map(str, values))}")
    return tuple(values)


def _run(arguments: argparse.Namespace, raise_if_interrupted: Callable[[], None]) -> int:
    """Loads the data, calls one of `funcgrad.runs`, and writes and prints what comes out."""
    from funcgrad import plots, report, resume, runs

    raise_if_interrupted()
    call = _CALLS[arguments.command](runs, arguments)
    unfinished = _unfinished(arguments)
    with report.output(arguments.out) as aside, _saying_what_is_kept(unfinished):
        bars = partial(report.progress, shown=not (arguments.quiet or arguments.json))
        start = time.perf_counter()
        with bars("decoding") as bar:
            dataset = _load(arguments, bar)
        load = time.perf_counter() - start
        raise_if_interrupted()
        outcome = call(dataset, bars=bars)
        result = _result(arguments, dataset, outcome, load)
        if aside is not None:
            for file, draw in outcome.figures.items():
                plots.save(draw(), aside / file)
            for file, compute in outcome.arrays.items():
                report.write_arrays(aside / file, compute())
            report.write_json(aside / "result.json", result)
    if unfinished is not None:
        resume.remove(unfinished)
    if arguments.json:
        _print_json(result)
    elif not arguments.quiet:
        notes = [dataset.split] if dataset.split else []
        notes.append(", ".join(f"{key} {value:.1f} s" for key, value in result["seconds"].items()))
        if arguments.out is not None:
            notes.append(
                f"{arguments.out}/: {', '.join(['result.json', *sorted({**outcome.figures, **outcome.arrays})])}"
            )
        counts = f"{len(dataset.train.labels):,} train, {len(dataset.test.labels):,} test"
        report.print_table(f"{dataset.name}: {counts}", outcome.columns, outcome.rows, notes)
    if outcome.failed:
        print(f"funcgrad {arguments.command}: {outcome.failed}", file=sys.stderr)
    return 1 if outcome.failed else 0


@contextmanager
def _saying_what_is_kept(folder: Path | None) -> Iterator[None]:
    """Raises `_Unfinished` from whatever ends the run early, if some of it is kept in the folder."""
    from funcgrad import resume

    try:
        yield
    except BaseException as error:
        if folder is not None and not isinstance(error, resume.Differs) and (words := resume.what_is_kept(folder)):
            raise _Unfinished(words, error) from error
        raise


def _result(arguments: argparse.Namespace, dataset: Any, outcome: Any, load: float) -> Any:
    from funcgrad import report

    data = {
        "name": dataset.name,
        "train": len(dataset.train.labels),
        "test": len(dataset.test.labels),
        "classes": dataset.classes,
        "shape": dataset.train.images.shape[1:],
        "fingerprint": dataset.fingerprint,
    }
    return _plain(
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


def _plain(value: Any) -> Any:
    """What JSON can say: paths as text, NaN and infinity as null; anything else unknown is left for it to refuse."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _data_list(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets, report

    found = datasets.available(arguments.data_dir)
    if arguments.json:
        _print_json([one._asdict() for one in found])
    elif not arguments.quiet:
        rows = [
            [one.name, _count(one.train), _count(one.test), str(len(one.classes) or ""), _shape(one), one.where]
            for one in found
            if one.prepared
        ]
        notes = [f"{one.name}: {one.note}" for one in found if one.note]
        report.print_table("data sets", ["name", "train", "test", "classes", "shape", "where"], rows, notes)
    return 0


def _data_info(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import datasets

    one = datasets.describe(arguments.name[0] if len(arguments.name) == 1 else arguments.name, arguments.data_dir)
    if arguments.json:
        _print_json(one._asdict())
    elif not arguments.quiet:
        known = {
            "name": one.name,
            "where": one.where if one.prepared else f"not in {one.where}",
            "train": _count(one.train),
            "test": _count(one.test),
            "shape": _shape(one),
            "classes": f"{len(one.classes)}: {', '.join(one.classes)}" if one.classes else "",
            "note": one.note,
        }
        for key, value in known.items():
            if value:
                print(f"{key:8}{value}")
    return 0


def _print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _shape(one: Any) -> str:
    lengths = " × ".join("?" if length is None else str(length) for length in one.shape or ())
    return f"{lengths} {one.dtype}".strip()


def _data_prepare(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import prepare, report

    data_dir = arguments.data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    with report.progress(f"preparing {arguments.name}", shown=not (arguments.quiet or arguments.json)) as bar:
        place = prepare.prepare(arguments.name, data_dir, archives=arguments.archives, progress=bar)
    if arguments.json:
        _print_json({"name": arguments.name, "where": place})
    elif not arguments.quiet:
        print(f"{arguments.name} is prepared in {place}")
    return 0


def _explain(arguments: argparse.Namespace, _: Any) -> int:
    from funcgrad import explain

    told = explain.explain(arguments.expression, arguments.variables)
    if arguments.svg is not None:
        explain.write_svg(told, arguments.svg)
    if arguments.json:
        _print_json(explain.as_data(told))
    elif not arguments.quiet:
        explain.show(told)
    return 0


def _gradcheck(arguments: argparse.Namespace, raise_if_interrupted: Callable[[], None]) -> int:
    if (arguments.fun is None) != (arguments.at is None):
        raise ValueError("--fun FILE.py:NAME and --at NUMBERS belong together")
    from funcgrad import gradcheck, report

    raise_if_interrupted()
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
        _print_json({"command": arguments.command, "config": config, **checked.as_data()})
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
    "crossval knn": _crossval_knn,
    "crossval linear": _crossval_training,
    "crossval mlp": _crossval_training,
}
_COMMANDS: dict[str, Callable[[argparse.Namespace, Callable[[], None]], int]] = {
    **dict.fromkeys(_CALLS, _run),
    "data list": _data_list,
    "data info": _data_info,
    "data prepare": _data_prepare,
    "explain": _explain,
    "gradcheck": _gradcheck,
}
