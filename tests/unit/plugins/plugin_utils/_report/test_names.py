from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.names import short_names
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("names", "short"),
    [
        ([], []),
        (["web1", "db.example.org", "[fe80::1]:5000", "vsock:3:1234"], None),
        (["/var/run/qemu-server/100.qga", "/var/run/qemu-server/101.qga"], ["100", "101"]),
        (["/run/a/qga.sock", "/run/b/qga.sock", "/run/c/other.sock"], ["a/qga.sock", "b/qga.sock", "other"]),
        (["/run/100.qga", "/run/100.sock"], ["100.qga", "100.sock"]),
        (["/x/a/b/s", "/y/a/b/s", "/z/c/b/s"], ["x/a/b/s", "y/a/b/s", "c/b/s"]),
        # The same guest twice, and names that are not the paths of files.
        (["/run/1.qga", "/run/1.qga"], ["/run/1.qga", "/run/1.qga"]),
        (["/", "/run/", "/run/.qga", "/" + "x" * 5000], ["/", "/run/", ".qga", "/" + "x" * 5000]),
        # A lengthened name may be the stem of another.
        (["/a/s.x", "/b/s.y", "/c/s.x.z"], ["a/s.x", "s.y", "s.x.z"]),
    ],
)
def test_a_path_has_the_shortest_name_that_is_unique(names: list[str], short: list[str] | None) -> None:
    assert short_names(names) == (names if short is None else short)


@given(st.lists(st.text("/.ab", max_size=12), max_size=12, unique=True))
def test_different_names_stay_different(names: list[str]) -> None:
    short = short_names(names)
    assert len(set(short)) == len(names)
    assert all(
        name.startswith(each) or name.endswith(each) or each in name for name, each in zip(names, short, strict=True)
    )
