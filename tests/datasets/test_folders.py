"""Which folders are parts and classes, what is left out of a folder, and that none of it happens without a word."""

import csv
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from dataset_files import save_images
from PIL import Image

from funcgrad import datasets
from funcgrad.files import shown


def save_image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 4, 3), value, np.uint8)).save(path)


def save_parts(root: Path, parts: Mapping[str, str]) -> None:
    """Images of the classes of each part, as "cat dog"."""
    for part, classes in parts.items():
        for name in classes.split():
            for i in range(2):
                save_image(root / part / name / f"{i}.png", 50 * i)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "Val", "Test"),
        ("train", "valid", "test"),
        ("TRAINING", "validation", "testing"),
        ("train", "dev", "eval"),
    ],
)
def test_parts_are_known_by_their_usual_names_in_any_case(tmp_path: Path, train: str, val: str, test: str) -> None:
    save_parts(tmp_path, {train: "cat dog cow", val: "cat dog", test: "dog"})
    data = datasets.load(tmp_path)
    assert data.classes == ("cat", "cow", "dog")
    assert data.validation is not None
    assert [split.ids[0] for split in (data.train, data.validation, data.test)] == [
        f"{train}/cat/0.png",
        f"{val}/cat/0.png",
        f"{test}/dog/0.png",
    ]
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [6, 4, 2]
    assert data.test.labels.tolist() == [2, 2]
    assert data.split == f"the folder {test} is the test part"
    shutil.rmtree(tmp_path / test)
    data = datasets.load(tmp_path)
    assert (data.validation, data.split) == (None, f"the folder {val} is the test part")
    assert data.test.ids[0] == f"{val}/cat/0.png"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": "cat dog", "test": "cat cow owl"}, r"test: not a class of the training part: cow, owl$"),
        (
            {"train": "cat dog", "Training": "cat dog"},
            r"train, Training|Training, train.*one folder is accepted as the",
        ),
        ({"val": "cat dog", "test": "cat dog"}, "val, test; one folder is accepted as the train part"),
        (
            {"train": "cat dog", "test": "cat dog", "bus": "red"},
            "train, test beside bus; parts and classes are not told",
        ),
        ({"train": "", "test": ""}, "no images in it"),
        ({"photos": "cat"}, r"photos/cat is the only class in \S+photos; two or more are needed"),
        ({"photos": ""}, "no images in it"),
    ],
)
def test_folders_that_can_be_read_in_two_ways_are_refused_by_name(
    tmp_path: Path, parts: dict[str, str], message: str
) -> None:
    for part in parts:
        (tmp_path / part).mkdir()
    save_parts(tmp_path, parts)
    with pytest.raises(ValueError, match=message):
        datasets.load(tmp_path)


def test_a_part_without_labels_is_left_out(tmp_path: Path) -> None:
    save_parts(tmp_path, {"train": "cat dog", "val": "cat dog"})
    save_image(tmp_path / "test" / "1.png")
    data = datasets.load(tmp_path)
    assert (data.split, data.validation) == ("the folder val is the test part", None)
    assert data.notes == ("1 image in no class folder left out: test/1.png",)
    shutil.rmtree(tmp_path / "val")
    assert datasets.load(tmp_path, test_fraction=0.5).split.startswith("the last 0.5 of each class")
    assert datasets.load_examples(tmp_path).ids.tolist()[0] == "test/1.png"


def test_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    for name in ("bus", "train", "test"):
        save_image(tmp_path / name / "0.png")
        save_image(tmp_path / name / "1.png")
    assert datasets.load(tmp_path, test_fraction=0.5).classes == ("bus", "test", "train")


def test_wrapper_folders_are_entered_and_said(tmp_path: Path) -> None:
    save_images(tmp_path / "download" / "photos" / "train")
    save_images(tmp_path / "__MACOSX" / "photos")
    data = datasets.load(tmp_path, size=4)
    assert data.train.ids[0] == "download/photos/train/cat/0.png"
    assert data.notes[0] == f"{tmp_path}/download/photos/train is read, in which all images are"
    assert data.split.startswith("the last 0.2 of each class")


def test_what_is_no_image_is_counted_and_hidden_folders_are_skipped_at_every_depth(tmp_path: Path) -> None:
    save_images(tmp_path)
    for hidden in (".git", "cat/.ipynb_checkpoints", "dog/breeds/__MACOSX"):
        save_image(tmp_path / hidden / "a.png")
    save_image(tmp_path / "dog" / "breeds" / "b.png")
    for name in ("cat/a.txt", "cat/b.TXT", "dog/c.mp4", "dog/.DS_Store", "readme"):
        (tmp_path / name).write_text("not an image")
    save_image(tmp_path / "loose.png")
    os.mkfifo(tmp_path / "dog" / "p.jpg")
    (tmp_path / "dog" / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "dog" / "again").symlink_to(tmp_path, target_is_directory=True)
    data = datasets.load(tmp_path, size=3)
    assert len(data.train.labels) + len(data.test.labels) == 9
    assert data.notes == (
        "1 image in no class folder left out: loose.png",
        "6 files of other kinds skipped: .txt 2, not a regular file 2, .mp4 1, no suffix 1",
        "hidden folders skipped: .git, cat/.ipynb_checkpoints, dog/breeds/__MACOSX",
    )
    assert data.details == {
        "in no class folder": ["loose.png"],
        "skipped": {".txt": 2, "not a regular file": 2, "no suffix": 1, ".mp4": 1},
        "hidden": [".git", "cat/.ipynb_checkpoints", "dog/breeds/__MACOSX"],
    }
    described = datasets.describe(tmp_path)
    assert described.notes[:3] == data.notes
    assert "--size is needed, since image sizes differ: most images are 6×5" in described.notes[3]


def test_empty_class_folders_are_an_error_unless_they_are_allowed(tmp_path: Path) -> None:
    save_images(tmp_path)
    (tmp_path / "cow").mkdir()
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "a.heic").write_text("")
    with pytest.raises(
        ValueError, match=r"cow, \S+owl: no images in it \(but files of other kinds: .heic 1\); --allow"
    ):
        datasets.load(tmp_path)
    data = datasets.load(tmp_path, allow_empty_classes=True)
    assert (data.classes, sorted({*data.train.labels.tolist()})) == (("cat", "cow", "dog", "owl"), [0, 2])
    (tmp_path / "owl" / "a.heic").unlink()
    (tmp_path / "owl").rmdir()
    assert datasets.load(tmp_path, allow_empty_classes=True).classes == ("cat", "cow", "dog")  # not from the cache


def test_names_survive_whatever_bytes_they_have(tmp_path: Path) -> None:
    names = [
        b"caf\xe9.png",
        b"caf\\xe9.png",
        b"\x1b[31m.png",
        b"a\nb.png",
        "猫 1.png".encode(),
        "\u202egnp.png".encode(),
    ]
    for folder in (b"cat", b"dog [young]\x07"):
        for name in names:
            save_image(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), folder, name))))
    data = datasets.load(tmp_path, test_fraction=0.5)
    ids = [*data.train.ids.tolist(), *data.test.ids.tolist()]
    assert len(set(ids)) == 12
    for id in ("cat/caf\\xe9.png", "cat/caf\\\\xe9.png", "cat/\\x1b[31m.png", "cat/a\\nb.png", "cat/猫 1.png"):
        assert id in ids
    assert data.classes == ("cat", "dog [young]\\x07")
    assert all(shown(id) == id for id in ids)
    json_path, csv_path, npz_path = (tmp_path.parent / f"ids.{kind}" for kind in ("json", "csv", "npz"))
    json_path.write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    with csv_path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([id] for id in ids)
    np.savez(npz_path, ids=np.array(ids))
    assert json.loads(json_path.read_text(encoding="utf-8")) == ids
    with csv_path.open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ids
    with np.load(npz_path, allow_pickle=False) as stored:
        assert stored["ids"].tolist() == ids
    [bad] = [path for path in (tmp_path / "cat").iterdir() if path.name.startswith("\x1b")]
    bad.write_text("no image")
    with pytest.raises(ValueError, match=r"cat/\\x1b\[31m\.png \(empty, or not an image") as raised:
        datasets.load(tmp_path)
    assert "\x1b" not in str(raised.value)


def test_a_folder_is_never_shadowed_by_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_images(tmp_path / "digits")
    assert datasets.load("./digits").classes == ("cat", "dog")
    assert datasets.describe("./digits").classes == ("cat", "dog")
    embedded = datasets.load("digits")
    assert len(embedded.classes) == 10
    assert embedded.notes == ("digits is the data set of this name; the folder is ./digits",)


def test_examples_are_all_images_with_labels_where_every_one_has_a_class(tmp_path: Path) -> None:
    saved = save_images(tmp_path / "photos")
    known = datasets.load_examples(tmp_path / "photos")
    assert (known.name, known.classes, known.ids.tolist()) == ("photos", ("cat", "dog"), [*saved])
    assert known.labels is not None
    assert known.labels.tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(known.images, np.stack([*saved.values()]))
    flat = datasets.load_examples(tmp_path / "photos" / "cat")
    assert (flat.labels, flat.classes, flat.ids.tolist()) == (None, (), [f"{i}.png" for i in range(4)])
    one = datasets.load_examples(tmp_path / "photos" / "cat" / "2.png", size=(2, 3), channels=1)
    assert (one.images.shape, one.ids.tolist(), one.labels) == ((1, 2, 3, 1), ["2.png"], None)
    save_image(tmp_path / "photos" / "loose.png")
    mixed = datasets.load_examples(tmp_path / "photos", size=4)
    assert (len(mixed.images), mixed.labels) == (9, None)
    (tmp_path / "photos" / "loose.png").unlink()
    save_parts(tmp_path / "parts", {"train": "cat dog", "test": "owl"})
    parts = datasets.load_examples(tmp_path / "parts")
    assert (len(parts.images), parts.classes) == (6, ("cat", "dog", "owl"))
    digits = datasets.load_examples("digits")
    assert (len(digits.images), digits.labels is not None) == (1797, True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no images in it"):
        datasets.load_examples(tmp_path / "empty")
