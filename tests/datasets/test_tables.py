"""Tables of every format give what an independent reading of the same file gives; what was chosen is said."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from dataset_files import DAMAGES
from pyarrow import parquet

from funcgrad import datasets

NUMBERS = np.random.default_rng(0).normal(size=(12, 3)).round(4)
KINDS = [("cat", "dog")[i % 2] for i in range(12)]
FRAME = pandas.DataFrame({**dict(zip("abc", NUMBERS.T, strict=True)), "kind": KINDS, "owner": np.arange(12) // 4})


def write(path: Path, frame: pandas.DataFrame, **keywords: Any) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False, **keywords)
    return path


def joined(data: datasets.Dataset) -> dict[int | str, tuple[list[float], str]]:
    """Features and class of each row, by its id."""
    return {
        i: (x.tolist(), data.classes[y])
        for split in (data.train, data.test)
        for x, y, i in zip(split.images, split.labels, split.ids.tolist(), strict=True)
    }


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_every_format_gives_numbers_labels_and_groups(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", FRAME, **({"sep": "\t"} if suffix == ".tsv" else {}))
    data = datasets.load(path, label_column="kind", group_column="owner")
    assert joined(data) == {i: (NUMBERS[i].tolist(), KINDS[i]) for i in range(12)}
    assert data.train.images.dtype == np.float64
    for split in (data.train, data.test):
        assert split.groups is not None
        np.testing.assert_array_equal(split.groups, split.ids // 4)
    assert data.notes[0].startswith(f"t{suffix}: labels are column kind, features columns a, b, c (--label-column")
    assert data.details["columns"] == {"features": ["a", "b", "c"], "label": "kind", "group": "owner"}
    assert datasets.load(path).classes == ("cat", "dog")  # the only column of text
    assert datasets.load(path, keys=["b", "a"]).train.images.shape[1:] == (2,)


def test_csv_agrees_with_pythons_own_reader_and_takes_its_oddities(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    text = '\ufeffname;w;h;label\r\n"a; b";1,5;2;"x\ny"\r\n\r\n c ;2;3e0;é\r\n"d""d";0;0;é\r\ne;0;0;"x\ny"\r\n'
    path.write_bytes(text.encode())
    data = datasets.load(path, keys=["h"], test_fraction=0.5)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert joined(data) == {i: ([float(row["h"])], row["label"]) for i, row in enumerate(rows)}
    assert data.notes == (f"{path}: column h: integers from 0 to 3 are taken as bytes, like pixels",)


def test_rows_are_told_by_ids_and_ids_are_no_features(tmp_path: Path) -> None:
    frame = FRAME.assign(image_id=[f"img{i}" for i in range(12)], row=np.arange(12))
    data = datasets.load(write(tmp_path / "t.csv", frame), label_column="kind")
    assert sorted(joined(data)) == sorted(frame["image_id"])
    assert data.details["columns"]["features"] == ["a", "b", "c", "owner"]
    assert "not used: image_id, row" in data.notes[0]
    FRAME.to_csv(tmp_path / "index.csv")  # pandas' index has a column without a name
    assert 'not used: ""' in datasets.load(tmp_path / "index.csv", group_column="owner").notes[0]


def test_columns_without_a_header_are_called_by_their_position(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", FRAME, header=False)
    data = datasets.load(path, label_column="3")
    assert joined(data)[5] == ([*NUMBERS[5], 1.0], "dog")
    assert data.notes[0] == "t.csv has no header: its columns are called 0 … 4"
    named = pandas.DataFrame({"label": KINDS, **{str(i): NUMBERS[:, i] for i in range(3)}})
    write(tmp_path / "u.csv", named)
    assert joined(datasets.load(tmp_path / "u.csv"))[5] == (NUMBERS[5].tolist(), "dog")


@pytest.mark.parametrize("vectors", ["json", "spaces", "parquet", "fixed", "nested", "jsonl"])
def test_a_column_of_vectors_is_taken_before_columns_of_numbers(tmp_path: Path, vectors: str) -> None:
    frame = pandas.DataFrame({"age": np.arange(12) + 5, "emb": [*NUMBERS], "label": pandas.array([3, 9] * 6, "Int64")})
    shape: tuple[int, ...] = (3,)
    if vectors in ("json", "spaces"):
        text = json.dumps if vectors == "json" else lambda row: " ".join(map(str, row))
        path = write(tmp_path / "t.csv", frame.assign(emb=[text(row) for row in NUMBERS.tolist()]))
    elif vectors in ("fixed", "nested"):
        number = pyarrow.float64()
        of = pyarrow.list_(number, 3) if vectors == "fixed" else pyarrow.list_(pyarrow.list_(number))
        values = NUMBERS.tolist() if vectors == "fixed" else [[row, row] for row in NUMBERS.tolist()]
        path, shape = tmp_path / "t.parquet", (3,) if vectors == "fixed" else (2, 3)
        table = pyarrow.table({"emb": pyarrow.array(values, of), "label": [3, 9] * 6, "age": np.arange(12)})
        parquet.write_table(table, path, row_group_size=5)
    else:
        path = write(tmp_path / f"t.{vectors}", frame)
    data = datasets.load(path)
    assert data.train.images.shape[1:] == shape
    np.testing.assert_array_equal(data.train.images, [np.broadcast_to(NUMBERS[i], shape) for i in data.train.ids])
    assert data.classes == ("3", "9")
    assert "features the vectors of column emb; not used: age" in data.notes[0]


def test_class_names_of_hugging_face_are_read(tmp_path: Path) -> None:
    features = {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}, "x": {"dtype": "float64", "_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table({"x": NUMBERS[:, 0], "label": [0, 1] * 6}).replace_schema_metadata(metadata)
    parquet.write_table(table, tmp_path / "t.parquet")
    assert datasets.load(tmp_path / "t.parquet").classes == ("ant", "bee")


def test_parts_are_a_column_two_files_or_the_file_beside(tmp_path: Path) -> None:
    parts = ["train"] * 6 + ["Val"] * 2 + ["test"] * 4
    data = datasets.load(write(tmp_path / "t.csv", FRAME.assign(split=parts)), label_column="kind")
    assert data.validation is not None
    assert [split.ids.tolist() for split in (data.train, data.validation, data.test)] == [
        [*range(6)], [6, 7], [*range(8, 12)]
    ]  # fmt: skip
    assert data.split == "column split says which rows are the test part"
    train, test = write(tmp_path / "x_train.csv", FRAME[:8]), write(tmp_path / "x_test.csv", FRAME[8:])
    for name in (train, [train, test]):
        both = datasets.load(name, label_column="kind")
        np.testing.assert_array_equal(both.test.images[:, :3], NUMBERS[8:])
        assert both.split == "x_test.csv is the test part"
    examples = datasets.load_examples([train, test], label_column="kind")
    assert examples.labels is not None
    assert examples.ids.tolist()[7:9] == ["train:7", "test:0"]
    write(test, FRAME[8:].drop(columns="kind"))  # as competitions give it
    alone = datasets.load(train, label_column="kind")
    assert len(alone.train.labels) == 6
    assert "x_test.csv has no column of labels and is left out" in alone.notes
    assert datasets.load_examples(test).labels is None


BAD: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "ragged": ("a,label\n1,x\n2\n", {}, "not a readable .csv table .row 3 has 1 cells, the first 2"),
    "empty": ("", {}, "t.csv has no rows"),
    "header alone": ("a,label\n", {}, "t.csv has no rows"),
    "missing number": ("a,b,label\n1,2,x\n1,NA,y\n", {}, r"row 1 \(from 0\) has no number in column b"),
    "missing label": ("a,label\n1,x\n2,\n", {}, "label: the label of row 1 is ''; each row needs one"),
    "a measurement": ("a,label\n1,0.5\n2,1.5\n", {}, "label: the label of row 0 is 0.5; whole numbers and text"),
    "no such label": ("a,label\n1,x\n", {"label_column": "kind"}, "has no column kind, only a, label"),
    "no such feature": ("a,label\n1,x\n", {"keys": ["z"]}, "has no column z, only a, label"),
    "no such group": ("a,label\n1,x\n", {"group_column": "z"}, "has no column z, only a, label"),
    "text as a feature": (
        "a,b,label\n1,u,x\n",
        {"keys": ["b"]},
        "column b cannot be a feature; columns of numbers, or one of vectors",
    ),
    "text only": ("a,label\nu,x\n", {}, "has no column of numbers or vectors: a, label"),
    "which label": ("a,b,c\n1,u,x\n", {}, "column a has no labels .--label-column names it, of a, b, c"),
    "ids as labels": ("a,label\n4,5\n8,6\n5,9\n", {}, "too few examples .3. .*; each label occurs once, as an id does"),
    "vectors and numbers": ("a,b,label\n1 2,3,x\n", {"keys": ["a", "b"]}, "column a cannot be a feature"),
    "two vectors": ("a,b,label\n1 2,3 4,x\n", {}, "several columns of vectors: a, b; --keys names the one"),
    "one name twice": ("a,a,label\n1,2,x\n", {}, "two columns have the same name"),
    "infinite": ("a,label\ninf,x\n1,x\n2,y\n3,y\n", {}, "t.csv: 1 of 4 rows hold NaN or infinity: 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    content, arguments, message = BAD[kind]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        datasets.load(tmp_path / "t.csv", **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_damaged_tables_are_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", FRAME)
    good = path.read_bytes()
    for damage in ("truncated", "pickle") if suffix == ".parquet" else ("pickle",):
        path.write_bytes(DAMAGES[damage](good))
        with pytest.raises(ValueError, match=rf"t\{suffix}") as raised:
            datasets.load(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(FileNotFoundError, match="no such file"):
        datasets.load(tmp_path / f"u{suffix}")
