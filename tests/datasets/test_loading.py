"""Every kind of source gives the same form, in its original order; everything wrong with one is named in one line."""

import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from funcgrad import datasets
from funcgrad.datasets import images as decoded


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array is a view of a memory-mapped file."""
    base: Any = array
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None


def arrays(seed: int = 0, rows: int = 40, tests: int = 10, dtype: str = "float32") -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shape = (rows + tests, 6)
    values = random.integers(0, 256, shape, np.uint8) if dtype == "uint8" else random.normal(size=shape).astype(dtype)
    labels = np.resize(np.arange(4), rows + tests)
    return {"x_train": values[:rows], "y_train": labels[:rows], "x_test": values[rows:], "y_test": labels[rows:]}


def save_npz(path: Path, values: Mapping[str, np.ndarray]) -> Path:
    np.savez(path, **values)  # type: ignore[arg-type]
    return path


def save_npy(folder: Path, values: Mapping[str, np.ndarray]) -> list[Path]:
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
    return [folder / f"{name}.npy" for name in values]


def assert_same(one: datasets.Dataset, other: datasets.Dataset) -> None:
    for split, expected in zip(one[1:3], other[1:3], strict=True):
        for array, wanted in zip(split, expected, strict=True):
            np.testing.assert_array_equal(array, wanted, strict=True)
    assert one[3:] == other[3:]


# Digits


def test_digits_are_those_of_scikit_learn_in_file_order() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = datasets.load("digits")
    assert (data.train.images.shape, data.test.images.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (data.train.images.dtype, data.train.labels.dtype, data.train.ids.dtype) == ("uint8", "int32", "int64")
    joined = [np.concatenate(pair) for pair in zip(data.train, data.test, strict=True)]
    np.testing.assert_array_equal(joined[0].reshape(1797, 64), images)
    np.testing.assert_array_equal(joined[1], labels)
    np.testing.assert_array_equal(joined[2], np.arange(1797))
    assert data.classes == tuple("0123456789")
    assert data.split == ""


# Selection


def test_limits_take_the_first_examples_and_leave_the_fingerprint() -> None:
    whole, part = datasets.load("digits"), datasets.load("digits", limit_train=7, limit_test=np.int64(10_000))
    np.testing.assert_array_equal(part.train.ids, np.arange(7))
    assert len(part.test.labels) == 360
    assert part.fingerprint == whole.fingerprint


@given(st.permutations("0123456789"), st.integers(1, 10), st.booleans(), st.integers(1, 500))
@settings(max_examples=15, deadline=None)
def test_kept_classes_are_relabelled_in_the_order_given_before_the_limit(
    order: list[str], count: int, as_numbers: bool, limit: int
) -> None:
    kept = order[:count]
    part = datasets.load("digits", classes=[int(one) for one in kept] if as_numbers else kept, limit_train=limit)
    whole = datasets.load("digits")
    rows = np.flatnonzero(np.isin(whole.train.labels, [int(one) for one in kept]))[:limit]
    np.testing.assert_array_equal(part.train.ids, rows)
    np.testing.assert_array_equal(part.train.images, whole.train.images[rows])
    assert [part.classes[label] for label in part.train.labels] == [str(label) for label in whole.train.labels[rows]]
    assert part.classes == tuple(kept)


@pytest.mark.parametrize("what", ["limit_train", "limit_test"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_a_limit_that_is_no_positive_number_is_refused(what: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{what} is {value!r}; a whole number from 1 is accepted"):
        datasets.load("digits", **{what: value})


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["1", "ten"], "'ten' is unknown; digits has 0, 1, 2"),
        ([10], "10 is unknown"),
        ([-1], "-1 is unknown"),
        ([1, "1"], "'1' is named twice"),
        ([], "no training example"),
    ],
)
def test_an_unknown_class_is_refused_with_the_known_ones(classes: list[str | int], message: str) -> None:
    with pytest.raises(ValueError, match=f"classes: .*{message}"):
        datasets.load("digits", classes=classes)


# Arrays in files


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_npz_and_npy_give_the_arrays_as_they_are(tmp_path: Path, dtype: str) -> None:
    values = arrays(dtype=dtype)
    data = datasets.load(save_npz(tmp_path / "a.npz", values))
    for split, part in ((data.train, "train"), (data.test, "test")):
        np.testing.assert_array_equal(split.images, values[f"x_{part}"], strict=True)
        np.testing.assert_array_equal(split.labels, values[f"y_{part}"].astype(np.int32), strict=True)
        np.testing.assert_array_equal(split.ids, np.arange(len(split.labels)))
    assert data.classes == ("0", "1", "2", "3")
    assert data.split == ""
    mapped = datasets.load(save_npy(tmp_path, values))
    assert_same(mapped, data._replace(name=mapped.name))


def test_mapped_arrays_are_not_copied(tmp_path: Path) -> None:
    for dtype in ("uint8", "float32", "float64"):
        data = datasets.load(save_npy(tmp_path, arrays(dtype=dtype)), limit_train=5)
        assert is_mapped(data.train.images)
        assert is_mapped(data.test.images)
    images = np.zeros((8, 5, 4), np.uint8)
    data = datasets.load(save_npy(tmp_path, {"x": images, "y": np.arange(8) % 2, "u": images, "v": np.arange(8) % 2}))
    assert data.train.images.shape == (8, 5, 4, 1)
    assert is_mapped(data.train.images)


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mapped_arrays_of_any_size_take_little_memory(tmp_path: Path) -> None:
    big = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(100_000, 1000))
    del big  # 400 MB, of which a process of 200 MB can hold no copy
    save_npy(tmp_path, {"y": np.arange(100_000) % 3, "u": np.zeros((3, 1000), np.float32), "v": np.arange(3)})
    code = """
import re, sys
from pathlib import Path
from funcgrad import datasets
data = datasets.load([f"{sys.argv[1]}/{name}.npy" for name in "xyuv"])
print(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path], capture_output=True, text=True)
    assert done.stderr == ""
    assert int(done.stdout) < 200_000


def test_one_npy_file_takes_the_labels_and_test_part_beside_it(tmp_path: Path) -> None:
    values = arrays()
    names = {"emb_train": "x_train", "emb_train_labels": "y_train"}
    save_npy(tmp_path, {name: values[key] for name, key in names.items()})
    alone = datasets.load(str(tmp_path / "emb_train.npy"))
    assert (len(alone.train.labels), len(alone.test.labels)) == (32, 8)
    assert "0.2" in alone.split
    save_npy(tmp_path, {"emb_test": values["x_test"], "emb_test_labels": values["y_test"]})
    both = datasets.load(tmp_path / "emb_train.npy")
    np.testing.assert_array_equal(both.test.images, values["x_test"])
    assert both.split == ""
    (tmp_path / "emb_train_labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"emb_train_labels\.npy: no such file"):
        datasets.load(tmp_path / "emb_train.npy")


@given(
    hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 5)),
    st.floats(0.01, 0.99),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_without_a_test_part_the_last_of_each_class_are_one(
    tmp_path: Path, labels: np.ndarray, fraction: float
) -> None:
    path = save_npz(tmp_path / "a.npz", {"x": np.arange(len(labels), dtype=np.float32)[:, None], "y": labels})
    counts = {label: np.sum(labels == label) for label in np.unique(labels)}
    takes = {label: min(int(np.floor(count * fraction + 0.5)), count - 1) for label, count in counts.items()}
    if not any(takes.values()):
        with pytest.raises(ValueError, match="too few examples"):
            datasets.load(path, test_fraction=fraction)
        return
    data = datasets.load(path, test_fraction=fraction)
    expected = np.concatenate(
        [np.flatnonzero(labels == one)[len(labels[labels == one]) - n :] for one, n in takes.items()]
    )
    np.testing.assert_array_equal(data.test.ids, np.sort(expected))
    np.testing.assert_array_equal(data.train.ids, np.setdiff1d(np.arange(len(labels)), expected))
    np.testing.assert_array_equal(data.test.images[:, 0], data.test.ids)
    assert data.classes == tuple(map(str, np.unique(labels)))  # those that occur, and no others
    np.testing.assert_array_equal(np.array(data.classes, int)[data.test.labels], labels[data.test.ids])
    assert f"the last {fraction:.4g} of each class" in data.split


def test_labels_with_gaps_are_mapped_over_both_parts(tmp_path: Path) -> None:
    x = np.zeros((4, 3), np.float32)
    arrays = {"x_train": x, "y_train": np.array([9, 0, 9, 4]), "x_test": x, "y_test": np.array([4, 7, 0, 9])}
    data = datasets.load(save_npz(tmp_path / "a.npz", arrays))
    assert data.classes == ("0", "4", "7", "9")
    np.testing.assert_array_equal(data.train.labels, [3, 0, 3, 1])
    np.testing.assert_array_equal(data.test.labels, [1, 2, 0, 3])


def test_no_name_and_class_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name is None; a name, a path, or paths"):
        datasets.load(None)  # type: ignore[arg-type]
    arrays = {"x": np.zeros((4, 3), np.float32), "y": np.arange(4) % 2, "classes": np.array(["a", "a"])}
    with pytest.raises(ValueError, match=r"a\.npz: classes has 'a' more than once"):
        datasets.load(save_npz(tmp_path / "a.npz", arrays))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2.0])
def test_a_test_fraction_outside_0_and_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction is"):
        datasets.load("digits", test_fraction=fraction)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.array([[0, 255], [1, 2]], np.int64), "uint8"),
        (np.array([[0, 255], [1, 2]], ">u2"), "uint8"),
        (np.array([[True, False], [False, True]]), "uint8"),
        (np.array([[0.5, 1], [2, 3]], np.float16), "float32"),
        (np.array([[0.5, 1], [2, 3]], ">f4"), "float32"),
        (np.array([[0.5, 1], [2, 3]], order="F"), "float64"),
    ],
)
def test_other_dtypes_become_one_of_three(tmp_path: Path, given: np.ndarray, dtype: str) -> None:
    values = {"x_train": given, "y_train": np.arange(2), "x_test": given, "y_test": np.arange(2)}
    data = datasets.load(save_npz(tmp_path / "a.npz", values))
    np.testing.assert_array_equal(data.train.images, given.astype(dtype), strict=True)
    mapped = datasets.load(save_npy(tmp_path, values))
    assert mapped.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "labels",
    [
        [2, 0, 1, 2],
        [2.0, 0.0, 1.0, 2.0],
        ["c", "a", "b", "c"],
        [b"c", b"a", b"b", b"c"],
        [[2], [0], [1], [2]],
    ],
)
def test_labels_are_whole_numbers_or_strings_in_sorted_order(tmp_path: Path, labels: list[Any]) -> None:
    x, y = np.eye(4, dtype=np.float32), np.array(labels)
    data = datasets.load(save_npz(tmp_path / "a.npz", {"x_train": x, "y_train": y, "x_test": x, "y_test": y}))
    np.testing.assert_array_equal(data.train.labels, np.array([2, 0, 1, 2], np.int32), strict=True)
    assert data.classes == (("a", "b", "c") if y.dtype.kind in "US" else ("0", "1", "2"))


def test_class_names_beside_the_arrays_are_used_in_their_order(tmp_path: Path) -> None:
    names = {"classes": np.array(["dog", "cat", "owl", "ant"])}
    data = datasets.load(save_npz(tmp_path / "a.npz", arrays() | names), classes=["ant"])
    assert data.classes == ("ant",)
    np.testing.assert_array_equal(data.train.ids, np.arange(3, 40, 4))
    words = arrays() | names
    words |= {key: names["classes"][words[key]] for key in ("y_train", "y_test")}
    assert datasets.load(save_npz(tmp_path / "b.npz", words), classes=[3]).classes == ("ant",)


X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
GOOD = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
NAN = np.where(np.eye(4, 3) > 0, np.array([np.nan], np.float32), X)
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"y_train": Y[:3]}, r"x_train has 4 rows and .*y_train 3"),
    "negative": (
        {"y_train": np.array([0, -3, 0, 1])},
        "y_train: the label of row 1 is -3; 0..999, by 4 rows without class names, are accepted",
    ),
    "fraction": ({"y_train": np.array([0, 1, 0.5, 1])}, "y_train: the label of row 2 is 0.5"),
    "nan label": ({"y_train": np.array([0, 1, 2, np.nan])}, "y_train: the label of row 3 is nan"),
    "infinite label": ({"y_train": np.array([0, 1, 2, np.inf])}, "y_train: the label of row 3 is inf"),
    "an id": ({"y_train": np.array([0, 1, 2, 10**12])}, "y_train: the label of row 3 is 1000000000000"),
    "test label": ({"y_test": np.array([0, 1, 2, 9])}, "y_test: the label of row 2 is 2; the 2 training classes"),
    "too few names": ({"classes": np.array(["a"])}, "y_train: the label of row 1 is 1; the 1 training classes"),
    "unknown word": (
        {"y_train": np.array([*"abab"]), "y_test": np.array([*"abac"])},
        r"y_test: the label of row 3 is 'c'; the 2 training classes \(a, b",
    ),
    "one-hot": ({"y_train": np.eye(4)}, r"y_train has shape \(4, 4\)"),
    "complex": ({"x_train": X.astype(complex)}, "x_train has dtype complex128"),
    "words": ({"x_train": np.full((4, 3), "a")}, "x_train has dtype <U1"),
    "flat": ({"x_train": np.ones(4)}, r"x_train has shape \(4,\)"),
    "integers": ({"x_train": np.full((4, 3), 256)}, "x_train has integers from 256 to 256; .*float32"),
    "below 0": ({"x_train": np.full((4, 3), -1, np.int8)}, "x_train has integers from -1 to -1"),
    "nan": ({"x_train": NAN}, r"a.npz, training part: 3 of 4 rows hold NaN or infinity: 0, 1, 2$"),
    "infinity": ({"x_test": X + np.inf}, r"a.npz, test part: 4 of 4 rows hold NaN or infinity: 0, 1, 2, 3$"),
    "shapes": ({"x_test": np.ones((4, 2), np.float32)}, r"differ, float32 \(3,\) and float32 \(2,\)"),
    "dtypes": ({"x_test": np.ones((4, 3), np.uint8)}, r"differ, float32 \(3,\) and uint8 \(3,\)"),
    "empty": ({"x_train": X[:0], "y_train": Y[:0]}, r"x_train has shape \(0, 3\)"),
    "no features": ({"x_train": X[:, :0]}, r"x_train has shape \(4, 0\)"),
    "objects": ({"x_train": np.array([[{}]] * 4, object)}, "not a readable .npz file.*[Oo]bject arrays"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    changes, message = BAD_ARRAYS[kind]
    with pytest.raises(ValueError, match=message) as raised:
        datasets.load(save_npz(tmp_path / "a.npz", GOOD | changes))
    assert "\n" not in str(raised.value)


def test_nan_in_mapped_arrays_is_found_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "_BLOCK_BYTES", 3 * 12)
    x = np.ones((20, 3), np.float32)
    x[[2, 3, 8, 11, 12, 19], 1] = np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan
    paths = save_npy(tmp_path, {"x": x, "y": np.arange(20) % 2})
    with pytest.raises(ValueError, match=r"x.npy \+ y.npy, training part: 5 of 16 rows .*: 2, 3, 8, 11, 12$"):
        datasets.load(paths)
    x[:] = 1
    small = datasets.load(save_npy(tmp_path, {"x": x, "y": np.arange(20) % 2})).fingerprint
    monkeypatch.setattr(decoded, "_BLOCK_BYTES", 1 << 20)
    assert datasets.load(paths).fingerprint == small


@pytest.mark.parametrize("found", [["x_train", "y_train", "x_test"], ["x"], ["data", "labels"], []])
def test_missing_keys_are_answered_with_those_found(tmp_path: Path, found: list[str]) -> None:
    path = save_npz(tmp_path / "a.npz", dict.fromkeys(found, X))
    with pytest.raises(ValueError, match=re.escape(f"{path} holds {sorted(found)}; x_train, y_train, x_test, y_test")):
        datasets.load(path)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[: len(good) * 2 // 3],
    "cut in the header": lambda good: good[:20],
    "empty": lambda good: b"",
    "text": lambda good: b"not an array at all\n" * 20,
    "changed": lambda good: good[:130] + bytes(byte ^ 255 for byte in good[130:400]) + good[400:],
    "pickle": lambda good: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07payload\x94.",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_npz_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays())  # type: ignore[arg-type]
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.npz: not a readable \.npz file") as raised:
        datasets.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind != "changed"])
def test_a_damaged_npy_file_is_named(tmp_path: Path, kind: str) -> None:
    paths = save_npy(tmp_path, arrays())
    paths[2].write_bytes(DAMAGES[kind](paths[2].read_bytes()))
    with pytest.raises(ValueError, match=r"x_test\.npy: not a readable \.npy file") as raised:
        datasets.load(paths)
    assert "\n" not in str(raised.value)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.array([[{}]] * 4, object), allow_pickle=True)
    np.save(tmp_path / "x_labels.npy", Y)
    with pytest.raises(ValueError, match=r"x\.npy: not a readable .* \(Array can't be memory-mapped: Python objects"):
        datasets.load(x)


def test_missing_files_and_wrong_numbers_of_them_are_named(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "folder/", "x.csv"):
        with pytest.raises(FileNotFoundError, match=r"no such file"):
            datasets.load(f"{tmp_path}/{name}")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        datasets.load(Path("digits"))
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"x\.csv: a \.npz file, \.npy files or a folder"):
        datasets.load(tmp_path / "x.csv")
    paths = save_npy(tmp_path, arrays())
    with pytest.raises(ValueError, match=r"3 \.npy files; \(features, labels\)"):
        datasets.load(paths[:3])
    with pytest.raises(ValueError, match=r"only \.npy files are accepted together"):
        datasets.load([paths[0], tmp_path / "a.npz"])
    for nothing in ([], "", [""]):
        with pytest.raises(ValueError, match="name is empty"):
            datasets.load(nothing)


def test_size_is_for_images_that_are_decoded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size resizes images of TFDS and of folders; it does not apply to digits"):
        datasets.load("digits", size=16)
    for size in (0, -1, (8,), (8, 0), 2.5, "8"):
        with pytest.raises(ValueError, match="size is"):
            datasets.load(tmp_path, size=size)  # type: ignore[arg-type]


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-9, 9, width=32)), st.integers(0, 9))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fingerprint_follows_the_content_and_nothing_else(tmp_path: Path, x: np.ndarray, place: int) -> None:
    values = {"x_train": x, "y_train": np.arange(5), "x_test": x, "y_test": np.arange(5)}
    data = datasets.load(save_npz(tmp_path / "a.npz", values))
    assert datasets.load(save_npy(tmp_path, values), limit_train=2, classes=[1]).fingerprint == data.fingerprint
    changed = x.copy()
    changed.flat[place] += 1
    for other in ({"x_train": changed}, {"x_test": changed}, {"y_test": np.arange(5)[::-1]}, {"x_train": x[:, ::-1]}):
        if not all(np.array_equal(values[key], array) for key, array in other.items()):
            assert datasets.load(save_npz(tmp_path / "b.npz", values | other)).fingerprint != data.fingerprint


# Folders of images


def save_images(root: Path, shape: tuple[int, ...] = (6, 5, 3), suffix: str = ".png") -> dict[str, np.ndarray]:
    """Two classes of four images, by their paths below `root`."""
    random = np.random.default_rng(0)
    saved = {}
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            saved[f"{name}/{i}{suffix}"] = random.integers(0, 256, shape, np.uint8)
            Image.fromarray(saved[f"{name}/{i}{suffix}"]).save(root / name / f"{i}{suffix}")
    return saved


def test_a_folder_of_class_folders_gives_its_images_sorted_by_path(tmp_path: Path) -> None:
    saved = save_images(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / ".hidden").mkdir()
    seen: list[tuple[int, int]] = []
    data = datasets.load(tmp_path / "pets", test_fraction=0.25, progress=lambda *at: seen.append(at))
    assert data.train.ids.tolist() == [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(3)]
    assert data.test.ids.tolist() == ["cat/3.png", "dog/3.png"]
    for split in data[1:3]:
        np.testing.assert_array_equal(split.images, np.stack([saved[one] for one in split.ids]), strict=True)
        assert [data.classes[label] for label in split.labels] == [one.partition("/")[0] for one in split.ids]
    assert seen == [(done, 8) for done in range(1, 9)]
    assert (data.name, data.split) == ("pets", "the last 0.25 of each class, in the original order, is the test part")
    assert is_mapped(data.train.images)
    assert_same(datasets.load(str(tmp_path / "pets"), test_fraction=0.25, progress=pytest.fail), data)


def test_the_current_folder_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_images(tmp_path / "pets")
    monkeypatch.chdir(tmp_path / "pets")
    assert datasets.load(".").name == "pets"


@pytest.mark.parametrize("test", ["test", "validation", "val"])
def test_train_and_test_folders_are_the_parts(tmp_path: Path, test: str) -> None:
    train, held = save_images(tmp_path / "train"), save_images(tmp_path / test, suffix=".PNG")
    data = datasets.load(tmp_path)
    assert data.train.ids.tolist() == [f"train/{path}" for path in train]
    assert data.test.ids.tolist() == [f"{test}/{path}" for path in held]
    assert (data.classes, data.split) == (("cat", "dog"), "")
    (tmp_path / test / "dog").rename(tmp_path / test / "cow")
    with pytest.raises(ValueError, match="cow is not a class of the training part"):
        datasets.load(tmp_path)


def test_folders_called_train_beside_other_classes_are_classes(tmp_path: Path) -> None:
    save_images(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "train")
    assert datasets.load(tmp_path).classes == ("dog", "train")


def test_images_are_grey_if_all_are_and_else_rgb(tmp_path: Path) -> None:
    saved = save_images(tmp_path, (6, 5))
    data = datasets.load(tmp_path)
    assert data.train.images.shape == (6, 6, 5, 1)
    np.testing.assert_array_equal(data.train.images[0, ..., 0], saved["cat/0.png"])
    Image.fromarray(np.full((6, 5, 4), 7, np.uint8)).save(tmp_path / "dog" / "3.png")  # RGBA
    Image.fromarray(np.full((6, 5), 9, np.uint8)).convert("P").save(tmp_path / "dog" / "2.png", transparency=b"\0\1")
    data = datasets.load(tmp_path)
    assert data.train.images.shape == (6, 6, 5, 3)
    np.testing.assert_array_equal(data.train.images[0], np.repeat(saved["cat/0.png"][..., None], 3, axis=-1))
    np.testing.assert_array_equal(data.train.images[-1], np.full((6, 5, 3), 9))
    np.testing.assert_array_equal(data.test.images[-1], np.full((6, 5, 3), 7))


def test_jpeg_is_read_and_size_resizes(tmp_path: Path) -> None:
    save_images(tmp_path, (60, 50, 3), ".jpg")
    assert datasets.load(tmp_path).train.images.shape[1:] == (60, 50, 3)
    assert datasets.load(tmp_path, size=8).train.images.shape[1:] == (8, 8, 3)
    small = datasets.load(tmp_path, size=(4, 7))
    with Image.open(tmp_path / "cat" / "0.jpg") as image:
        expected = np.asarray(image.resize((7, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(small.train.images[0], expected)


def test_sizes_that_differ_are_listed_and_size_mends_it(tmp_path: Path) -> None:
    save_images(tmp_path)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"image sizes differ.*most images are 6×5, but \S+cat/0.png \(3×4\)$"):
        datasets.load(tmp_path)
    for i in range(5, 12):
        Image.fromarray(np.zeros((i, 4, 3), np.uint8)).save(tmp_path / "dog" / f"a{i}.png")
    with pytest.raises(ValueError, match=r"cat/0.png \(3×4\), .* and 3 more$"):
        datasets.load(tmp_path)
    assert datasets.load(tmp_path, size=5).train.images.shape[1:] == (5, 5, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kind", ["truncated", "empty", "text"])
def test_an_unreadable_image_is_named(tmp_path: Path, suffix: str, kind: str) -> None:
    save_images(tmp_path, (64, 64, 3), suffix)
    path = tmp_path / "dog" / f"2{suffix}"
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    with pytest.raises(ValueError, match=rf"dog/2\{suffix}: not a readable PNG or JPEG image") as raised:
        datasets.load(tmp_path)
    assert "\n" not in str(raised.value)


def test_what_is_no_folder_of_8_bit_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no class folders of PNG or JPEG images"):
        datasets.load(tmp_path)
    save_images(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no PNG or JPEG image"):
        datasets.load(tmp_path)
    (tmp_path / "empty").rmdir()
    Image.fromarray(np.zeros((6, 5), np.uint16)).save(tmp_path / "cat" / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: not a readable .*mode I;16; 8 bits"):
        datasets.load(tmp_path)


# The decoded cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    save_images(tmp_path / "pets")
    return tmp_path / "pets"


def decodes(path: Path, **options: Any) -> int:
    """How many images `load` decodes."""
    seen = []
    datasets.load(path, progress=lambda *at: seen.append(at), **options)
    return len(seen)


def test_the_cache_is_used_until_a_file_or_an_option_changes(cache: Path, pets: Path) -> None:
    assert [decodes(pets), decodes(pets)] == [8, 0]
    assert [decodes(pets, size=3), decodes(pets, size=3), decodes(pets, test_fraction=0.5)] == [8, 0, 8]
    os.utime(pets / "cat" / "0.png", ns=(1, 1))
    assert [decodes(pets), decodes(pets)] == [8, 0]
    before = (pets / "cat" / "0.png").stat()
    Image.fromarray(np.full_like(np.asarray(Image.open(pets / "cat" / "0.png")), 7)).save(pets / "cat" / "0.png")
    os.utime(pets / "cat" / "0.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert decodes(pets) == 8  # though it claims to be as old, and perhaps is as long
    (pets / "cat" / "0.png").rename(pets / "cat" / "00.png")
    assert [decodes(pets), decodes(pets)] == [8, 0]
    shutil.copytree(pets, pets.parent / "copy")
    assert decodes(pets.parent / "copy") == 8


CACHE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "pixel": lambda place: flip(place / "train_images.npy", -1),
    "header": lambda place: flip(place / "train_images.npy", 30),
    "label": lambda place: flip(place / "test_labels.npy", -4),
    "name": lambda place: flip(place / "classes.npy", -4),
    "truncated": lambda place: os.truncate(place / "train_images.npy", 200),
    "emptied": lambda place: os.truncate(place / "test_ids.npy", 0),
    "missing": lambda place: (place / "test_images.npy").unlink(),
    "no digests": lambda place: (place / "digests.json").unlink(),
    "cut digests": lambda place: os.truncate(place / "digests.json", 50),
    "other digests": lambda place: (place / "digests.json").write_text("[]"),
    "fewer digests": lambda place: (place / "digests.json").write_text("{}"),
}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", CACHE_DAMAGES)
def test_a_damaged_cache_is_decoded_again_with_one_warning(
    cache: Path, pets: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = datasets.load(pets)
    [place] = cache.iterdir()
    # A copy is damaged, since `good` maps the original.
    shutil.copytree(place, cache / "tmp-copy")
    shutil.rmtree(place)
    (cache / "tmp-copy").rename(place)
    CACHE_DAMAGES[kind](place)
    with caplog.at_level(logging.WARNING, "funcgrad"):
        assert_same(datasets.load(pets), good)
    [record] = caplog.records
    assert "damaged" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert decodes(pets) == 0


def test_data_loads_where_the_cache_cannot_be_written(
    cache: Path, pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file, not a directory")
    with caplog.at_level(logging.WARNING, "funcgrad"):
        assert len(datasets.load(pets).train.labels) == 6
    [record] = caplog.records
    assert "not kept for next time" in record.getMessage()


def test_a_failure_while_writing_leaves_no_trace(
    cache: Path, pets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with caplog.at_level(logging.WARNING, "funcgrad"):
        assert len(datasets.load(pets).train.labels) == 6
    assert "No space left" in caplog.records[0].getMessage()
    assert list(cache.iterdir()) == []


def test_what_dead_writers_left_is_removed_and_what_a_living_one_writes_is_not(cache: Path, pets: Path) -> None:
    for name, age in (("tmp-dead", 7200), ("tmp-living", 5)):
        (cache / name).mkdir(parents=True)
        (cache / name / "train_images.npy").write_text("half")
        os.utime(cache / name, (time.time() - age,) * 2)
    datasets.load(pets)
    assert sorted(path.name for path in cache.glob("tmp-*")) == ["tmp-living"]


def test_two_processes_fill_the_cache_at_once(cache: Path, pets: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from funcgrad import datasets
data, gate = Path(sys.argv[1]), Path(sys.argv[2])
def progress(done, total):  # both have decoded before either writes
    if done == total:
        gate.joinpath(sys.argv[3]).touch()
        while len(list(gate.iterdir())) < 2:
            time.sleep(0.001)
print(datasets.load(data, progress=progress).fingerprint)
"""
    gate = pets.parent / "gate"
    gate.mkdir()
    commands = [[sys.executable, "-W", "error", "-c", code, pets, gate, str(i)] for i in range(2)]
    runs = [subprocess.Popen(one, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for one in commands]
    outcomes = [(*run.communicate(timeout=180), run.returncode) for run in runs]
    assert outcomes == [(f"{datasets.load(pets).fingerprint}\n", "", 0)] * 2
    assert len(list(cache.iterdir())) == 1
    assert decodes(pets) == 0


@pytest.mark.exhaustive
def test_loading_imports_neither_tensorflow_nor_jax(cache: Path, pets: Path) -> None:
    code = """
import sys
from funcgrad import datasets
assert not {"sklearn", "PIL", "tensorflow_datasets"} & set(sys.modules)
datasets.load("digits"), datasets.load(sys.argv[1]), datasets.available(sys.argv[1])
print(sorted({"jax", "tensorflow"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, pets], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# What TFDS prepared


def write_tfds(
    data_dir: Path,
    name: str = "shapes",
    version: str = "1.0.0",
    splits: Mapping[str, int] = {"train": 12, "test": 4},
    ids: Callable[[int], str] | None = None,
    shape: Callable[[int], tuple[int, int]] = lambda i: (4, 5),
    config: str | None = None,
    label_of: Callable[[int], int] = lambda i: i % 3,
) -> Path:
    """A TFDS directory of images whose pixels are 10 times their position; the feature `other` is not to be used."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    def examples(count: int) -> Any:
        for i in range(count):
            png = io.BytesIO()
            Image.fromarray(np.full((*shape(i), 3), 10 * i, np.uint8)).save(png, "PNG")
            png.seek(0)
            yield i, {"image": png, "label": label_of(i), "other": i} | ({"id": ids(i)} if ids else {})

    with registered.skip_registration():

        class Shapes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self) -> Any:
                features = {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["circle", "square", "star"]),
                    "other": np.int64,
                } | ({"id": tfds.features.Text()} if ids else {})
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, _: object) -> Any:
                return {split: examples(count) for split, count in splits.items()}

            def _generate_examples(self) -> Any: ...

            def _log_download_bytes(self) -> None: ...

            _log_download_done = _log_download_bytes

        Shapes.name = name
    tfds.disable_progress_bar()
    builder = Shapes(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return Path(builder.data_dir)


def test_a_tfds_directory_is_read_in_the_order_of_its_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tfds(tmp_path, ids=lambda i: f"é{i:03d}")
    seen: list[tuple[int, int]] = []
    data = datasets.load("shapes", data_dir=tmp_path, progress=lambda *at: seen.append(at))
    for split, count in ((data.train, 12), (data.test, 4)):
        assert split.ids.tolist() == [f"é{i:03d}" for i in range(count)]
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], 10 * np.arange(count))
        np.testing.assert_array_equal(split.labels, (np.arange(count) % 3).astype(np.int32), strict=True)
    assert (data.classes, data.train.images.shape) == (("circle", "square", "star"), (12, 4, 5, 3))
    assert seen[-1] == (16, 16)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert_same(datasets.load("shapes:1.0.0", progress=pytest.fail), data._replace(name="shapes:1.0.0"))
    assert datasets.load("shapes", size=2).train.images.shape == (12, 2, 2, 3)


@pytest.mark.parametrize("splits", [{"train": 12, "validation": 4}, {"train": 12}, {"only": 12}])
def test_without_a_test_split_validation_or_the_last_of_each_class_serve(
    tmp_path: Path, splits: dict[str, int]
) -> None:
    write_tfds(tmp_path, splits=splits, ids=lambda i: f"{i:02d}")
    data, said = datasets.load("shapes", data_dir=tmp_path), datasets.describe("shapes", tmp_path)
    if "validation" in splits:
        assert (data.test.ids.tolist(), data.split, said.test) == (["00", "01", "02", "03"], "", 4)
    else:
        assert (data.test.ids.tolist(), said.train, said.test) == (["09", "10", "11"], 12, 0)
        assert "0.2 of each class" in data.split
        assert "a fraction of each class" in said.note


def test_the_highest_version_and_the_only_config_are_taken(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        write_tfds(tmp_path, version=version)
    shutil.copytree(tmp_path / "shapes" / "1.2.0", tmp_path / "shapes" / "incomplete.ABC_9.0.0")
    shutil.copytree(tmp_path / "shapes", tmp_path / ".preparing-x" / "shapes")
    assert datasets.describe("shapes", tmp_path).where.endswith("shapes/1.10.0")
    assert datasets.describe("shapes:1.2.0", tmp_path).where.endswith("shapes/1.2.0")
    with pytest.raises(ValueError, match=r"shapes:2.0.0 is not in .*, which has 1.2.0, 1.9.0, 1.10.0"):
        datasets.load("shapes:2.0.0", data_dir=tmp_path)
    write_tfds(tmp_path, name="sorts", config="plain")
    assert datasets.load("sorts", data_dir=tmp_path).classes == ("circle", "square", "star")
    write_tfds(tmp_path, name="sorts", config="fancy")
    assert datasets.load("sorts/fancy:1.0.0", data_dir=tmp_path).train.labels.shape == (12,)
    with pytest.raises(ValueError, match=r"sorts has several configs in .*: sorts/fancy, sorts/plain"):
        datasets.load("sorts", data_dir=tmp_path)
    names = [one.name for one in datasets.available(tmp_path)]
    assert names == ["digits", "shapes", "sorts/fancy", "sorts/plain", *datasets.PREPARABLE]


def test_image_sizes_that_differ_are_listed_for_tfds_too(tmp_path: Path) -> None:
    write_tfds(tmp_path, shape=lambda i: (4 + (i == 3), 5))
    with pytest.raises(ValueError, match=r"most images are 4×5, but .*train example \d+ \(5×5\)$"):
        datasets.load("shapes", data_dir=tmp_path)
    assert datasets.load("shapes", data_dir=tmp_path, size=3).train.images.shape == (12, 3, 3, 3)


def test_a_split_without_labels_is_refused(tmp_path: Path) -> None:
    write_tfds(tmp_path, label_of=lambda i: -1)
    with pytest.raises(ValueError, match=r"train split: the label of row 0 is -1; the 3 training classes \(circle"):
        datasets.load("shapes", data_dir=tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


TFDS_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda place: cut(next(place.glob("*train*record*"))), r"its train records cannot be read \("),
    "missing": (lambda place: next(place.glob("*test*record*")).unlink(), r"its test records cannot be read \("),
    "format": (
        lambda place: edit(place / "dataset_info.json", lambda info: info.update(fileFormat="tfrecord")),
        "tfrecord",
    ),
    "json": (lambda place: (place / "dataset_info.json").write_text("{"), "TFDS cannot read its metadata"),
    "features": (lambda place: (place / "features.json").unlink(), "TFDS cannot read its metadata"),
    "no label": (
        lambda place: edit(place / "features.json", lambda top: top["featuresDict"]["features"].pop("label")),
        "has 0 ClassLabel features",
    ),
}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("kind", TFDS_DAMAGES)
def test_a_damaged_tfds_directory_is_named(tmp_path: Path, kind: str) -> None:
    damage, message = TFDS_DAMAGES[kind]
    damage(place := write_tfds(tmp_path))
    with pytest.raises(ValueError, match=message) as raised:
        datasets.load("shapes", data_dir=tmp_path)
    assert "\n" not in str(raised.value)
    assert str(place) in str(raised.value)
    listed = {one.name: one for one in datasets.available(tmp_path)}["shapes"]
    assert listed.prepared == (kind in ("truncated", "missing"))  # their metadata is whole


def test_an_unknown_name_is_answered_with_close_ones(tmp_path: Path) -> None:
    write_tfds(tmp_path)
    for name, hint in {"shape": "shapes", "cifar100": "cifar10", "digit": "digits", "fashion": "fashion_mnist"}.items():
        with pytest.raises(ValueError, match=f"unknown data set '{name}'.*{hint}"):
            datasets.load(name, data_dir=tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'qqq': known here are digits, shapes, cifar10"):
        datasets.load("qqq", data_dir=tmp_path)
    for name in ("cifar10", "cifar10:3.0.2"):
        with pytest.raises(ValueError, match="`funcgrad data prepare cifar10` writes it"):
            datasets.load(name, data_dir=tmp_path / "nowhere")


def test_descriptions_say_what_is_there(tmp_path: Path, cache: Path) -> None:
    place = write_tfds(tmp_path / "tfds")
    digits, shapes, cifar10, *_ = datasets.available(tmp_path / "tfds")
    assert digits[2:8] == (True, 1437, 360, tuple("0123456789"), (8, 8, 1), "uint8")
    classes = ("circle", "square", "star")
    assert shapes == ("shapes", str(place), True, 12, 4, classes, (None, None, 3), "uint8", "")
    assert cifar10 == datasets.describe("cifar10", tmp_path / "tfds")
    assert (cifar10.prepared, cifar10.train, cifar10.note) == (False, None, "`funcgrad data prepare cifar10` writes it")
    assert not cache.exists()  # nothing was decoded
    embeddings = datasets.describe(save_npz(tmp_path / "a.npz", GOOD))
    assert embeddings[3:8] == (4, 4, ("0", "1"), (3,), "float32")
    with pytest.raises(ValueError, match="unknown data set"):
        datasets.describe("nothing", tmp_path)


# The real images


@pytest.mark.exhaustive
def test_cifar10_comes_in_its_original_order(image_data: Path) -> None:
    data = datasets.load("cifar10", data_dir=image_data)
    again = datasets.load("cifar10", data_dir=image_data)  # decoded once
    assert is_mapped(again.train.images)
    assert again.fingerprint == data.fingerprint
    assert (data.train.images.shape, data.test.images.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    assert (data.train.images.dtype, data.train.labels.dtype) == ("uint8", "int32")
    assert data.train.ids.tolist() == [f"train_{i:05d}" for i in range(50_000)]
    assert data.test.ids.tolist() == [f"test_{i:05d}" for i in range(10_000)]
    # The first labels of data_batch_1 and test_batch: a frog, two trucks, a deer, …; a cat, two ships, a plane, ….
    np.testing.assert_array_equal(data.train.labels[:10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3])
    np.testing.assert_array_equal(data.test.labels[:10], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1])
    np.testing.assert_array_equal(np.bincount(data.train.labels), [5000] * 10)


@pytest.mark.exhaustive
def test_mnist_comes_whole(image_data: Path) -> None:
    data = datasets.load("mnist", data_dir=image_data)
    assert (data.train.images.shape, data.test.images.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert (data.train.images.dtype, data.classes) == ("uint8", tuple("0123456789"))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(data.train.labels), counts)
    threes = datasets.load("mnist", data_dir=image_data, classes=["3"], limit_train=5)
    np.testing.assert_array_equal(threes.train.ids, np.flatnonzero(data.train.labels == 3)[:5])
