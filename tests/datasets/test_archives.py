"""Named arrays: the usual names are known, others are given by keys, and only what is used is read."""

import re
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from dataset_files import X, Y, save_images, save_npz
from safetensors.numpy import save_file

from funcgrad import datasets

OTHER = X * 2
SPLIT = {"train": (X, Y), "test": (OTHER, Y[::-1])}


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        ("x", "y"),
        ("X", "y"),
        ("data", "target"),
        ("features", "labels"),
        ("embeddings", "labels"),
        ("images", "labels"),
    ],
)
def test_the_usual_names_are_known_alone_and_with_parts(tmp_path: Path, features: str, labels: str) -> None:
    data = datasets.load(save_npz(tmp_path / "a.npz", {features: X, labels: Y}), test_fraction=0.5)
    np.testing.assert_array_equal(data.train.images, X[:2])
    for form in ("{part}_{kind}", "{kind}_{part}"):
        arrays = {
            form.format(part=part, kind=kind): array
            for part, pair in SPLIT.items()
            for kind, array in zip((features, labels), pair, strict=True)
        }
        data = datasets.load(save_npz(tmp_path / "b.npz", arrays))
        np.testing.assert_array_equal(data.test.images, OTHER)
        np.testing.assert_array_equal(data.test.labels, Y[::-1])
        assert data.split == f"b.npz: {form.format(part='test', kind=features)} is the test part"


def test_medmnist_has_three_parts_and_labels_of_one_column(tmp_path: Path) -> None:
    images = {part: np.full((4, 5, 5), i, np.uint8) for i, part in enumerate(("train", "val", "test"))}
    arrays = {f"{part}_images": array for part, array in images.items()}
    arrays |= {f"{part}_labels": Y[:, None].astype(np.uint8) for part in images}
    data = datasets.load(save_npz(tmp_path / "a.npz", arrays))
    assert data.validation is not None
    for split, value in ((data.train, 0), (data.validation, 1), (data.test, 2)):
        np.testing.assert_array_equal(split.images, np.full((4, 5, 5, 1), value, np.uint8), strict=True)
        np.testing.assert_array_equal(split.labels, Y)
    for name in ("test_images", "test_labels"):
        del arrays[name]
    data = datasets.load(save_npz(tmp_path / "b.npz", arrays))
    assert (data.split, data.validation) == ("b.npz: val_images is the test part", None)
    np.testing.assert_array_equal(data.test.images, images["val"][..., None])


def test_keys_name_arrays_and_arrays_without_names_are_features_and_labels(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", {"foo": X, "bar": Y, "baz": OTHER, "x": np.zeros((3, 9)), "who": np.arange(4)})
    data = datasets.load(path, keys=["foo", "bar", "baz", "bar"])
    np.testing.assert_array_equal(data.test.images, OTHER)
    assert data.notes == ("arrays used: foo (features), bar (labels); baz (features), bar (labels); not used: x, who",)
    alone = datasets.load(path, keys=["foo", "bar"], group_column="who", test_fraction=0.5)
    assert alone.test.groups is not None
    np.testing.assert_array_equal(alone.test.groups, alone.test.ids)
    assert alone.details["arrays"] == {"train": {"features": "foo", "labels": "bar", "groups": "who"}}
    np.savez(tmp_path / "b.npz", X, Y)
    assert datasets.load(tmp_path / "b.npz", test_fraction=0.5).notes == (
        "arrays used: arr_0 (features), arr_1 (labels)",
    )
    for keys, message in (
        (["foo", "no"], "keys: no is not in .*a.npz, which holds"),
        (["foo", "bar", "baz"], "keys are foo, bar, baz; FEATURES LABELS, and perhaps"),
        (["foo"], "a.npz: foo has no labels .--keys FEATURES LABELS names them, of"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.load(path, keys=keys)
    with pytest.raises(ValueError, match=r"group_column is 'me', of which .*a\.npz has no me"):
        datasets.load(path, keys=["foo", "bar"], group_column="me")
    with pytest.raises(ValueError, match="label_column 'bar': of a table"):
        datasets.load(path, label_column="bar")


def test_only_the_arrays_that_are_used_are_read(tmp_path: Path) -> None:
    """Neither objects nor damage elsewhere in the file matter: no byte of other arrays is read."""
    path = save_npz(tmp_path / "a.npz", {"x": X, "y": Y, "objects": np.array([{}], object), "huge": np.zeros(10_000)})
    with zipfile.ZipFile(path) as archive:
        where = archive.getinfo("huge.npy").header_offset
    content = bytearray(path.read_bytes())
    content[where + 60 : where + 80_000] = bytes(79_940)  # header and checksum are wrong now
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        datasets.load(path, keys=["huge", "y"])
    data = datasets.load(path, test_fraction=0.5)
    assert data.notes == ("arrays used: x (features), y (labels); not used: objects, huge",)
    np.testing.assert_array_equal(np.concatenate([data.train.images, data.test.images]), X)


def test_safetensors_are_read_bfloat16_included(tmp_path: Path) -> None:
    half = X.astype(ml_dtypes.bfloat16)
    path = tmp_path / "a.safetensors"
    save_file({"train_features": half, "train_labels": Y, "test_features": half, "test_labels": Y}, path)
    data = datasets.load(path)
    np.testing.assert_array_equal(data.train.images, X, strict=True)
    np.testing.assert_array_equal(data.test.labels, Y)
    assert len(data.notes) == 1  # the names of the arrays
    path.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"a\.safetensors: not a readable \.safetensors file of plain arrays"):
        datasets.load(path)


def test_an_npy_file_of_bfloat16_is_recognised(tmp_path: Path) -> None:
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(4, 3).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "e.npy", x)
    np.save(tmp_path / "e_labels.npy", Y)
    assert np.load(tmp_path / "e.npy").dtype == "V2"
    data = datasets.load(tmp_path / "e.npy", test_fraction=0.5)
    np.testing.assert_array_equal(data.train.images, x[:2].astype(np.float32), strict=True)
    assert "e.npy: numbers of two bytes without a type are taken as bfloat16" in data.notes[0]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "how"),
    [
        (0, 255, "uint8", "bytes, like pixels"),
        (0, 65535, "float32", "float32, not scaled"),
        (-(2**24), 5, "float32", "float32, not scaled"),
        (0, 2**53, "float64", "float64, not scaled"),
    ],
)
def test_integers_become_bytes_or_floats_that_hold_them(
    tmp_path: Path, low: int, high: int, dtype: str, how: str
) -> None:
    x = np.array([[low, 0], [1, 2], [3, 4], [5, high]])
    arrays = {"x_train": x, "y_train": Y, "x_test": x[::-1] // 2, "y_test": Y}
    data = datasets.load(save_npz(tmp_path / "a.npz", arrays))
    np.testing.assert_array_equal(data.train.images, x.astype(dtype), strict=True)
    np.testing.assert_array_equal(data.test.images, (x[::-1] // 2).astype(dtype), strict=True)
    assert data.notes[0].endswith(f"a.npz: x_train: integers from {low:,} to {high:,} are taken as {how}")


def test_a_test_part_without_labels_is_left_out_and_said(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", {"x_train": X, "y_train": Y, "x_test": OTHER})
    data = datasets.load(path, test_fraction=0.5)
    assert f"{path}: x_test has no labels and is left out" in data.notes
    assert len(data.train.labels) == len(data.test.labels) == 2
    examples = datasets.load_examples(path)
    assert (examples.labels, examples.classes) == (None, ())
    assert examples.ids.tolist() == [*(f"train:{i}" for i in range(4)), *(f"test:{i}" for i in range(4))]
    np.testing.assert_array_equal(examples.images, np.concatenate([X, OTHER]))
    labelled = datasets.load_examples(save_npz(tmp_path / "b.npz", {"x": X, "y": Y + 3}))
    assert labelled.labels is not None
    assert (labelled.labels.tolist(), labelled.classes, labelled.ids.tolist()) == (
        [0, 1, 0, 1],
        ("3", "4"),
        [0, 1, 2, 3],
    )
    np.save(tmp_path / "c.npy", X)
    assert datasets.load_examples(tmp_path / "c.npy").labels is None


@pytest.mark.parametrize("suffix", [".pt", ".h5", ".pkl", ".mat", ".PTH"])
def test_formats_that_run_code_or_need_more_are_refused_with_the_lines_that_convert_them(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"emb{suffix}"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="files are not read; two lines of Python convert it") as raised:
        datasets.load(path)
    _, *lines = str(raised.value).splitlines()
    assert len(lines) == 2
    compile("\n".join(lines), "lines", "exec")
    assert re.search(rf"'emb{suffix}'.*\n.*'emb\.npz'", "\n".join(lines))


def test_the_lines_that_convert_a_matlab_file_and_a_pickle_work(tmp_path: Path, monkeypatch: Any) -> None:
    import pandas
    import scipy.io

    monkeypatch.chdir(tmp_path)
    scipy.io.savemat("emb.mat", {"x": X, "y": Y})
    pandas.DataFrame({"x": [*X], "y": Y}).to_pickle("emb.pkl")
    for name in ("emb.mat", "emb.pkl"):
        with pytest.raises(ValueError, match="two lines") as raised:
            datasets.load(name)
        exec("\n".join(str(raised.value).splitlines()[1:]), {})
        data = datasets.load("emb.npz", test_fraction=0.5)
        np.testing.assert_array_equal(data.train.images, X[:2])
        Path("emb.npz").unlink()


@pytest.mark.parametrize("framework", ["NumPy", "JAX"])
def test_any_model_turns_a_folder_into_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, framework: str
) -> None:
    """README's lines, with a projection in place of a trained model."""
    save_images(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    weights = np.random.default_rng(0).normal(size=(4 * 4 * 3, 5)).astype(np.float32)

    def embed(x: Any) -> np.ndarray:
        if framework == "NumPy":
            return x.reshape(len(x), -1) / np.float32(255) @ weights
        import jax

        return np.asarray(jax.jit(lambda x: x.reshape(len(x), -1) @ weights)(x / np.float32(255)))

    data = datasets.load("photos", size=4, channels=3)
    for part, split in (("train", data.train), ("test", data.test)):
        batches = (split.images[i : i + 64] for i in range(0, len(split.labels), 64))
        np.save(f"{part}.npy", np.concatenate([embed(batch) for batch in batches]))
        np.save(f"{part}_labels.npy", np.array(data.classes)[split.labels])
    embedded = datasets.load("train.npy")
    assert embedded.classes == ("cat", "dog")
    np.testing.assert_array_equal(embedded.test.labels, data.test.labels)
    np.testing.assert_allclose(embedded.train.images, data.train.images.reshape(6, -1) / 255 @ weights, rtol=1e-5)
