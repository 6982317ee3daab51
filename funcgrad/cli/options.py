"""Every option of the command line, declared once: its name, type, default and help.

From a group of them (`Options`) come the parser (`add_to`), the record in result.json (`recorded`) and the typed
options that a command takes (`pick`). Nothing here imports JAX before `check` does, which looks names up in the tables
that own them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar, dataclass_transform

import funcgrad
from funcgrad.cli.values import distributed, file_path, integer, number, numbers

Group = TypeVar("Group", bound="Options")


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Options:
    """A group of options: each subclass is a frozen dataclass, whose fields are made by `option`."""

    title: ClassVar[str | None] = None  # of its section in the help

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)


def option(
    default: Any,
    help: str = "",
    *,
    flag: str | None = None,
    names: Callable[[], Iterable[str]] | None = None,
    distinct: bool = False,
    recorded: bool = True,
    resumable: bool = False,
    **keywords: Any,
) -> Any:
    """A field of a group of options: `--a-name` for the field `a_name`. The help ends with its default, if it has one.

    Args:
      flag: another name than the field's; without dashes the option is positional.
      names: the names that are accepted, from the table that owns them; see `check`.
      distinct: each value may be given once.
      recorded: whether it stands in result.json.
      resumable: whether a run that is resumed may have another value.
      keywords: of argparse's `add_argument`.
    """
    properties = {"flag": flag, "names": names, "distinct": distinct, "recorded": recorded, "resumable": resumable}
    keywords |= {"action": "store_true"} if default is False else {"default": default}
    keywords |= {} if names is None else {"metavar": "NAME"}
    shown = "" if default is None or default is False or default in ((), "") else f"[{_shown(default, keywords)}]"
    return field(default=default, metadata={**properties, "keywords": {**keywords, "help": f"{help} {shown}".strip()}})


def _shown(default: Any, keywords: Mapping[str, Any]) -> str:
    """The default as it would be typed."""
    values = default if isinstance(default, tuple) else (default,)
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return (" " if "nargs" in keywords else ",").join(texts)


def declared(group: type[Options]) -> list[Any]:
    """The fields of a group that are options."""
    return [one for one in fields(group) if one.metadata]


def flag_of(one: Any) -> str:
    return one.metadata["flag"] or f"--{one.name.replace('_', '-')}"


def add_to(parser: Any, group: type[Options]) -> None:
    """Adds the options of a group to a parser of argparse, or to a section of one."""
    for one in declared(group):
        flag = flag_of(one)
        dest = {"dest": one.name} if flag.startswith("-") else {}
        parser.add_argument(flag, **dest, **one.metadata["keywords"])


def pick(group: type[Group], values: Mapping[str, Any]) -> Group:
    """Those of the values that are fields of a group, as that group; lists become tuples."""
    chosen = {one.name: values[one.name] for one in fields(group) if one.name in values}
    return group(**{name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()})


def recorded(groups: Iterable[type[Options]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a result records as its `config`."""
    return {one.name: values[one.name] for group in groups for one in declared(group) if one.metadata["recorded"]}


def check(groups: Iterable[type[Options]], values: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a name that is not in its table, and for a value that was given twice."""
    for one in (one for group in groups for one in declared(group)):
        names, value = one.metadata["names"], values[one.name]
        given = value if isinstance(value, list | tuple) else [value]
        if one.metadata["distinct"] and len(set(given)) < len(given):
            raise ValueError(f"{flag_of(one)}: each value once, got {' '.join(map(str, given))}")
        if names is not None and value != one.default:
            known = list(names())
            for name in given:
                if name not in known:
                    raise ValueError(f"{flag_of(one)}: {name!r} is unknown; choose one of {', '.join(known)}")


# What options have in common

_COUNT: dict[str, Any] = {"type": integer(1), "metavar": "N"}
_EPOCHS: dict[str, Any] = {"type": integer(1), "metavar": "EPOCHS"}
_POSITIVE: dict[str, Any] = {"type": number(0, exclusive=True), "metavar": "X"}
_NONNEGATIVE: dict[str, Any] = {"type": number(0), "metavar": "X"}
_VALUES: dict[str, Any] = {"type": numbers(), "metavar": "VALUES"}
_FOLDER: dict[str, Any] = {"type": Path, "metavar": "DIR"}
_NAMES: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}


def _metrics() -> list[str]:
    return [*funcgrad.distances.METRICS, *funcgrad.distances.ALIASES]


_METRICS = "l1, l2, sqeuclidean, cosine, dot, chebyshev, minkowski, hamming, manhattan, euclidean"
_DATA_DIR = "where TFDS data lies [$TFDS_DATA_DIR, or ~/tensorflow_datasets]"
_KEYS = "the arrays FEATURES LABELS of an archive (and those of its test part), or the feature columns of a table"
_LABEL_COLUMN = "the column of labels, in a table [label, class, target, …]"
_OUT = "where result.json and pictures go"


# Groups of several commands


class OutputOptions(Options):
    title = "output"
    json: bool = option(False, "print the result as JSON, and nothing else", recorded=False)
    quiet: bool = option(False, "print nothing but errors", recorded=False)
    debug: bool = option(False, "show where an error came from", recorded=False)


class RunOptions(Options):
    title = "run"
    seed: int = option(0, "of all that is random", type=integer(0), metavar="N")
    out: Path | None = option(None, f"{_OUT} [nowhere]", **_FOLDER, recorded=False)
    compile_cache: str = option(
        "auto",
        "compiled programs serve the next run: auto is on where they give the same bits, as on a CPU",
        choices=("auto", "on", "off"),
        recorded=False,
    )


class ResumableRunOptions(RunOptions):
    resume: bool = option(False, "continue from what an interrupted run saved in --out DIR", recorded=False)


class DataOptions(Options):
    title = "data"
    data: tuple[str, ...] = option(
        ("digits",),
        "digits, a TFDS name (cifar10), FILE.npz or .safetensors, two or four .npy files (features, labels), a table "
        "(.csv, .parquet, .jsonl) of numbers, vectors or image files, "
        "or a folder of class folders of images (./digits, if it is called so)",
        **_NAMES,
    )
    data_dir: Path | None = option(None, _DATA_DIR, **_FOLDER)
    classes: tuple[str, ...] | None = option(None, "only these classes", **_NAMES)
    limit_train: int | None = option(None, "only the first N training examples", **_COUNT)
    limit_test: int | None = option(None, "only the first N test examples", **_COUNT)
    per_class: int | None = option(None, "only the first N training examples of each class", **_COUNT)
    size: int | None = option(None, "resize images of TFDS or of a folder to N × N", **_COUNT)
    channels: int | None = option(None, "1: grey, 3: RGB [grey if all images are]", type=int, choices=(1, 3))
    background: str = option("white", "shows through transparent pixels: a name or #rrggbb", metavar="COLOR")
    skip_unreadable: bool = option(False, "leave out images that cannot be read")
    allow_empty_classes: bool = option(False, "accept class folders without images")
    keys: tuple[str, ...] | None = option(None, _KEYS, **_NAMES)
    label_column: str | None = option(None, _LABEL_COLUMN, metavar="NAME")
    group_column: str | None = option(
        None, "the column or array of what stays in one fold, such as a person", flag="--groups", metavar="COLUMN"
    )
    test_fraction: float = option(
        0.2,
        "the last share of each class is for testing, where the data has no test part",
        type=number(0, 1, exclusive=True),
        metavar="SHARE",
    )


class FoldOptions(Options):
    folds: int = option(5, "each has every class in its share, and is shuffled by --seed", type=integer(2), metavar="N")
    folds_in_order: bool = option(False, "consecutive examples in each fold instead, as in CS231n")


# demo, data, gradcheck, explain


class DemoOptions(RunOptions):
    out: Path | None = option(Path("funcgrad-demo"), _OUT, **_FOLDER, recorded=False)


class DataListOptions(Options):
    data_dir: Path | None = option(None, _DATA_DIR, **_FOLDER)


class DataInfoOptions(DataListOptions):
    name: tuple[str, ...] = option((), flag="name", **_NAMES)
    keys: tuple[str, ...] | None = option(None, _KEYS, **_NAMES)
    label_column: str | None = option(None, _LABEL_COLUMN, metavar="NAME")


class DataCacheOptions(Options):
    clear: bool = option(False, "remove all of it")


class DuplicatesOptions(Options):
    metric: str = option("l2", _METRICS, names=_metrics)
    p: float | None = option(None, "of metric minkowski", type=number(1), metavar="P")
    nearest: int = option(10, "the closest pairs that are not equal", type=integer(0), metavar="N")
    rows: int = option(40, "of the printed table", **_COUNT)
    memory: str = option("1GiB", "limit of what is needed beside the data", metavar="SIZE")


class DataPrepareOptions(DataListOptions):
    name: str = option("", flag="name", metavar="NAME")
    archives: tuple[Path, ...] = option(
        (),
        "the original archives, or a folder of them, in place of downloading",
        flag="--from",
        nargs="+",
        type=Path,
        metavar="FILE",
    )


class GradcheckOptions(Options):
    programs: int = option(200, "random programs", **_COUNT)
    points: int = option(100, "at which each is evaluated", **_COUNT)
    order: int = option(2, "1: gradients, 2: and Hessians, 3: and third derivatives", type=int, choices=(1, 2, 3))
    seed: int = option(0, "of the programs and points", type=integer(0), metavar="N")
    fun: str | None = option(None, "a function of your own, in place of random programs", metavar="FILE.py:NAME")
    at: tuple[float, ...] | None = option(None, "its arguments", nargs="+", type=float, metavar="X")


class ExplainOptions(Options):
    expression: str | None = option(
        None,
        'such as "tanh(a*b + c)": numbers, variables, operators, comparisons, x if c else y, the functions of ops',
        flag="expression",
        nargs="?",
        metavar="EXPRESSION",
    )
    variables: tuple[str, ...] = option(
        (), "such as a=2 b=-3 c=10: one for each variable", flag="variables", nargs="*", metavar="NAME=VALUE"
    )
    fun: str | None = option(None, "a function of your own, in place of an expression", metavar="FILE.py:NAME")
    at: tuple[float, ...] | None = option(None, "its arguments", nargs="+", type=float, metavar="X")
    svg: Path | None = option(None, "draw the graph, with all values and gradients", type=file_path, metavar="FILE")


# knn, crossval knn


class VoteOptions(Options):
    k: tuple[int, ...] = option((1, 3, 5, 10), nargs="+", type=integer(1), metavar="K", distinct=True)
    weights: str = option("uniform", "uniform, distance, softmax", names=lambda: funcgrad.neighbors.WEIGHTS)
    memory: str = option("1GiB", "limit of what is needed beside the data", metavar="SIZE")
    p: float | None = option(None, "of metric minkowski", type=number(1), metavar="P")
    temperature: float | None = option(None, "of weights softmax [0.07]", type=number(0, exclusive=True), metavar="T")
    precision: str = option("exact", "of floats: exact, fast", names=lambda: funcgrad.neighbors.PRECISIONS)
    devices: int = option(1, "that share the queries", **_COUNT)

    def __post_init__(self) -> None:
        if self.temperature is not None and self.weights != "softmax":
            raise ValueError(
                f"--temperature: only --weights softmax has one, got {self.temperature:g} and {self.weights}"
            )

    @property
    def voting(self) -> dict[str, Any]:
        """The arguments of `funcgrad.neighbors.vote`."""
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        return {"ks": self.k, "weights": self.weights, **temperature}


class KnnOptions(VoteOptions):
    metric: str = option("l2", _METRICS, names=_metrics)


class CrossvalKnnOptions(FoldOptions, VoteOptions):
    metric: tuple[str, ...] = option(("l1", "l2"), _METRICS, names=_metrics, nargs="+", distinct=True)


# train, crossval linear|mlp, predict


class ClassifierOptions(Options):
    loss: str = option("softmax", "softmax, svm, squared_svm, crammer_singer", names=lambda: funcgrad.losses.LOSSES)
    optimizer: str = option("adamw", "any of Optax's", names=lambda: funcgrad.training.OPTIMIZERS)
    schedule: str = option("cosine", "of the learning rate, any of Optax's", names=lambda: funcgrad.training.SCHEDULES)
    clip_norm: float | None = option(
        None, "gradients of a larger global norm are scaled down to it [none]", **_POSITIVE
    )
    initialization: str | None = option(
        None,
        "of the weights: he, glorot_uniform, orthogonal, … [the model's own]",
        names=lambda: funcgrad.models.INITIALIZATIONS,
    )
    warmup: float = option(0.0, "of linear rise of the learning rate", type=number(0), metavar="EPOCHS")
    epochs: int | None = option(None, "[20, or as many as make 200 steps]", **_COUNT)
    batch_size: int = option(128, **_COUNT)


class NetworkOptions(Options):
    hidden: tuple[int, ...] = option((256,), "units of each hidden layer", nargs="+", **_COUNT)
    activation: str = option("relu", "relu, gelu, silu, elu, tanh, sigmoid", names=lambda: funcgrad.models.ACTIVATIONS)
    dropout: float = option(0.0, "of hidden units left out", type=number(0, 1), metavar="SHARE")
    layer_norm: bool = option(False, "normalise each hidden layer")
    residual: bool = option(False, "hidden layers are inverted-bottleneck blocks")


class PenaltyOptions(Options):
    lr: float = option(1e-3, "learning rate", **_POSITIVE)
    l1: float = option(0.0, "λ of the penalty λ·Σ|W|", **_NONNEGATIVE)
    l2: float = option(0.0, "λ of the penalty λ·ΣW²", **_NONNEGATIVE)
    weight_decay: float = option(0.0, "decoupled, on weights only", **_NONNEGATIVE)
    label_smoothing: float = option(0.0, type=number(0, 1), metavar="X")


class SweptOptions(Options):
    """Those of `PenaltyOptions`, each with one value or more."""

    lr: tuple[float, ...] = option(
        (1e-4, 1e-3, 1e-2),
        "learning rates: one, a list (1e-3,1e-2), or a range (1e-4:1e-1:log8, 0.1:0.5:lin5)",
        type=numbers(positive=True),
        metavar="VALUES",
    )
    l1: tuple[float, ...] = option((0.0,), "λ of the penalty λ·Σ|W|, likewise", **_VALUES)
    l2: tuple[float, ...] = option((0.0,), "λ of the penalty λ·ΣW², likewise", **_VALUES)
    weight_decay: tuple[float, ...] = option((0.0,), "decoupled, on weights only, likewise", **_VALUES)
    label_smoothing: tuple[float, ...] = option((0.0,), "from 0 to 1, likewise", **_VALUES)
    seeds: int = option(1, "trainings of each setting and fold", **_COUNT)
    memory: str = option("2GiB", "of the trainings that run at once", metavar="SIZE", resumable=True)


class SingleTrainingOptions(Options):
    """Of one training, which can be watched, saved and spread over devices."""

    validation: float = option(0.1, "share of the training set held out", type=number(0, 0.5), metavar="SHARE")
    patience: int | None = option(None, "stop after so many without a rise in validation accuracy [never]", **_EPOCHS)
    augment: str | None = option(None, "of each image, anew each time: flip,shift:4,cutout:8 [none]", metavar="NAMES")
    mixup: float = option(0.0, "mixes pairs of inputs, and their losses", type=number(0), metavar="ALPHA")
    dtype: str = option("float32", "of the computation", choices=("float32", "bfloat16"))
    skip_nonfinite: bool = option(False, "skip steps whose loss or gradients are not finite instead of stopping")
    checkpoint_every: int | None = option(
        None, "with --out: a checkpoint after so many [1, but not within 10 seconds]", **_EPOCHS, resumable=True
    )
    keep: int = option(3, "the last N checkpoints stay", **_COUNT, resumable=True)
    devices: int | None = option(None, "that share each batch [1; with --distributed all]", **_COUNT, resumable=True)
    distributed: tuple[str | int, ...] | None = option(
        None,
        "one process of several: HOST:PORT,PROCESSES,NUMBER, or auto under SLURM and on TPU pods",
        type=distributed,
        metavar="HOW",
        recorded=False,
        resumable=True,
    )


class TrainOptions(SingleTrainingOptions, PenaltyOptions, NetworkOptions, ClassifierOptions):
    model: str = "linear"

    @property
    def num_epochs(self) -> int:
        """Only of options whose epochs are given; see `funcgrad.cli.train.with_epochs`."""
        if self.epochs is None:
            raise ValueError("epochs: none are given")
        return self.epochs

    @property
    def num_devices(self) -> int | None:
        """None: all there are."""
        return 1 if self.devices is None and self.distributed is None else self.devices


class SweepOptions(FoldOptions, SweptOptions, NetworkOptions, ClassifierOptions):
    model: str = "linear"


class PredictOptions(Options):
    model: Path = option(None, "the --out DIR of its training", required=True, **_FOLDER)
    split: str = option("all", "which part of the data: all, train, test", choices=("all", "train", "test"))
