"""The commands with their options, and the parser that argparse makes of them: one line for whatever it refuses."""

import argparse
import difflib
import re
from typing import Any, NamedTuple, NoReturn

from funcgrad import __version__, files
from funcgrad.cli import options

_NUMBER = r"-\.?\d"  # begins like an option and is none: such as -1e-3, as Python 3.14 has it


class Command(NamedTuple):
    help: str
    groups: tuple[type[options.Options], ...]  # of options; see `funcgrad.cli.options`
    not_options: str = _NUMBER


_OUTPUT = options.OutputOptions
_RUN = (options.DataOptions, options.RunOptions, _OUTPUT)
_RESUMABLE = (options.DataOptions, options.ResumableRunOptions, _OUTPUT)
_LINEAR = (options.ClassifierOptions,)
_MLP = (options.ClassifierOptions, options.NetworkOptions)
_TRAINING = (options.PenaltyOptions, options.SingleTrainingOptions, *_RESUMABLE)
_SWEEP = (options.SweptOptions, options.FoldOptions, *_RESUMABLE)

COMMANDS = {
    "demo": Command("everything below on the embedded digits, in about a minute", (options.DemoOptions, _OUTPUT)),
    "data list": Command("what is there, and what can be prepared", (options.DataListOptions, _OUTPUT)),
    "data info": Command("where a data set is, how many images, which classes", (options.DataInfoOptions, _OUTPUT)),
    "data cache": Command(
        "the decoded images that are kept, and how large they are", (options.DataCacheOptions, _OUTPUT)
    ),
    "data duplicates": Command("examples that occur twice, and those most alike", (options.DuplicatesOptions, *_RUN)),
    "data prepare": Command(
        "download a data set, or take its archives, and write it for TFDS", (options.DataPrepareOptions, _OUTPUT)
    ),
    "knn": Command("k-nearest neighbours: test accuracy for each k", (options.KnnOptions, *_RESUMABLE)),
    "train linear": Command("train one linear classifier", (*_LINEAR, *_TRAINING)),
    "train mlp": Command("train one MLP", (*_MLP, *_TRAINING)),
    "predict": Command("labels and probabilities by a classifier that was trained", (options.PredictOptions, *_RUN)),
    "crossval knn": Command("choose the hyper-parameters of k-NN", (options.CrossvalKnnOptions, *_RESUMABLE)),
    "crossval linear": Command("choose the hyper-parameters of linear classifier", (*_LINEAR, *_SWEEP)),
    "crossval mlp": Command("choose the hyper-parameters of MLP", (*_MLP, *_SWEEP)),
    "gradcheck": Command(
        "funcgrad.autograd against jax.grad, on random programs or your own",
        (options.GradcheckOptions, _OUTPUT),
        not_options=r"-(\.?\d|inf)",
    ),
    "explain": Command(
        "an expression or your own function: value, derivatives, every step, the compiled source",
        (options.ExplainOptions, _OUTPUT),
        not_options=r"-[^-]",  # an expression may start with a sign
    ),
}
_PARENTS = {
    "data": "list, describe, compare or prepare data sets",
    "train": "train a linear classifier or an MLP",
    "crossval": "choose hyper-parameters by cross-validation",
}


class _Parser(argparse.ArgumentParser):
    """One line for each error, that of the command itself; options in full."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords, allow_abbrev=False)
        self._negative_number_matcher = re.compile(_NUMBER)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if "variables" in found:  # those after an option, too
            found.variables = [*found.variables, *(x for x in unknown if not x.startswith("--"))]
            unknown = [x for x in unknown if x.startswith("--")]
        if unknown:
            close = difflib.get_close_matches(unknown[0], self._option_string_actions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            if "variables" in found and not close:
                hint = f"; an expression that begins with -- goes in parentheses: ({unknown[0]})"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {files.one_line(message)} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Every command and option; what was parsed has the name of its command as `command`."""
    top = _Parser(prog="funcgrad", description="Exact k-NN and linear probes, as small pure functions in JAX.")
    top.add_argument("--version", action="version", version=f"funcgrad {__version__}")
    below = {"": top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)}
    for name, command in COMMANDS.items():
        parent, _, last = name.rpartition(" ")
        if parent not in below:
            lasts = "|".join(other.split()[1] for other in COMMANDS if other.startswith(f"{parent} "))
            made = below[""].add_parser(parent, help=_PARENTS[parent])
            below[parent] = made.add_subparsers(required=True, metavar=lasts, parser_class=_Parser)
        made = below[parent].add_parser(last, help=command.help, description=command.help)
        made.set_defaults(command=name)
        made._negative_number_matcher = re.compile(command.not_options)
        for group in command.groups:
            options.add_to(made.add_argument_group(group.title) if group.title else made, group)
    return top
