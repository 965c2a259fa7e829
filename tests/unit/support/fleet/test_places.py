"""Where sockets lie, and what is made and removed for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.fleet.places import missing_directories, remove, socket_path


@pytest.mark.parametrize("name", ["", "/guest1", "../guest1", "a/../../b", "a//b", "a/", "./a"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name such as"):
        socket_path(Path("/fleet"), name)


def test_what_is_too_long_for_a_socket_is_refused() -> None:
    assert socket_path(Path("/fleet"), "x" * 96) == Path(f"/fleet/{'x' * 96}.qga")
    with pytest.raises(ValueError, match="too long for a socket"):
        socket_path(Path("/fleet"), "x" * 97)


def test_directories_are_made_parents_first_and_removed_if_empty(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    paths = [socket_path(tmp_path / "there" / "new", name) for name in ("a", "host1/b", "host1/deep/c")]
    directories = missing_directories(paths)
    for directory in directories:
        directory.mkdir()
    for path in paths:
        path.touch()
    (tmp_path / "there" / "new" / "host1" / "mine").touch()
    remove(paths, directories)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["host1", "mine", "new", "there"]
