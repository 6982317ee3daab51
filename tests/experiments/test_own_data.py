"""The zoo of folders and files: every row of each is what an independent reading says, and so does the record."""

from pathlib import Path

import pytest
from scripts import recorded, script

from funcgrad import datasets

ZOO = script("own_data")


@pytest.mark.parametrize("name", ZOO.ZOO)
def test_every_kind_is_read_as_pillow_and_csv_read_it_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "case").mkdir()
    case = ZOO.ZOO[name]
    data = case.make(tmp_path / "case")
    load = lambda: datasets.load(data[0], **ZOO.load_options(data))  # noqa: E731
    if isinstance(case.expected, str):
        with pytest.raises(ValueError, match=r".") as raised:
            load()
        assert case.expected in str(raised.value)
    else:
        row = ZOO.compare(load(), case.expected(tmp_path / "case"))
        assert (row["read"], row["same"], row["skipped_rightly"]) == (row["rows"], row["rows"], True)


def test_the_record_is_of_this_zoo_and_all_of_it_was_right() -> None:
    result = recorded("own_data")
    assert [*result["cases"]] == [*ZOO.ZOO]
    assert result["right"] == result["of"] == len(ZOO.ZOO)
    assert result["rows_the_same"] == result["rows"]
