"""The options of the command line: what each command accepts, and one line for whatever it does not."""

import argparse
import difflib
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from funcgrad import __version__

METRICS = ("l1", "l2", "sqeuclidean", "cosine", "dot", "chebyshev", "hamming", "manhattan", "euclidean")  # without p
_RESUME = "go on from what an interrupted run kept in --out DIR"
_DATA_DIR = "where TFDS data lies [$TFDS_DATA_DIR, or ~/tensorflow_datasets]"
_MODELS = {"knn": "k-NN", "linear": "linear classifier", "mlp": "MLP"}


class _Parser(argparse.ArgumentParser):
    """One line for each error, that of the command itself; options in full, and numbers like -1e-3 are no options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # as Python 3.14 has it

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if "variables" in found:  # those after an option, too
            found.variables = found.variables + [x for x in unknown if not x.startswith("--")]
            unknown = [x for x in unknown if x.startswith("--")]
        if unknown:
            close = difflib.get_close_matches(unknown[0], self._option_string_actions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Every command and option; what was parsed has the name of its command as `command`."""
    top = _Parser(prog="funcgrad", description="Exact k-NN and linear probes, as small pure functions in JAX.")
    top.add_argument("--version", action="version", version=f"funcgrad {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    demo = _command(commands, "demo", "everything below on the embedded digits, in about a minute")
    _add_run_options(demo, out=Path("funcgrad-demo"))

    data = commands.add_parser("data", help="list, describe or prepare data sets").add_subparsers(
        required=True, metavar="list|info|prepare", parser_class=_Parser
    )
    for name, help_ in (
        ("list", "what is there, and what can be prepared"),
        ("info", "where a data set is, how many images, which classes"),
        ("prepare", "download a data set, or take its archives, and write it for TFDS"),
    ):
        command = _command(data, name, help_, prefix="data ")
        if name != "list":
            command.add_argument("name", nargs="+" if name == "info" else None, metavar="NAME")
        if name == "prepare":
            given = "the original archives, or a folder of them, in place of downloading"
            command.add_argument(
                "--from", dest="archives", nargs="+", type=Path, default=[], metavar="FILE", help=given
            )
        command.add_argument("--data-dir", type=Path, metavar="DIR", help=_DATA_DIR)
        command.add_argument("--json", action="store_true", help="print JSON, and nothing else")
        command.add_argument("--quiet", action="store_true", help="no progress")
        command.add_argument("--debug", action="store_true", help="show where an error came from")

    knn = _command(commands, "knn", "k-nearest neighbours: test accuracy for each k")
    _add_knn_options(knn)
    _add_metric(knn, choices=(*METRICS, "minkowski"), default="l2")
    knn.add_argument("--p", type=_number(1), metavar="P", help="of metric minkowski")
    knn.add_argument(
        "--temperature", type=_number(0, exclusive=True), metavar="T", default=0.07, help="of softmax weights [0.07]"
    )
    knn.add_argument("--precision", choices=("exact", "fast"), default="exact", help="of floats [exact]")
    knn.add_argument("--devices", type=_integer(1), default=1, metavar="N", help="that share the queries [1]")
    knn.add_argument("--resume", action="store_true", help=_RESUME)
    _add_data_options(knn)
    _add_run_options(knn)

    train = commands.add_parser("train", help="train a linear classifier or an MLP").add_subparsers(
        required=True, metavar="linear|mlp", parser_class=_Parser
    )
    for name in ("linear", "mlp"):
        command = _command(train, name, f"train one {_MODELS[name]}", prefix="train ")
        _add_train_options(command, mlp=name == "mlp")
        add = command.add_argument
        add("--lr", type=_number(0, exclusive=True), default=1e-3, metavar="X", help="learning rate [0.001]")
        add("--l1", type=_number(0), default=0.0, metavar="X", help="λ of the penalty λ·Σ|W| [0]")
        add("--l2", type=_number(0), default=0.0, metavar="X", help="λ of the penalty λ·ΣW² [0]")
        add("--weight-decay", type=_number(0), default=0.0, metavar="X", help="decoupled, on weights only [0]")
        add("--label-smoothing", type=_number(0, 1), default=0.0, metavar="X", help="[0]")
        _add_watched_options(command)
        _add_data_options(command)
        _add_run_options(command)

    predict = _command(commands, "predict", "labels and probabilities by a classifier that was trained")
    predict.add_argument("--model", type=Path, required=True, metavar="DIR", help="the --out DIR of its training")
    part = "which part of the data [test]"
    predict.add_argument("--split", choices=("test", "train"), default="test", help=part)
    _add_data_options(predict)
    _add_run_options(predict)

    cross = commands.add_parser("crossval", help="choose hyper-parameters by cross-validation").add_subparsers(
        required=True, metavar="knn|linear|mlp", parser_class=_Parser
    )
    for name in ("knn", "linear", "mlp"):
        command = _command(cross, name, f"choose the hyper-parameters of {_MODELS[name]}", prefix="crossval ")
        if name == "knn":
            _add_knn_options(command)
            _add_metric(command, nargs="+", choices=(*METRICS, "minkowski"), default=["l1", "l2"])
            command.add_argument("--p", type=_number(1), metavar="P", help="of metric minkowski")
            command.add_argument("--shuffle", action="store_true", help="shuffle before cutting folds")
            command.add_argument("--resume", action="store_true", help=_RESUME)
        else:
            _add_train_options(command, mlp=name == "mlp")
            add = partial(command.add_argument, metavar="VALUES")
            rates = "learning rates: one, a list (1e-3,1e-2), or a range (1e-4:1e-1:log8, 0.1:0.5:lin5)"
            add("--lr", type=_values(positive=True), default=[1e-4, 1e-3, 1e-2], help=f"{rates} [1e-4,1e-3,1e-2]")
            add("--l1", type=_values(), default=[0.0], help="λ of the penalty λ·Σ|W|, likewise [0]")
            add("--l2", type=_values(), default=[0.0], help="λ of the penalty λ·ΣW², likewise [0]")
            add("--weight-decay", type=_values(), default=[0.0], help="decoupled, on weights only, likewise [0]")
            add("--label-smoothing", type=_values(), default=[0.0], help="from 0 to 1, likewise [0]")
            command.add_argument(
                "--seeds", type=_integer(1), default=1, metavar="N", help="trainings of each setting and fold [1]"
            )
            at_once = "of the trainings that run at once [2GiB]"
            command.add_argument("--memory", default="2GiB", metavar="SIZE", help=at_once)
        command.add_argument("--folds", type=_integer(2), default=5, metavar="N", help="[5]")
        command.add_argument("--stratified", action="store_true", help="each class in its share in every fold")
        _add_data_options(command)
        _add_run_options(command)

    gradcheck = _command(commands, "gradcheck", "funcgrad.autograd against jax.grad, on random programs or your own")
    gradcheck._negative_number_matcher = re.compile(r"-(\.?\d|inf)")
    gradcheck.add_argument("--programs", type=_integer(1), default=200, metavar="N", help="random programs [200]")
    gradcheck.add_argument(
        "--points", type=_integer(1), default=100, metavar="N", help="at which each is evaluated [100]"
    )
    gradcheck.add_argument(
        "--order",
        type=int,
        choices=(1, 2, 3),
        default=2,
        help="1: gradients, 2: and Hessians, 3: and third derivatives [2]",
    )
    gradcheck.add_argument("--seed", type=_integer(0), default=0, metavar="N", help="of the programs and points [0]")
    gradcheck.add_argument("--fun", metavar="FILE.py:NAME", help="a function of your own, in place of random programs")
    gradcheck.add_argument("--at", nargs="+", type=float, metavar="X", help="its arguments")
    gradcheck.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    gradcheck.add_argument("--quiet", action="store_true", help="print nothing but errors")
    gradcheck.add_argument("--debug", action="store_true", help="show where an error came from")

    explain = _command(commands, "explain", "an expression: value, derivatives, every step, the compiled source")
    explain._negative_number_matcher = re.compile(r"-[^-]")  # an expression may start with a sign
    typed = 'such as "tanh(a*b + c)": numbers, variables, operators, comparisons, x if c else y, the functions of ops'
    explain.add_argument("expression", metavar="EXPRESSION", help=typed)
    explain.add_argument(
        "variables", nargs="*", default=[], metavar="NAME=VALUE", help="such as a=2 b=-3 c=10: one for each variable"
    )
    explain.add_argument("--svg", type=Path, metavar="FILE", help="draw the graph, with all values and gradients")
    explain.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    explain.add_argument("--quiet", action="store_true", help="print nothing but errors")
    explain.add_argument("--debug", action="store_true", help="show where an error came from")
    return top


def _command(commands: Any, name: str, help_: str, prefix: str = "") -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_)
    command.set_defaults(command=prefix + name)
    return command


def _add_data_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("data")
    add = group.add_argument
    sources = (
        "digits, a TFDS name (cifar10), FILE.npz, two or four .npy files (features, labels), "
        "or a folder of class folders of images [digits]"
    )
    add("--data", nargs="+", default=["digits"], metavar="NAME", help=sources)
    add("--data-dir", type=Path, metavar="DIR", help=_DATA_DIR)
    add("--classes", nargs="+", metavar="NAME", help="only these classes")
    add("--limit-train", type=_integer(1), metavar="N", help="only the first N training examples")
    add("--limit-test", type=_integer(1), metavar="N", help="only the first N test examples")
    add("--size", type=_integer(1), metavar="N", help="resize images of a folder to N × N")
    fraction = "the last share of each class is for testing, where the data has no test part [0.2]"
    add("--test-fraction", type=_number(0, 1, exclusive=True), default=0.2, metavar="SHARE", help=fraction)


def _add_run_options(command: argparse.ArgumentParser, out: Path | None = None) -> None:
    add = command.add_argument_group("run").add_argument
    add("--seed", type=_integer(0), default=0, metavar="N", help="of all that is random [0]")
    add("--out", type=Path, default=out, metavar="DIR", help=f"where result.json and pictures go [{out or 'nowhere'}]")
    add("--json", action="store_true", help="print the result as JSON, and nothing else")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--debug", action="store_true", help="show where an error came from")


def _add_metric(command: argparse.ArgumentParser, *, choices: Sequence[str], default: Any, **options: Any) -> None:
    shown = default if isinstance(default, str) else " ".join(default)
    help_ = f"{', '.join(choices)} [{shown}]"
    command.add_argument("--metric", choices=choices, default=default, metavar="NAME", help=help_, **options)


def _add_knn_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--k", nargs="+", type=_integer(1), default=[1, 3, 5, 10], metavar="K", help="[1 3 5 10]")
    add("--weights", choices=("uniform", "distance", "softmax"), default="uniform", help="of the votes [uniform]")
    add("--memory", default="1GiB", metavar="SIZE", help="limit of what is needed beside the data [1GiB]")


def _add_train_options(command: argparse.ArgumentParser, *, mlp: bool) -> None:
    add = command.add_argument
    losses = ("softmax", "svm", "squared_svm", "crammer_singer")
    add("--loss", choices=losses, default="softmax", metavar="NAME", help=f"{', '.join(losses)} [softmax]")
    add("--optimizer", default="adamw", metavar="NAME", help="any of Optax's [adamw]")
    add("--schedule", default="cosine", metavar="NAME", help="of the learning rate, any of Optax's [cosine]")
    norm = "gradients of a larger norm, over all arrays, are scaled down to it [none]"
    add("--clip-norm", type=_number(0, exclusive=True), metavar="X", help=norm)
    add("--initialization", metavar="NAME", help="of the weights: he, glorot_uniform, orthogonal, … [the model's own]")
    add("--warmup", type=_number(0), default=0.0, metavar="EPOCHS", help="of linear rise of the learning rate [0]")
    add("--epochs", type=_integer(1), default=20, metavar="N", help="[20]")
    add("--batch-size", type=_integer(1), default=128, metavar="N", help="[128]")
    if mlp:
        add(
            "--hidden", nargs="+", type=_integer(1), default=[256], metavar="N", help="units of each hidden layer [256]"
        )
        add("--activation", default="relu", metavar="NAME", help="relu, gelu, silu, elu, tanh, sigmoid [relu]")
        add("--dropout", type=_number(0, 1), default=0.0, metavar="SHARE", help="of hidden units left out [0]")
        add("--layer-norm", action="store_true", help="normalise each hidden layer")
        add("--residual", action="store_true", help="hidden layers are inverted-bottleneck blocks")


def _add_watched_options(command: argparse.ArgumentParser) -> None:
    """Of one training, which can be watched, kept and spread over devices."""
    add = command.add_argument
    held_out = "share of the training set held out [0.1]"
    add("--validation", type=_number(0, 0.5), default=0.1, metavar="SHARE", help=held_out)
    waits = "stop after so many in which validation accuracy did not rise [never]"
    add("--patience", type=_integer(1), metavar="EPOCHS", help=waits)
    images = "of each image, anew each time: flip,shift:4,cutout:8 [none]"
    add("--augment", metavar="NAMES", help=images)
    add(
        "--mixup", type=_number(0), default=0.0, metavar="ALPHA", help="mixes pairs of inputs, and their losses [0: no]"
    )
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation [float32]")
    leave_out = "leave out steps whose loss or gradients are not finite, in place of stopping"
    add("--skip-nonfinite", action="store_true", help=leave_out)
    every = "with --out: a checkpoint after so many [1, but not within 10 seconds]"
    add("--checkpoint-every", type=_integer(1), metavar="EPOCHS", help=every)
    add("--keep", type=_integer(1), default=3, metavar="N", help="the last N checkpoints stay [3]")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out DIR")
    add("--devices", type=_integer(1), metavar="N", help="that share each batch [1; with --distributed all]")
    add("--split-hidden", type=_integer(1), default=1, metavar="N", help="devices that share the hidden units [1]")
    joins = "one process of several: HOST:PORT,PROCESSES,NUMBER, or auto under SLURM and on TPU pods"
    add("--distributed", metavar="HOW", help=joins)


def _integer(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"needs a whole number from {least} up, below 10**18, got {text!r}")
        return int(text)

    return parse


def _number(least: float, most: float = math.inf, *, exclusive: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        inside = least < value < most if exclusive else least <= value <= most
        if not inside or math.isinf(value):
            bounds = f"{'above' if exclusive else 'of at least'} {least:g}"
            if not math.isinf(most):
                bounds += f" and {'below' if exclusive else 'at most'} {most:g}"
            raise argparse.ArgumentTypeError(f"needs a number {bounds}, got {text!r}")
        return value

    return parse


def _values(*, positive: bool = False) -> Callable[[str], list[float]]:
    """Numbers from a value, a list "0,1e-4", or a range: "1e-5:1e-1:log16", "0:1:lin5"."""

    def parse(text: str) -> list[float]:
        try:
            if (found := re.fullmatch(r"([^:]+):([^:]+):(log|lin)(\d+)", text)) is None:
                values = [float(part) for part in text.split(",")]
            else:
                values = _range(float(found[1]), float(found[2]), int(found[4]), logarithmic=found[3] == "log")
            if not all(0 <= value < math.inf for value in values) or (positive and 0 in values):
                raise ValueError
        except ValueError:
            bounds = "above 0" if positive else "from 0 up"
            forms = "a number, a list (1e-3,1e-2) or a range (1e-5:1e-1:log16, 0.1:0.5:lin5)"
            raise argparse.ArgumentTypeError(f"needs {forms}, all {bounds}, got {text!r}") from None
        if len(set(values)) < len(values):
            raise argparse.ArgumentTypeError(f"needs each value once, got {text!r}")
        return values

    return parse


def _range(first: float, last: float, count: int, *, logarithmic: bool) -> list[float]:
    """`count` ≥ 2 numbers from first to last, those between rounded to six digits. Raises `ValueError`."""
    if count < 2:
        raise ValueError
    start, stop = (math.log(first), math.log(last)) if logarithmic else (first, last)
    inner = [start + (stop - start) * i / (count - 1) for i in range(1, count - 1)]
    return [first, *(float(f"{math.exp(x) if logarithmic else x:.6g}") for x in inner), last]
