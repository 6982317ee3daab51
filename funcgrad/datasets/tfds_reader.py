"""Data sets that TFDS has prepared as array_record: found by name, described by their metadata, read record by record.

TensorFlow is never imported.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets.images import Encoded, Example, Source
from funcgrad.files import listed, reporting, shown

_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # of features.json, in all of its versions
_OWN_FEATURE = re.compile(r"(tensorflow_datasets\.core\.features\.(\w+\.)*)?\w+")


def tfds_root(data_dir: str | Path | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared(root: Path, name: str = "[!.]*") -> dict[str, dict[str, Path]]:
    """The versions of each `name` or `name/config` in `root`, the highest last; `incomplete.…` directories are none."""
    found = [path.parent for depth in ("*", "*/*") for path in root.glob(f"{name}/{depth}/dataset_info.json")]
    found = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    versions: dict[str, dict[str, Path]] = {}
    for path in sorted(found, key=lambda path: [int(number) for number in path.name.split(".")]):
        versions.setdefault(path.parent.relative_to(root).as_posix(), {})[path.name] = path
    return dict(sorted(versions.items()))


def find_tfds(name: str | Path, root: Path) -> Path | None:
    """The directory of `name[/config][:version]` in `root`: its highest version, its only config, if not given."""
    parsed = re.fullmatch(r"((\w+)(?:/[^/:]+)?)(?::([\d.]+))?", name) if isinstance(name, str) else None
    if parsed is None:
        return None
    wanted, builder, version = parsed.groups()
    found = {key: versions for key, versions in prepared(root, builder).items() if wanted in (key, builder)}
    if len(found) > 1:
        raise ValueError(f"{wanted} has several configs in {root}: {', '.join(found)}")
    for key, versions in found.items():
        if version and version not in versions:
            raise ValueError(f"{key}:{version} is not in {root}, which has {', '.join(versions)}")
        return versions[version or [*versions][-1]]
    return None


class Metadata(NamedTuple):
    """A TFDS directory: its builder, the examples of train and perhaps test, and the names of the features used."""

    builder: Any
    counts: dict[str, int]
    classes: list[str]
    shape: tuple[int | None, ...]
    image: str
    label: str
    id: str | None


def open_tfds(directory: Path) -> Metadata:
    """Reads the metadata only. Raises ValueError unless there is exactly one image and one label."""
    import tensorflow_datasets as tfds

    _check_classes(directory)
    with reporting(f"{directory}: TFDS cannot read its metadata"):
        builder = tfds.builder_from_directory(directory)
        features, splits, keys = dict(builder.info.features), builder.info.splits, builder.info.supervised_keys
    if (written := getattr(builder.info.file_format, "value", None)) != "array_record":
        raise ValueError(f"{directory} is in {written} format, for TensorFlow only; array_record is accepted")
    chosen = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        named = [key for key, feature in features.items() if isinstance(feature, kind)]
        named = [key for key in named if keys and key in keys] or named
        if len(named) != 1:
            raise ValueError(f"{directory} has {len(named)} {kind.__name__} features; one is accepted: {[*features]}")
        chosen += named
    image, label = chosen
    if features[image].np_dtype != np.uint8:
        raise ValueError(f"{directory}: images are {features[image].np_dtype}; uint8 is accepted")
    if "train" not in splits and len(splits) != 1:
        raise ValueError(f"{directory}: no split is called train: {[*splits]}")
    train = "train" if "train" in splits else next(iter(splits))
    test = [split for split in ("test", "validation") if split in splits and split != train]
    counts = {split: splits[split].num_examples for split in [train, *test[:1]]}
    text_id = "id" if isinstance(features.get("id"), tfds.features.Text) else None
    return Metadata(builder, counts, features[label].names, features[image].shape, image, label, text_id)


def _check_classes(directory: Path) -> None:
    """Raises ValueError if features.json names a class that is none of TFDS's own features: TFDS would import it."""

    def named(content: Any) -> Iterator[str]:
        if isinstance(content, dict):
            yield from (value for key, value in content.items() if key in _CLASS_KEYS and isinstance(value, str))
        for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
            yield from named(inner)

    with reporting(f"{directory}: TFDS cannot read its metadata"):
        content = json.loads((directory / "features.json").read_text(encoding="utf-8"))
    if foreign := [name for name in named(content) if not _OWN_FEATURE.fullmatch(name)]:
        accepted = "only TFDS's own features are accepted, since a class is imported"
        raise ValueError(f"{directory / 'features.json'} names {listed(map(shown, foreign))}; {accepted}")


def tfds_source(directory: Path) -> Source:
    """A directory written as array_record, in the order of its text `id` if it has one."""

    def read() -> Encoded:
        metadata = open_tfds(directory)
        train, *test = metadata.counts
        names = {"train": train, **({"test": test[0]} if test else {})}
        parts = {part: _examples(directory, metadata, name) for part, name in names.items()}
        mode = {1: "L", 4: "RGBA"}.get(metadata.shape[-1] or 3, "RGB")
        split = f"the split {test[0]} is the test part" if test else ""
        return Encoded(parts, metadata.classes, mode, None not in metadata.shape, split)

    return Source(directory, [path for path in directory.iterdir() if path.is_file()], read)


def _examples(directory: Path, metadata: Metadata, split: str) -> list[Example]:
    from tensorflow_datasets.core.decode import DeserializeMethod
    from tensorflow_datasets.proto import tf_example_pb2

    examples = []
    with reporting(f"{directory}: its {split} records cannot be read"):
        # Raw: TFDS would decode every feature, and images by OpenCV where it is installed, which may differ.
        records = metadata.builder.as_data_source(split, deserialize_method=DeserializeMethod.RAW_BYTES)
        for i, record in enumerate(records.__getitems__(range(len(records)))):
            feature = tf_example_pb2.Example.FromString(record).features.feature
            image, label = feature[metadata.image].bytes_list.value[0], feature[metadata.label].int64_list.value[0]
            key = feature[metadata.id].bytes_list.value[0].decode() if metadata.id else i
            examples.append(Example(f"{directory}, {split} example {key}", image, label, key))
    return sorted(examples, key=lambda example: example.id)
