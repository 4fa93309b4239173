"""What `dockerjail check` finds at the place of the database."""

from pathlib import Path

import pytest

from dockerjail.cli.check import _store
from dockerjail.config.settings import load


def place(path: Path, tmp_path: Path):
    config = tmp_path / "dockerjail.toml"
    config.write_text(f'[store]\npath = "{path}"\n')
    return _store(load(config, {}))


@pytest.mark.parametrize("name", ["state.db", "directories/that/are/made/state.db"])
def test_a_place_that_can_be_written_is_good_and_stays_as_it_is(tmp_path, name):
    found = place(tmp_path / name, tmp_path)
    assert (found.place, found.ok) == ("store", True)
    assert [each.name for each in tmp_path.iterdir()] == ["dockerjail.toml"]


def test_a_directory_is_no_database(tmp_path):
    found = place(tmp_path, tmp_path)
    assert (found.ok, found.fatal) == (False, True)
    assert "it is a directory" in found.what
    assert "name a file in it" in found.remedy


def test_a_file_system_that_has_no_size_is_not_called_full(tmp_path):
    found = place(Path("/proc/nothing/state.db"), tmp_path)
    assert "full" not in found.what
