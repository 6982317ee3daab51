"""Named arrays in files, .npz, .safetensors and .npy: which of them are features and labels; only these are read."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from funcgrad.datasets.arrays import PARTS, Found, RawSplit, part_of
from funcgrad.files import listed, reading, shown

SUFFIXES = frozenset({".npz", ".safetensors"})
# The usual names, in the order in which one is chosen where there are several.
FEATURES = ("x", "data", "features", "feats", "embeddings", "embedding", "vectors", "images", "image", "inputs")
LABELS = ("y", "target", "targets", "labels", "label")
_CLASSES = ("classes", "class_names", "label_names", "target_names")
_ACCEPTED = (
    "x_train, y_train, x_test, y_test, or x, y, or other usual names are accepted, --keys FEATURES LABELS others"
)

_KINDS = FEATURES + LABELS
_part = "|".join(name for names in PARTS.values() for name in names)
_USUAL = re.compile(rf"(?:(?P<before>{_part})[_. -]?)?(?P<kind>{'|'.join(_KINDS)})(?:[_. -]?(?P<after>{_part}))?", re.I)

Chosen = dict[str, dict[str, str]]  # by part, the name of its "features", and perhaps of its "labels" and "groups"


def read_archive(path: Path, keys: Sequence[str] | None = None, group: str | None = None) -> Found:
    """The parts in a .npz or .safetensors file, and the names of its classes, if it has any.

    keys: the arrays that are features and labels, and likewise of the test part; None: those with usual names.
    group: the array of groups. Raises ValueError, or FileNotFoundError.
    """
    kind = f"{path.suffix} file of plain arrays"
    with reading(path, kind), _opened(path) as (found, _):
        names = [*found]
    chosen = _usual(path, names) if keys is None else _named(path, names, keys)
    for part, of in chosen.items() if group is not None else ():
        candidates: list[str] = [f"{group}"] if len(chosen) == 1 else [f"{group}_{part}", f"{part}_{group}"]
        of["groups"] = next((name for name in candidates if name in names), "")
        if not of["groups"]:
            raise ValueError(f"group_column is {group!r}, of which {path} has no {' or '.join(candidates)}")
    titles = next((name for name in names if name.lower() in _CLASSES), None)
    used = [name for of in chosen.values() for name in of.values()] + ([] if titles is None else [titles])
    with reading(path, kind), _opened(path) as (_, read):
        arrays = {name: _read(name, read) for name in used}
    parts = {
        part: RawSplit(
            f"{path}: {of['features']}",
            arrays[of["features"]],
            f"{path}: {of['labels']}" if "labels" in of else f"--keys FEATURES LABELS names them, of {sorted(names)}",
            arrays.get(of.get("labels", "")),
            groups=arrays.get(of.get("groups", "")),
        )
        for part, of in chosen.items()
    }
    classes = None if titles is None else _class_names(f"{path}: {titles}", arrays[titles])
    notes, unused = [], [name for name in names if name not in used]
    if unused or {name[:1] for name in used} - {"x", "y", "c"}:
        pairs = "; ".join(", ".join(f"{shown(name)} ({kind})" for kind, name in of.items()) for of in chosen.values())
        notes.append(f"arrays used: {pairs}" + (f"; not used: {listed(map(shown, unused))}" if unused else ""))
    return Found(path.name, parts, classes, "", notes, {"arrays": chosen})


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Sequence[str], Callable[[str], Any]]]:
    """The names of the arrays in a file, and what reads one of them."""
    if path.suffix.lower() == ".npz":
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive.files, archive.__getitem__
    else:
        import ml_dtypes  # noqa: F401, which makes bfloat16 known to NumPy
        from safetensors import safe_open

        with safe_open(path, "numpy") as tensors:
            yield tensors.keys(), tensors.get_tensor


def _read(name: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
    try:
        return read(name)
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        why = "holds Python objects, as a column of text in pandas does, which only pickle reads"
        raise ValueError(f"{name} {why}; save {name}.astype(str)") from None


def _usual(path: Path, names: Sequence[str]) -> Chosen:
    """The arrays with usual names: those of parts, else those of the whole."""
    matches = [match for match in map(_USUAL.fullmatch, names) if match and not (match["before"] and match["after"])]
    found: dict[str, dict[str, str]] = {}
    for match in sorted(matches, key=lambda match: _KINDS.index(match["kind"].lower())):
        part = part_of(match["before"] or match["after"] or "") or "whole"
        kind = "features" if match["kind"].lower() in FEATURES else "labels"
        found.setdefault(part, {}).setdefault(kind, match[0])
    if "features" not in found.get("train", {}):
        unnamed = (
            {"features": "arr_0", "labels": "arr_1"} if [*names] == ["arr_0", "arr_1"] else {}
        )  # of np.savez(x, y)
        found["train"] = found.get("whole", unnamed)
    chosen = {part: found[part] for part in PARTS if "features" in found.get(part, {})}
    if not chosen:
        raise ValueError(f"{path} holds {sorted(names)}; {_ACCEPTED}")
    return chosen


def _named(path: Path, names: Sequence[str], keys: Sequence[str]) -> Chosen:
    if len(keys) not in (1, 2, 4):
        raise ValueError(
            f"keys are {', '.join(keys)}; FEATURES LABELS, and perhaps those of the test part, are accepted"
        )
    if unknown := [key for key in keys if key not in names]:
        raise ValueError(f"keys: {', '.join(unknown)} is not in {path}, which holds {sorted(names)}")
    pairs = [dict(zip(("features", "labels"), keys[start : start + 2], strict=False)) for start in (0, 2)]
    return {part: pair for part, pair in zip(("train", "test"), pairs, strict=True) if pair}


def _class_names(what: str, array: np.ndarray) -> list[str]:
    array = np.atleast_1d(array)
    names = (np.strings.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array).astype(str).tolist()
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} has {', '.join(map(repr, repeated))} more than once; names must differ")
    return names


# Formats of other libraries, by their names and endings, and the two lines of Python that convert a file.
_FOREIGN = {
    ("PyTorch", ".pt", ".pth"): (
        'import numpy, torch; d = torch.load({path!r}, map_location="cpu")',
        'numpy.savez({npz!r}, x=d["x"].float().numpy(), y=d["y"].numpy())',
    ),
    ("HDF5", ".h5", ".hdf5"): (
        "import h5py, numpy; d = h5py.File({path!r})",
        'numpy.savez({npz!r}, x=d["x"][:], y=d["y"][:])',
    ),
    ("pickle", ".pkl", ".pickle", ".joblib"): (
        "import numpy, pandas; d = pandas.read_pickle({path!r})",
        'numpy.savez({npz!r}, x=numpy.stack(d["x"]), y=numpy.array(list(d["y"])))',
    ),
    ("MATLAB", ".mat"): (
        "import numpy, scipy.io; d = scipy.io.loadmat({path!r})",
        'numpy.savez({npz!r}, x=d["x"], y=d["y"].ravel())',
    ),
}


def refuse_foreign(path: Path) -> None:
    """Raises ValueError for a format that can run code or needs another library; it says how to convert the file."""
    for (name, *suffixes), lines in _FOREIGN.items():
        if path.suffix.lower() in suffixes:
            code = ";\n".join(lines).format(path=path.name, npz=path.with_suffix(".npz").name)
            why = "files are not read; two lines of Python convert it, with its names in place of x and y:"
            raise ValueError(f"{path}: {name} {why}\n{code}")


def read_npy(paths: Sequence[Path]) -> Found:
    """Memory-mapped: features and labels, and perhaps those of a test part.

    One path stands for STEM.npy and STEM_labels.npy, where that exists, and for …test.npy beside …train.npy.
    """
    if len(paths) == 1:
        stem = paths[0].stem
        stems = [stem, f"{stem.removesuffix('train')}test"] if stem.endswith("train") else [stem]
        pairs = [[paths[0].with_name(f"{stem}{tail}.npy") for tail in ("", "_labels")] for stem in stems]
        pairs = pairs[:1] + [pair for pair in pairs[1:] if all(map(Path.is_file, pair))]
    elif len(paths) in (2, 4):
        pairs = [[*paths[:2]], [*paths[2:]]]
    else:
        raise ValueError(f"{len(paths)} .npy files; (features, labels), or both for train and then test, are accepted")
    parts = {}
    for part, pair in zip(("train", "test"), pairs, strict=False):
        if len(paths) == 1 and not pair[1].is_file():  # features alone
            parts[part] = RawSplit(str(pair[0]), _mapped(pair[0]), f"{pair[1]}: no such file")
        elif pair:
            parts[part] = RawSplit(str(pair[0]), _mapped(pair[0]), str(pair[1]), _mapped(pair[1]))
    return Found(" + ".join(path.name for pair in pairs for path in pair if path.is_file()), parts)


def _mapped(path: Path) -> np.ndarray:
    with reading(path, ".npy file of a plain array"):
        return np.lib.format.open_memmap(path, mode="r")
