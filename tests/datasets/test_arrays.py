"""Arrays of every accepted form give the same data set; everything else is refused in one line."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import DAMAGES, GOOD, X, Y, arrays, assert_same, is_mapped, save_npy, save_npz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from funcgrad import datasets
from funcgrad.datasets.archives import read_npy
from funcgrad.datasets.arrays import from_arrays
from funcgrad.datasets.cache import Tuning


def test_digits_are_those_of_scikit_learn_in_file_order() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = datasets.load("digits")
    assert (data.train.images.shape, data.test.images.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (data.train.images.dtype, data.train.labels.dtype, data.train.ids.dtype) == ("uint8", "int32", "int64")
    joined = [np.concatenate(pair) for pair in zip(data.train[:3], data.test[:3], strict=True)]
    np.testing.assert_array_equal(joined[0].reshape(1797, 64), images)
    np.testing.assert_array_equal(joined[1], labels)
    np.testing.assert_array_equal(joined[2], np.arange(1797))
    assert data.classes == tuple("0123456789")
    assert data.split == "the last 360 images are the test part"


NAN = np.where(np.eye(4, 3) > 0, np.array([np.nan], np.float32), X)
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"y_train": Y[:3]}, r"x_train has 4 rows and .*y_train 3"),
    "fraction": ({"y_train": np.array([0, 1, 0.5, 1])}, "y_train: the label of row 2 is 0.5"),
    "nan label": ({"y_train": np.array([0, 1, 2, np.nan])}, "y_train: the label of row 3 is nan"),
    "infinite label": ({"y_train": np.array([0, 1, 2, np.inf])}, "y_train: the label of row 3 is inf"),
    "test label": (
        {"y_test": np.array([0, 1, 2, 9])},
        r"y_test: the label of row 2 is 2; the classes are 0, 1 \(2 such rows\)$",
    ),
    "too few names": ({"classes": np.array(["a"])}, "y_train: the label of row 1 is 1; the classes are 0"),
    "unknown word": (
        {"y_train": np.array([*"abab"]), "y_test": np.array([*"abac"])},
        "y_test: the label of row 3 is 'c'; the classes are a, b$",
    ),
    "no label": (
        {"y_train": np.array(["a", "b", " ", ""])},
        r"y_train: the label of row 2 is ' '; each row needs one \(2 such",
    ),
    "several labels": ({"y_train": np.ones((4, 4))}, r"y_train has shape \(4, 4\), .* not one-hot; .*argmax"),
    "probabilities": ({"y_train": np.full((4, 2), 0.5)}, r"y_train has shape \(4, 2\), and its rows are not one-hot"),
    "beyond 64 bits": (
        {"y_train": np.array([0, 1, 0, 2**63], np.uint64)},
        "y_train: the label of row 3 is 9223372036854775808",
    ),
    "complex": ({"x_train": X.astype(complex)}, "x_train has dtype complex128"),
    "words": ({"x_train": np.full((4, 3), "a")}, "x_train has dtype <U1"),
    "flat": ({"x_train": np.ones(4)}, r"x_train has shape \(4,\)"),
    "ids": (
        {"x_train": np.full((4, 3), 2**60)},
        r"x_train has integers from 1,152,.*, beyond 2\*\*53, .* are they ids",
    ),
    "nan": ({"x_train": NAN}, r"a.npz, train part: 3 of 4 rows hold NaN or infinity: 0, 1, 2$"),
    "infinity": ({"x_test": X + np.inf}, r"a.npz, test part: 4 of 4 rows hold NaN or infinity: 0, 1, 2, 3$"),
    "shapes": (
        {"x_test": np.ones((4, 2), np.float32)},
        r"differ: .*x_train is float32 \(3,\), .*x_test is float32 \(2,\)",
    ),
    "dtypes": ({"x_test": np.ones((4, 3), np.uint8)}, r"differ: .*x_train is float32 \(3,\), .*x_test is uint8 \(3,\)"),
    "empty": ({"x_train": X[:0], "y_train": Y[:0]}, r"x_train has shape \(0, 3\)"),
    "no features": ({"x_train": X[:, :0]}, r"x_train has shape \(4, 0\)"),
    "objects": (
        {"x_train": np.array([[{}]] * 4, object)},
        r"not a readable .npz file.*x_train holds Python objects.*save x_train.astype\(str\)",
    ),
}


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_npz_and_npy_give_the_arrays_as_they_are(tmp_path: Path, dtype: str) -> None:
    values = arrays(dtype=dtype)
    data = datasets.load(save_npz(tmp_path / "a.npz", values))
    for split, part in ((data.train, "train"), (data.test, "test")):
        np.testing.assert_array_equal(split.images, values[f"x_{part}"], strict=True)
        np.testing.assert_array_equal(split.labels, values[f"y_{part}"].astype(np.int32), strict=True)
        np.testing.assert_array_equal(split.ids, np.arange(len(split.labels)))
    assert data.classes == ("0", "1", "2", "3")
    assert data.split == "a.npz: x_test is the test part"
    mapped = datasets.load(save_npy(tmp_path, values))
    assert_same(mapped, data._replace(name=mapped.name, split=mapped.split, details=mapped.details))


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
    assert both.split == "emb_test.npy is the test part"
    (tmp_path / "emb_train_labels.npy").unlink()
    with pytest.raises(ValueError, match=r"emb_train\.npy has no labels \(.*emb_train_labels\.npy: no such file"):
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


def test_labels_with_gaps_are_mapped_in_both_parts(tmp_path: Path) -> None:
    x = np.zeros((4, 3), np.float32)
    y_train, y_test = np.array([10**12, -1, 10**12, 4]), np.array([4, 4, -1, 10**12])
    data = datasets.load(
        save_npz(tmp_path / "a.npz", {"x_train": x, "y_train": y_train, "x_test": x, "y_test": y_test})
    )
    assert data.classes == ("-1", "4", "1000000000000")
    np.testing.assert_array_equal(data.train.labels, [2, 0, 2, 1])
    np.testing.assert_array_equal(data.test.labels, [1, 1, 0, 2])


def test_no_name_and_class_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name is None; a name, a path, or paths"):
        datasets.load(None)  # type: ignore[arg-type]
    arrays = {"x": np.zeros((4, 3), np.float32), "y": np.arange(4) % 2, "classes": np.array(["a", "a"])}
    with pytest.raises(ValueError, match=r"a\.npz: classes has 'a' more than once"):
        datasets.load(save_npz(tmp_path / "a.npz", arrays))


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


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    changes, message = BAD_ARRAYS[kind]
    with pytest.raises(ValueError, match=message) as raised:
        datasets.load(save_npz(tmp_path / "a.npz", GOOD | changes))
    assert "\n" not in str(raised.value)


def test_nan_in_mapped_arrays_is_found_block_by_block(tmp_path: Path) -> None:
    small = Tuning(block_bytes=3 * 12)  # three rows
    x = np.ones((20, 3), np.float32)
    x[[2, 3, 8, 11, 12, 19], 1] = np.nan, np.inf, -np.inf, np.nan, np.nan, np.nan
    paths = save_npy(tmp_path, {"x": x, "y": np.arange(20) % 2})
    with pytest.raises(ValueError, match=r"x.npy \+ y.npy: 6 of 20 rows .*: 2, 3, 8, 11, 12, …$"):
        from_arrays(read_npy(paths), tuning=small)
    x[:] = 1
    paths = save_npy(tmp_path, {"x": x, "y": np.arange(20) % 2})
    assert from_arrays(read_npy(paths), tuning=small).fingerprint == datasets.load(paths).fingerprint


@pytest.mark.parametrize("found", [["foo", "y"], []])
def test_missing_keys_are_reported_with_those_found(tmp_path: Path, found: list[str]) -> None:
    path = save_npz(tmp_path / "a.npz", dict.fromkeys(found, X))
    with pytest.raises(ValueError, match=re.escape(f"{path} holds {sorted(found)}; x_train, y_train, x_test, y_test")):
        datasets.load(path)


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
