"""`funcgrad data list`, `info` and `prepare`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_files import save_images

from funcgrad import cli, datasets

Run = Callable[..., Any]


def test_data_list_and_info(capsys: pytest.CaptureFixture[str], run: Run, tmp_path: Path) -> None:
    assert cli.main(["data", "list", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "│ digits │ 1,437 │  360 │      10 │ 8 × 8 × 1 uint8 │ embedded in scikit-learn │" in lines
    assert "mnist: `funcgrad data prepare mnist` writes it" in lines
    assert run("data", "list", "--data-dir", tmp_path)[0]["name"] == "digits"

    assert cli.main(["data", "info", "digits"]) == 0
    assert "classes     10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in capsys.readouterr().out
    assert run("data", "info", "digits")["shape"] == [8, 8, 1]
    assert cli.main(["data", "info", "mnist", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        f"name        mnist\nwhere       not in {tmp_path}\nnote        `funcgrad data prepare mnist` writes it\n"
    )


def test_data_info_says_how_a_table_is_read(
    capsys: pytest.CaptureFixture[str], run: Run, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{i}.5,{i},{i // 3},{'xy'[i % 2]}" for i in range(12)]
    path.write_text("\n".join(["a,b,owner,kind", *rows]))
    assert cli.main(["data", "info", str(path), "--keys", "a", "--label-column", "owner"]) == 0
    assert "classes     4: 0, 1, 2, 3\n" in capsys.readouterr().out
    assert run("data", "info", path)["notes"][0] == (
        "t.csv: labels are column kind, features columns a, owner; not used: b"
        " (--label-column and --keys choose others)"
    )
    assert "has no column z, only a, b, owner, kind" in refused("data", "info", path, "--label-column", "z")
    np.save(tmp_path / "x.npy", np.ones((4, 3), np.float32))
    described = run("data", "info", tmp_path / "x.npy")
    assert described["note"] == "no data to train on: no labels; `funcgrad predict` takes its 4 examples"
    assert described["shape"] == [3]


def test_data_prepare_says_what_archives_it_takes(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("data", "prepare", "mnist", "--from", tmp_path / "none", "--data-dir", tmp_path / "new")
    assert "train-images-idx3-ubyte.gz" in line


def test_data_cache_lists_and_clears_what_was_decoded(
    capsys: pytest.CaptureFixture[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "cache"))
    assert run("data", "cache") == []
    save_images(tmp_path / "pets")
    for size in (3, 4):
        datasets.load(tmp_path / "pets", size=size)
    [small, large] = run("data", "cache")
    assert (small["folder"], small["images"], large["images"]) == (
        str(tmp_path / "pets"),
        "8 of 3 × 3 × 3",
        "8 of 4 × 4 × 3",
    )
    assert cli.main(["data", "cache", "--clear"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == f"{tmp_path}/cache: 0.0 MB removed"
    assert sum("8 of" in line for line in lines) == 2
    assert run("data", "cache") == []
    assert list((tmp_path / "cache").iterdir()) == []
