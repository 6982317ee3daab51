"""Names, limits and classes: what `load` selects, what `available` lists, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import GOOD, arrays, save_npy, save_npz, write_tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from funcgrad import datasets


def test_limits_take_the_first_examples_and_leave_the_fingerprint() -> None:
    whole, part = datasets.load("digits"), datasets.load("digits", limit_train=7, limit_test=np.int64(10_000))
    np.testing.assert_array_equal(part.train.ids, np.arange(7))
    assert len(part.test.labels) == 360
    assert part.fingerprint == whole.fingerprint


@given(st.permutations("0123456789"), st.integers(1, 10), st.booleans(), st.integers(1, 500))
@settings(max_examples=15, deadline=None)
def test_chosen_classes_are_relabelled_in_the_order_given_before_the_limit(
    order: list[str], count: int, as_numbers: bool, limit: int
) -> None:
    chosen = order[:count]
    part = datasets.load("digits", classes=[int(one) for one in chosen] if as_numbers else chosen, limit_train=limit)
    whole = datasets.load("digits")
    rows = np.flatnonzero(np.isin(whole.train.labels, [int(one) for one in chosen]))[:limit]
    np.testing.assert_array_equal(part.train.ids, rows)
    np.testing.assert_array_equal(part.train.images, whole.train.images[rows])
    assert [part.classes[label] for label in part.train.labels] == [str(label) for label in whole.train.labels[rows]]
    assert part.classes == tuple(chosen)


@pytest.mark.parametrize("what", ["limit_train", "limit_test"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_a_limit_that_is_no_positive_number_is_refused(what: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{what} is {value!r}; an integer of at least 1 is accepted"):
        datasets.load("digits", **{what: value})


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["1", "ten"], "'ten' is unknown; digits has 0, 1, 2"),
        ([10], "10 is unknown"),
        ([-1], "-1 is unknown"),
        ([1, "1"], "1 is named twice"),
        ([], "no training example"),
    ],
)
def test_an_unknown_class_is_refused_with_the_known_ones(classes: list[str | int], message: str) -> None:
    with pytest.raises(ValueError, match=f"classes: .*{message}"):
        datasets.load("digits", classes=classes)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2.0])
def test_a_test_fraction_outside_0_and_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction is"):
        datasets.load("digits", test_fraction=fraction)


def test_missing_files_and_wrong_numbers_of_them_are_named(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "folder/", "x.csv"):
        with pytest.raises(FileNotFoundError, match=r"no such file"):
            datasets.load(f"{tmp_path}/{name}")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        datasets.load(Path("digits"))
    (tmp_path / "x.txt").write_text("1,2")
    with pytest.raises(ValueError, match=r"x\.txt: \.csv, .*, \.tsv or a folder of class folders"):
        datasets.load(tmp_path / "x.txt")
    paths = save_npy(tmp_path, arrays())
    with pytest.raises(ValueError, match=r"3 \.npy files; \(features, labels\)"):
        datasets.load(paths[:3])
    with pytest.raises(ValueError, match=r"only \.npy files, or two tables"):
        datasets.load([paths[0], tmp_path / "a.npz"])
    for nothing in ([], "", [""]):
        with pytest.raises(ValueError, match="name is empty"):
            datasets.load(nothing)


def test_size_is_for_images_that_are_decoded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size is for images of TFDS and of folders; it does not apply to digits"):
        datasets.load("digits", size=16)
    for size in (0, -1, (8,), (8, 0), 2.5, "8"):
        with pytest.raises(ValueError, match="size is"):
            datasets.load(tmp_path, size=size)  # type: ignore[arg-type]


def test_an_unknown_name_suggests_close_ones(tmp_path: Path) -> None:
    write_tfds(tmp_path)
    for name, hint in {"shape": "shapes", "cifar100": "cifar10", "digit": "digits", "fashion": "fashion_mnist"}.items():
        with pytest.raises(ValueError, match=f"unknown data set '{name}'.*{hint}"):
            datasets.load(name, data_dir=tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'qqq': known here are digits, shapes, cifar10"):
        datasets.load("qqq", data_dir=tmp_path)
    for name in ("cifar10", "cifar10:3.0.2"):
        with pytest.raises(ValueError, match="`funcgrad data prepare cifar10` writes it"):
            datasets.load(name, data_dir=tmp_path / "nowhere")


def test_descriptions_list_what_is_there(tmp_path: Path, cache: Path) -> None:
    place = write_tfds(tmp_path / "tfds")
    digits, shapes, cifar10, *_ = datasets.available(tmp_path / "tfds")
    assert digits[2:8] == (True, 1437, 360, tuple("0123456789"), (8, 8, 1), "uint8")
    classes = ("circle", "square", "star")
    assert shapes == ("shapes", str(place), True, 12, 4, classes, (None, None, 3), "uint8", "", None, ())
    assert cifar10 == datasets.describe("cifar10", tmp_path / "tfds")
    assert (cifar10.prepared, cifar10.train, cifar10.note) == (False, None, "`funcgrad data prepare cifar10` writes it")
    assert not cache.exists()  # nothing was decoded
    embeddings = datasets.describe(save_npz(tmp_path / "a.npz", GOOD))
    assert embeddings[3:8] == (4, 4, ("0", "1"), (3,), "float32")
    with pytest.raises(ValueError, match="unknown data set"):
        datasets.describe("nothing", tmp_path)
