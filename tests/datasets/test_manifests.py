"""Tables of image files: paths, labels, groups and parts, in or beside a folder."""

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from dataset_files import save_images
from pyarrow import parquet

from funcgrad import datasets


@pytest.fixture
def photos(tmp_path: Path, cache: Path) -> dict[str, np.ndarray]:
    """Images by their path below the folder of the same name."""
    return save_images(tmp_path / "photos")


def check(data: datasets.Dataset, photos: dict[str, np.ndarray], labels: dict[str, str]) -> None:
    seen = {}
    for split in (data.train, data.test):
        for pixels, label, name in zip(split.images, split.labels, split.ids, strict=True):
            np.testing.assert_array_equal(pixels, photos[name])
            seen[str(name)] = data.classes[label]
    assert seen == labels


def test_a_manifest_in_the_folder_gives_labels_and_groups(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    labels = {name: "ab"[i % 2] for i, name in enumerate([*photos][:6])}
    rows = [{"file_name": name, "label": label, "who": f"p{i // 2}"} for i, (name, label) in enumerate(labels.items())]
    path = tmp_path / "photos" / "metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = datasets.load(tmp_path / "photos", group_column="who", test_fraction=0.4)
    check(data, photos, labels)
    assert data.train.groups is not None
    assert data.train.groups.tolist() == ["p0", "p0", "p1", "p1"]
    assert data.notes[:2] == (
        "labels are column label of metadata.jsonl",
        f"images of {tmp_path / 'photos'} that are not listed are left out: 2",
    )
    assert datasets.describe(tmp_path / "photos").classes == ("a", "b")
    path.write_text("\n".join(json.dumps({"file_name": row["file_name"]}) for row in rows))
    assert datasets.load(tmp_path / "photos").classes == ("cat", "dog")  # no labels: those of the folders


def test_a_manifest_beside_the_folder_and_parts_by_column_or_folder(
    tmp_path: Path, photos: dict[str, np.ndarray]
) -> None:
    names = [*photos]
    stems = [name.removesuffix(".png") for name in names]
    lines = [f"{i},{stem},{i % 2 + 1},{'train' if i < 6 else 'test'}" for i, stem in enumerate(stems)]
    path = tmp_path / "photos.csv"
    path.write_text("\n".join(["id,file,label,split", *lines]))
    data = datasets.load(path)
    assert (data.classes, data.test.ids.tolist()) == (("1", "2"), stems[6:])
    np.testing.assert_array_equal(data.test.images[1], photos[names[7]])
    assert data.details["labels"] == {"mapping": {"1": 0, "2": 1}}
    (tmp_path / "photos" / "cat").rename(tmp_path / "photos" / "train")
    (tmp_path / "photos" / "dog").rename(tmp_path / "photos" / "val")
    for part in ("train", "val"):
        listing = "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(4))
        (tmp_path / "photos" / part / "metadata.csv").write_text(f"file_name,label\n{listing}")
    data = datasets.load(tmp_path / "photos")
    np.testing.assert_array_equal(data.test.images, [photos[f"dog/{i}.png"] for i in range(4)])
    for part in ("train", "val"):
        (tmp_path / "photos" / part / "metadata.csv").unlink()
    listing = "\n".join(f"{part}/{i}.png,{'ab'[i % 2]}" for part in ("train", "val") for i in range(4))
    (tmp_path / "photos" / "metadata.csv").write_text(f"file_name,label\n{listing}")
    data = datasets.load(tmp_path / "photos")
    assert data.test.ids.tolist() == [f"val/{i}.png" for i in range(4)]
    assert "the first folder of each path says which part it is in" in data.notes


def test_images_that_are_not_there_are_named_or_left_out(tmp_path: Path, photos: dict[str, np.ndarray]) -> None:
    path = tmp_path / "list.csv"
    path.write_text("\n".join(["path,label", *(f"photos/{name},{i % 2}" for i, name in enumerate(photos)), "no.png,1"]))
    with pytest.raises(ValueError, match=r"of 9 listed images 1 not there: .*list\.csv: no\.png; --skip-unreadable"):
        datasets.load(path)
    data = datasets.load(path, skip_unreadable=True)
    assert len(data.train.labels) + len(data.test.labels) == 8
    assert data.details["missing"] == [f"{path}: no.png"]
    path.write_text("\n".join(["path", *(f"photos/{name}" for name in photos)]))
    with pytest.raises(ValueError, match=r"list\.csv has no labels; --label-column names their column, of path"):
        datasets.load(path)
    examples = datasets.load_examples(path)
    assert (examples.labels, examples.images.shape) == (None, (8, 6, 5, 3))


@pytest.mark.parametrize("as_struct", [True, False])
def test_a_parquet_file_may_hold_the_images_themselves(
    tmp_path: Path, photos: dict[str, np.ndarray], as_struct: bool
) -> None:
    """As Hugging Face's data sets do."""
    content = [(tmp_path / "photos" / name).read_bytes() for name in photos]
    column = [{"bytes": one, "path": None} for one in content] if as_struct else content
    paths = []
    for part, rows in (("train", slice(0, 6)), ("test", slice(6, 8))):
        table = pyarrow.table({"img": column[rows], "label": ([0, 1] * 4)[rows], "who": [*"aabbccdd"][rows]})
        paths.append(tmp_path / f"{part}-00000-of-00001.parquet")
        parquet.write_table(table, paths[-1])
    data = datasets.load(paths, group_column="who")
    np.testing.assert_array_equal(np.concatenate([data.train.images, data.test.images]), [*photos.values()])
    assert (data.train.labels.tolist(), data.test.ids.tolist()) == ([0, 1, 0, 1, 0, 1], [0, 1])
    assert data.test.groups is not None
    assert data.test.groups.tolist() == ["d", "d"]
    assert datasets.load_examples(paths[1]).images.shape == (2, 6, 5, 3)
    broken = pyarrow.table({"img": [*column[:3], *([{"bytes": None, "path": "a.png"}] if as_struct else [None])]})
    parquet.write_table(broken, paths[0])
    with pytest.raises(ValueError, match=r"not a readable table of images .row 3 of column img holds no bytes"):
        datasets.load_examples(paths[0])
