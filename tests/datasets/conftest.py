"""A cache of their own, and a folder of images to fill it with."""

from pathlib import Path

import pytest
from dataset_files import save_images


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    save_images(tmp_path / "pets")
    return tmp_path / "pets"
