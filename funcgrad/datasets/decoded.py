"""Examples that were chosen before they are decoded, and then are, once: the cache keeps just these."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from funcgrad.datasets.arrays import Split, fingerprint, take
from funcgrad.datasets.cache import cached
from funcgrad.datasets.images import Decoding, Encoded, Example, Progress, Source, decode


class Chosen(NamedTuple):
    """The examples that are taken, by part, with their rows in place of images; and what is said of them."""

    parts: Mapping[str, Split]
    classes: tuple[str, ...]
    split: str = ""
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = MappingProxyType({})
    fingerprint: str = ""


def rows_of(parts: Mapping[str, Sequence[Example]]) -> dict[str, Split]:
    """The parts, with the numbers of their examples in place of images."""
    rows, start = {}, 0
    for part, examples in parts.items():
        labels = np.array([example.label for example in examples], np.int32)
        ids = np.array([example.id for example in examples])
        groups = np.array([example.group for example in examples])
        rows[part] = Split(np.arange(start, start + len(examples)), labels, ids, None if None in groups else groups)
        start += len(examples)
    return rows


def decode_chosen(
    source: Source,
    decoding: Decoding,
    choose: Callable[[Encoded], Chosen],
    options: object,
    progress: Progress | None,
) -> Chosen:
    """The chosen examples with their images, from the cache, where they are stored by all that they depend on."""

    def make() -> tuple[dict[str, np.ndarray], Sequence[Any]]:
        encoded = source.read()
        chosen = choose(encoded)
        examples = [example for part in encoded.parts.values() for example in part]
        parts = {part: [examples[row] for row in split.images] for part, split in chosen.parts.items()}
        made = decode(encoded._replace(parts=parts), decoding, progress)
        kept = np.split(made.kept, np.cumsum([len(part) for part in parts.values()])[:-1])
        images = np.split(made.images, np.cumsum([mask.sum() for mask in kept])[:-1])
        splits = {
            part: take(split, mask)._replace(images=pixels)
            for (part, split), mask, pixels in zip(chosen.parts.items(), kept, images, strict=True)
        }
        fields = {part: split._asdict().items() for part, split in splits.items()}
        stored = {f"{part}_{field}": x for part, xs in fields.items() for field, x in xs if x is not None}
        notes, details = [*chosen.notes, *made.notes], {**chosen.details, **made.details}
        return stored, [[*chosen.classes], chosen.split, notes, details, fingerprint(splits.values())]

    stored, texts = cached(source.directory, source.files, [source.identity, decoding, options], make)
    fields: dict[str, dict[str, np.ndarray]] = {}
    for name, array in stored.items():
        part, field = name.split("_")
        fields.setdefault(part, {})[field] = array
    parts = {part: Split(**arrays) for part, arrays in fields.items()}
    classes, split, notes, details, content = texts
    return Chosen(parts, tuple(classes), split, (*source.notes, *notes), {**source.details, **details}, content)
