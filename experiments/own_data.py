"""What is read, skipped and refused of folders and files as people have them, beside Pillow and the csv module?

    python experiments/own_data.py      # 5 minutes on 2 cores, most of it JAX compiling; no data needed

Makes a small zoo in a temporary folder: folders of images as cameras, zip files and notebooks leave them, tables, lists
of files, archives of embeddings. Each is read by `datasets.load`, and a second time by a few lines of Pillow, csv and
NumPy that share nothing with it; every pixel, number, label and part is compared. Then every command that takes data
runs over it.
Expected: all rows of all that can be read agree; what is ambiguous or broken is refused in one line (exit status 2)
by every command, `predict` apart where only labels or a size are missing; no command fails in another way.
"""

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import safetensors.numpy
from PIL import Image, ImageOps

from funcgrad import cli, datasets, report

RESULTS = Path(__file__).parent / "results"
SIDE = 8
SPLITS = {"train": "train", "training": "train", "val": "validation", "test": "test"}
COMMANDS = {
    "data info": [],
    "data duplicates": [],
    "knn": ["--k", "1"],
    "crossval knn": ["--k", "1", "--metric", "l2", "--folds", "2"],
    "train linear": ["--epochs", "2", "--validation", "0.2"],
    "train mlp": ["--epochs", "2", "--hidden", "4", "--validation", "0.2"],
    "crossval linear": ["--epochs", "1", "--lr", "0.01", "--folds", "2"],
    "crossval mlp": ["--epochs", "1", "--lr", "0.01", "--folds", "2", "--hidden", "4"],
}

Rows = dict[str, tuple[np.ndarray, str]]  # by id: the pixels or numbers, and the class


class Expected(NamedTuple):
    """What is right: the rows of the parts that the source has, and how many files of each kind are no images."""

    parts: Mapping[str, Rows]
    skipped: Mapping[str, int] = {}


class Case(NamedTuple):
    """A kind of folder or file.

    make: writes it below a folder, and returns what follows --data. expected: an independent reading of it; or a part
    of the line that refuses it, and then predict is the exit status of `predict`.
    """

    make: Callable[[Path], Sequence[str]]
    expected: Callable[[Path], Expected] | str
    predict: int | None = None


# Writing


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, seed: int, mode: str = "RGB", **keywords: Any) -> None:
    """A random image of any mode, as Pillow converts one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    alpha = Image.fromarray(noise(seed, SIDE, SIDE, 4))
    alpha.convert(mode).save(path, **keywords)


def class_folders(root: Path, count: int = 10, suffix: str = ".png", mode: str = "RGB") -> None:
    for label, name in enumerate(("cat", "dog")):
        for i in range(count):
            save(root / name / f"{i}{suffix}", 100 * label + i, mode)


def formats(root: Path) -> Sequence[str]:
    """As they come from several cameras and programs, with what systems and notebooks leave between them."""
    for label, name in enumerate(("cat", "dog")):
        for i, suffix in enumerate((".png", ".JPG", ".jpeg", ".webp", ".bmp", ".gif", ".tiff", ".tif", ".ppm", ".PNG")):
            save(root / "a" / name / f"{i}{suffix}", 100 * label + i)
    save(root / "a" / "cat" / ".ipynb_checkpoints" / "0.png", 7)
    save(root / "a" / "__MACOSX" / "cat" / "0.png", 7)
    for name in ("notes.txt", "dog/read.txt", "dog/clip.mp4", "cat/.DS_Store"):
        (root / "a" / name).write_bytes(b"something else")
    return [str(root / "a")]


def parts(root: Path) -> Sequence[str]:
    for part, count in {"Training": 8, "Val": 2, "TEST": 2}.items():
        class_folders(root / "a" / "photos" / part, count)
    return [str(root / "a")]


def pixels(root: Path) -> Sequence[str]:
    """Turned by EXIF, transparent, with a palette, for printing, and grey of 16 bits."""
    for label, name in enumerate(("cat", "dog")):
        for turn in (2, 3, 5, 6, 8):
            exif = Image.Exif()
            exif[0x0112] = turn
            save(root / "a" / name / f"turned{turn}.jpg", 10 * label + turn, exif=exif)
        for mode, suffix in {"RGBA": "png", "LA": "png", "P": "png", "CMYK": "jpg"}.items():
            save(root / "a" / name / f"{mode}.{suffix}", 50 + label, mode)
        deep = np.random.default_rng(label).integers(0, 2**16, (SIDE, SIDE), np.uint16)
        Image.fromarray(deep).save(root / "a" / name / "deep.png")
    return [str(root / "a")]


def names(root: Path) -> Sequence[str]:
    for label, name in enumerate(("dog [young]", "猫 ö\x1b[31m")):
        for i in range(10):
            save(root / "a b" / name / f"{i} [x].png", 100 * label + i)
    return [str(root / "a b")]


def broken(root: Path, *options: str) -> Sequence[str]:
    class_folders(root / "a", 11)
    (root / "a" / "cat" / "4.png").write_bytes(b"")
    content = (root / "a" / "dog" / "2.png").read_bytes()
    (root / "a" / "dog" / "2.png").write_bytes(content[: len(content) // 2])
    return [str(root / "a"), *options]


def fifo(root: Path) -> Sequence[str]:
    class_folders(root / "a")
    os.mkfifo(root / "a" / "cat" / "99.png")
    return [str(root / "a")]


def sizes(root: Path, *options: str) -> Sequence[str]:
    class_folders(root / "a")
    Image.fromarray(noise(9, 20, 30, 3)).save(root / "a" / "cat" / "0.png")
    return [str(root / "a"), *options]


def of_class_folders(root: Path) -> Sequence[str]:
    class_folders(root / "a", mode="L")
    return [str(root / "a")]


def one_class(root: Path) -> Sequence[str]:
    for i in range(10):
        save(root / "a" / "cat" / f"{i}.png", i)
    return [str(root / "a")]


def flat(root: Path) -> Sequence[str]:
    for i in range(6):
        save(root / "a" / f"{i}.png", i)
    return [str(root / "a")]


def listed_in_folder(root: Path) -> Sequence[str]:
    class_folders(root / "a", 11)
    names = sorted(path.relative_to(root / "a").as_posix() for path in (root / "a").rglob("*.png"))[:20]
    lines = [json.dumps({"file_name": name, "label": "xy"[i % 2]}) for i, name in enumerate(names)]
    (root / "a" / "metadata.jsonl").write_text("\n".join(lines))
    return [str(root / "a")]


def listed_beside(root: Path) -> Sequence[str]:
    class_folders(root / "photos")
    rows = [["id", "file", "label", "split"]]
    for i, path in enumerate(sorted((root / "photos").rglob("*.png"))):
        rows.append(
            [str(i), path.relative_to(root / "photos").as_posix(), "xy"[i % 2], "test" if i % 5 == 4 else "train"]
        )
    with (root / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return [str(root / "photos.csv")]


NUMBERS = np.random.default_rng(0).normal(size=(20, 3)).round(3)
WORDS = [("yes, it is", 'no "never"')[i % 2] for i in range(20)]


def table(root: Path, delimiter: str = ",", header: bool = True, encoding: str = "utf-8") -> Sequence[str]:
    rows = [["name", "w", "h", "d", "label"]] if header else []
    rows += [[f"é{i}", *map(str, row), word] for i, (row, word) in enumerate(zip(NUMBERS.tolist(), WORDS, strict=True))]
    with (root / "a.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return [str(root / "a.csv"), *([] if header else ["--label-column", "4"])]


def parquet(root: Path) -> Sequence[str]:
    import pyarrow
    from pyarrow import parquet

    content = {"age": np.arange(20) % 7, "emb": [*NUMBERS.astype(np.float32)], "label": WORDS}
    parquet.write_table(pyarrow.table(content), root / "a.parquet")
    return [str(root / "a.parquet")]


def json_lines(root: Path) -> Sequence[str]:
    rows = [{"emb": row, "label": word} for row, word in zip(NUMBERS.tolist(), WORDS, strict=True)]
    (root / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [str(root / "a.jsonl")]


def npz(root: Path, labels: np.ndarray, *options: str, **others: Any) -> Sequence[str]:
    np.savez(root / "a.npz", X=NUMBERS, y=labels, **others)
    return [str(root / "a.npz"), *options]


def medmnist(root: Path) -> Sequence[str]:
    arrays = {}
    for i, (part, count) in enumerate((("train", 16), ("val", 4), ("test", 4))):
        arrays |= {f"{part}_images": noise(i, count, SIDE, SIDE), f"{part}_labels": np.arange(count)[:, None] % 2}
    np.savez(root / "a.npz", **arrays)
    return [str(root / "a.npz")]


def bfloat16(root: Path, suffix: str) -> Sequence[str]:
    half, labels = NUMBERS.astype(ml_dtypes.bfloat16), np.arange(20) % 2 + 1
    if suffix == ".npy":
        np.save(root / "a.npy", half)
        np.save(root / "a_labels.npy", labels)
    else:
        safetensors.numpy.save_file({"embeddings": half, "labels": labels}, root / "a.safetensors")
    return [str(root / f"a{suffix}")]


def unlabelled(root: Path) -> Sequence[str]:
    np.save(root / "a.npy", NUMBERS)
    return [str(root / "a.npy")]


def foreign(root: Path, suffix: str) -> Sequence[str]:
    (root / f"a{suffix}").write_bytes(b"")
    return [str(root / f"a{suffix}")]


# Reading it again


def seen(path: Path, mode: str) -> np.ndarray:
    """The pixels of an image as a viewer shows them on white."""
    with Image.open(path) as image:
        image.seek(0)
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            upright = Image.fromarray((np.asarray(upright, np.float64) / 257).round().astype(np.uint8))
        if upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return np.asarray(upright.convert(mode)).reshape(*upright.size[::-1], -1)


def escaped(name: str) -> str:
    return name.replace("\x1b", "\\x1b")


def of_folders(root: Path, skipped: Mapping[str, int] = {}, mode: str = "RGB") -> Expected:
    """All images in folders named after their class, which is the folder that they lie in."""
    read: dict[str, Rows] = {}
    for path in sorted(path for path in root.rglob("*.*") if path.is_file()):
        inside = path.relative_to(root)
        if any(part.startswith((".", "__")) for part in inside.parts) or path.suffix.lower() in (*skipped, ".jsonl"):
            continue
        part = next((SPLITS[name.lower()] for name in inside.parts if name.lower() in SPLITS), "whole")
        with contextlib.suppress(OSError, SyntaxError):
            pixels = seen(path, mode)
            read.setdefault(part, {})[escaped(inside.as_posix())] = pixels, escaped(path.parent.name)
    return Expected(read, skipped)


def resized(root: Path) -> Expected:
    [(part, rows)] = of_folders(root / "a").parts.items()
    shapes = {
        name: Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        for name, (pixels, _) in rows.items()
    }
    return Expected({part: {name: (np.asarray(shapes[name]), label) for name, (_, label) in rows.items()}})


def of_json_list(root: Path) -> Expected:
    rows = map(json.loads, (root / "a" / "metadata.jsonl").read_text().splitlines())
    return Expected(
        {"whole": {row["file_name"]: (seen(root / "a" / row["file_name"], "RGB"), row["label"]) for row in rows}}
    )


def of_csv_list(root: Path) -> Expected:
    read: dict[str, Rows] = {}
    with (root / "photos.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            read.setdefault(row["split"], {})[row["file"]] = seen(root / "photos" / row["file"], "RGB"), row["label"]
    return Expected(read)


def of_csv(root: Path, delimiter: str = ",", header: bool = True, encoding: str = "utf-8") -> Expected:
    with (root / "a.csv").open(newline="", encoding=encoding) as file:
        rows = [*csv.reader(file, delimiter=delimiter)][int(header) :]
    return Expected({"whole": {str(i): (np.array(row[1:4], float), row[4]) for i, row in enumerate(rows)}})


def of_numbers(classes: Sequence[str], dtype: Any = np.float64) -> Callable[[Path], Expected]:
    """The embeddings that were written, of these classes in turn."""
    rows = {str(i): (row.astype(dtype), classes[i % len(classes)]) for i, row in enumerate(NUMBERS)}
    return lambda _: Expected({"whole": rows})


def of_medmnist(_: Path) -> Expected:
    counts = {"train": 16, "validation": 4, "test": 4}
    return Expected(
        {
            part: {str(i): (row[..., None], str(i % 2)) for i, row in enumerate(noise(seed, count, SIDE, SIDE))}
            for seed, (part, count) in enumerate(counts.items())
        }
    )


# The zoo

HALF = NUMBERS.astype(ml_dtypes.bfloat16).astype(np.float64)
IDS = np.array([2_000_000_000, 7])[np.arange(20) % 2]
ZOO = {
    "eight formats, and other files between them": Case(
        formats, lambda root: of_folders(root / "a", {".txt": 2, ".mp4": 1})
    ),
    "Training, Val and TEST in a folder in a folder": Case(parts, lambda root: of_folders(root / "a")),
    "EXIF, transparency, palettes, CMYK, 16 bits": Case(pixels, lambda root: of_folders(root / "a")),
    "brackets, CJK and an escape in names": Case(names, lambda root: of_folders(root / "a b")),
    "grey photographs": Case(of_class_folders, lambda root: of_folders(root / "a", mode="L")),
    "two broken files": Case(broken, "2 of 22 images cannot be read", predict=2),
    "two broken files, --skip-unreadable": Case(
        lambda root: broken(root, "--skip-unreadable"), lambda root: of_folders(root / "a")
    ),
    "a FIFO called 99.png": Case(fifo, lambda root: Expected(of_folders(root / "a").parts, {"not a regular file": 1})),
    "images of two sizes": Case(sizes, "--size", predict=0),  # in the size of the training
    "images of two sizes, --size 8": Case(lambda root: sizes(root, "--size", "8"), resized),
    "one class": Case(one_class, "the only class", predict=0),
    "images without class folders": Case(flat, "no class folders", predict=0),
    "a folder with metadata.jsonl": Case(listed_in_folder, of_json_list),
    "photos.csv beside photos": Case(listed_beside, of_csv_list),
    "CSV": Case(table, of_csv),
    "CSV with ; and a byte order mark": Case(
        lambda root: table(root, ";", encoding="utf-8-sig"), lambda root: of_csv(root, ";", encoding="utf-8-sig")
    ),
    "CSV without a header": Case(lambda root: table(root, header=False), lambda root: of_csv(root, header=False)),
    "Parquet, a column of vectors": Case(parquet, of_numbers(WORDS, np.float32)),
    "JSON lines, vectors": Case(json_lines, of_numbers(WORDS)),
    ".npz of X and y, one-hot, beside an array of objects": Case(
        lambda root: npz(root, np.eye(2)[np.arange(20) % 2], other=np.array([{}], object)), of_numbers("01")
    ),
    ".npz, labels 2000000000 and 7": Case(lambda root: npz(root, IDS), of_numbers(["2000000000", "7"])),
    ".npz, labels of Python objects": Case(
        lambda root: npz(root, np.array(WORDS, object)), "save y.astype(str)", predict=2
    ),
    ".npz, labels 0.5 and 1.5": Case(
        lambda root: npz(root, np.arange(20) % 2 + 0.5), "whole numbers and text", predict=2
    ),
    ".npz, other names": Case(
        lambda root: (np.savez(root / "a.npz", foo=NUMBERS, bar=WORDS), [str(root / "a.npz")])[1], "--keys", predict=2
    ),
    "MedMNIST": Case(medmnist, of_medmnist),
    ".safetensors of bfloat16": Case(lambda root: bfloat16(root, ".safetensors"), of_numbers("12", ml_dtypes.bfloat16)),
    ".npy of bfloat16, labels from 1": Case(lambda root: bfloat16(root, ".npy"), of_numbers("12", ml_dtypes.bfloat16)),
    ".npy without labels": Case(unlabelled, "has no labels", predict=0),
    **{
        f"{suffix}": Case(
            lambda root, suffix=suffix: foreign(root, suffix), "two lines of Python convert it", predict=2
        )
        for suffix in (".pt", ".h5", ".pkl", ".mat")
    },
}


# Comparing


def load_options(arguments: Sequence[str]) -> dict[str, Any]:
    """What follows --data as keywords of `datasets.load`."""
    values = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    found: dict[str, Any] = {"skip_unreadable": True} if "--skip-unreadable" in arguments else {}
    found |= {"size": int(values["--size"])} if "--size" in values else {}
    return found | ({"label_column": values["--label-column"]} if "--label-column" in values else {})


def compare(dataset: datasets.Dataset, expected: Expected) -> dict[str, Any]:
    """How many rows there should be, were read, and are the same; and the same of what was skipped."""
    splits = {"train": dataset.train, "test": dataset.test, "validation": dataset.validation}
    read: dict[str, Rows] = {}
    for part, split in splits.items():
        if split is not None:
            names = [dataset.classes[label] for label in split.labels]
            rows = zip(map(str, split.ids.tolist()), zip(split.images, names, strict=True), strict=True)
            read.setdefault("whole" if "whole" in expected.parts else part, {}).update(rows)
    same = [
        np.array_equal(read.get(part, {}).get(name, (None, ""))[0], values) and read[part][name][1] == label
        for part, rows in expected.parts.items()
        for name, (values, label) in rows.items()
    ]
    skipped = dict(dataset.details.get("skipped", {}))
    return {
        "rows": len(same),
        "read": sum(len(rows) for rows in read.values()),
        "same": sum(same),
        "skipped": skipped,
        "skipped_rightly": skipped == dict(expected.skipped),
        "split": dataset.split,
        "notes": [*dataset.notes],
    }


def run(*arguments: str) -> tuple[int, str]:
    """The exit status of a command, and its last line on stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = cli.main([*arguments, "--quiet"])
    return status, (errors.getvalue().strip().splitlines() or [""])[-1]


def measure(case: Case, root: Path, classifiers: Mapping[str, Path]) -> dict[str, Any]:
    """One animal: how it was read, what each command said of it, and whether all of that is right."""
    data = [*case.make(root)]
    expected, row = case.expected, dict[str, Any]()
    if isinstance(expected, str):
        is_image = "." not in Path(data[0]).name
        classifier = classifiers["images" if is_image else "numbers"]
    else:
        classifier = root / "classifier"
        row = compare(datasets.load(data[0], **load_options(data)), expected(root))
        row["notes"] = [note.replace(f"{root}/", "") for note in row["notes"]]
    statuses, lines = {}, set()
    for command, options in COMMANDS.items():
        given = ["--data", *data]
        if command == "data info":
            given = [data[0], *(data[1:] if "--label-column" in data else ())]
        out = ["--out", str(classifier)] if command == "train linear" and row else []
        statuses[command], line = run(*command.split(), *given, *options, *out)
        lines |= {line} if statuses[command] else set()
    statuses["predict"], line = run("predict", "--model", str(classifier), "--data", *data)
    if isinstance(expected, str):
        trained = {status for command, status in statuses.items() if command not in ("data info", "predict")}
        row["refused"] = sorted({line.partition(": ")[2].replace(f"{root}/", "") for line in lines})
        row["right"] = trained <= {2} and statuses["predict"] == case.predict and any(expected in x for x in lines)
    else:
        row["right"] = (
            row["rows"] == row["read"] == row["same"] and row["skipped_rightly"] and {*statuses.values()} == {0}
        )
        row["errors"] = sorted(lines)
    return row | {"commands": statuses}


def shown(row: Mapping[str, Any]) -> str:
    """One line of the table."""
    skipped = ", ".join(f"{kind} {count}" for kind, count in row.get("skipped", {}).items())
    read = (
        f"{row['same']} of {row['rows']} rows the same"
        if "rows" in row
        else f"refused: {'; '.join(row['refused'])[:90]}"
    )
    return f"{read}{f', skipped {skipped}' if skipped else ''}; {row.get('split', '')}"


def main() -> None:
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        os.environ["FUNCGRAD_CACHE_DIR"] = str(top / "cache")
        jax.config.update("jax_compilation_cache_dir", str(top / "compiled"))  # most of the zoo has the same shapes
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        classifiers = {"images": top / "images", "numbers": top / "numbers"}
        class_folders(top / "pets")
        labels = np.arange(len(NUMBERS)) % 2
        np.savez(top / "numbers.npz", x=NUMBERS, y=labels)
        for kind, name in (("images", "pets"), ("numbers", "numbers.npz")):
            status, line = run(
                "train", "linear", "--data", str(top / name), "--epochs", "2", "--out", str(classifiers[kind])
            )
            assert status == 0, line
        for i, (name, case) in enumerate(ZOO.items()):
            root = top / f"case{i}"
            root.mkdir()
            rows[name] = row = measure(case, root, classifiers)
            print(f"{'' if row['right'] else 'WRONG '}{name}: {shown(row)}", flush=True)
            if not row["right"]:
                print("   ", json.dumps(row, ensure_ascii=False))
    right = sum(row["right"] for row in rows.values())
    print(f"{right} of {len(rows)} as an independent reading says")
    compared = [row for row in rows.values() if "rows" in row]
    result = {
        "cases": rows,
        "right": right,
        "of": len(rows),
        "rows_the_same": sum(row["same"] for row in compared),
        "rows": sum(row["rows"] for row in compared),
        "commands_run": sum(len(row["commands"]) for row in rows.values()),
        "environment": report.environment(),
    }
    report.write_json(RESULTS / "own_data.json", result)


if __name__ == "__main__":
    main()
