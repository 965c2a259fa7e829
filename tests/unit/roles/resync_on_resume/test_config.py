"""The service's configuration: what a file means, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.resync_service import module

config = module("config")


def read(directory: Path, text: str) -> Any:
    path = directory / "conf"
    path.write_text(text, encoding="utf-8")
    return config.read(str(path))


def complaint(directory: Path, text: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        read(directory, text)
    said = str(caught.value)
    assert "\n" not in said
    return said.replace(str(directory / "conf"), "FILE")


def test_an_empty_file_means_what_is_usual(tmp_path: Path) -> None:
    usual = read(tmp_path, "")
    assert usual.uris == ("qemu:///system",)
    assert (usual.agent_patience, usual.look_at_start) == (120.0, True)
    assert (usual.timeout, usual.concurrency, usual.metrics_file) == (5.0, 20, "")
    assert usual.resync == {
        "tolerance": 0.1,
        "method": "auto",
        "attempts": 3,
        "samples": 16,
        "backward": "step",
        "require_synchronized_host": False,
        "update_rtc": False,
    }


def test_all_keys_are_read(tmp_path: Path) -> None:
    chosen = read(
        tmp_path,
        """
# The hypervisors of this rack.
[watch]
uris = qemu:///system
  qemu+ssh://root@other:2222/system?keyfile=/root/key   ; by another name
  qemu:///session qemu:///system
agent_patience = 0.5
look_at_start = no
[resync]
tolerance = 1e-3
method = set_time
attempts = 1
samples = 8
backward = slew
require_synchronized_host = true
timeout = 2.5
concurrency = 5
[metrics]
file = /var/lib/node exporter/qga.prom
""",
    )
    assert chosen.uris == (
        "qemu:///system",
        "qemu+ssh://root@other:2222/system?keyfile=/root/key",
        "qemu:///session",
    )
    assert (chosen.agent_patience, chosen.look_at_start) == (0.5, False)
    assert (chosen.timeout, chosen.concurrency) == (2.5, 5)
    assert chosen.metrics_file == "/var/lib/node exporter/qga.prom"
    assert chosen.resync == {
        "tolerance": 0.001,
        "method": "set_time",
        "attempts": 1,
        "samples": 8,
        "backward": "slew",
        "require_synchronized_host": True,
        "update_rtc": False,
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[wach]", "FILE: there is no section [wach], only [watch], [resync], [metrics]"),
        ("[DEFAULT]\nuris = x", "FILE: there is no section [DEFAULT], only [watch], [resync], [metrics]"),
        ("[metrics]\npath = /x", "FILE: there is no key path in [metrics], only file"),
        ("[watch]\nURIs = x", "FILE: there is no key URIs in [watch], only uris, agent_patience, look_at_start"),
        ("[watch]\nuris =", "FILE: [watch] uris is empty: expects the URI of a hypervisor, such as qemu:///system"),
        (
            "[watch]\nuris = q e m u",
            "FILE: [watch] uris is q e m u: q is not the URI of a hypervisor, such as qemu:///system",
        ),
        (
            "[watch]\nuris = qemu:///system alias",
            "FILE: [watch] uris is qemu:///system alias: alias is not the URI of a hypervisor, such as qemu:///system",
        ),
        (
            "[watch]\nuris = other:16514",
            "FILE: [watch] uris is other:16514: other:16514 is not the URI of a hypervisor, such as qemu:///system",
        ),
        (
            "[watch]\nuris = ://other/system",
            "FILE: [watch] uris is ://other/system: ://other/system is not the URI of a hypervisor, such as qemu:///system",
        ),
        ("[watch]\nagent_patience = soon", "FILE: [watch] agent_patience is soon: expects a number of seconds"),
        ("[watch]\nagent_patience = -1", "FILE: [watch] agent_patience is -1: Choose between 0 and 86400 s."),
        ("[watch]\nlook_at_start = maybe", "FILE: [watch] look_at_start is maybe: expects yes or no"),
        ("[resync]\ntolerance = nan", "FILE: [resync] tolerance is nan: Choose between 0 and 31622400 s."),
        ("[resync]\nmethod = magic", "FILE: [resync] method is magic: expects one of auto, extended, set_time, rtc"),
        ("[resync]\nattempts = 1.5", "FILE: [resync] attempts is 1.5: expects a whole number"),
        ("[resync]\nattempts = 0", "FILE: [resync] attempts is 0: Choose between 1 and 100."),
        ("[resync]\nsamples = 1001", "FILE: [resync] samples is 1001: Choose between 1 and 1000."),
        ("[resync]\nbackward =", "FILE: [resync] backward is empty: expects one of step, slew, leave"),
        ("[resync]\nbackward = no", "FILE: [resync] backward is no: expects one of step, slew, leave"),
        ("[resync]\ntimeout = 0", "FILE: [resync] timeout is 0: Choose between 0.05 and 86400 s."),
        ("[resync]\nconcurrency = 0", "FILE: [resync] concurrency is 0: Choose between 1 and 1000."),
        ("[metrics]\nfile = qga.prom", "FILE: [metrics] file is qga.prom: expects a path from the root, or nothing"),
    ],
)
def test_what_is_wrong_is_said_with_section_and_key(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text) == said


@pytest.mark.parametrize(
    "uri", ["test:///default", "qemu:/system", "QEMU:///system", "qemu+libssh2://root@[::1]:22/system", "xen:///"]
)
def test_every_driver_and_transport_has_its_uris(tmp_path: Path, uri: str) -> None:
    assert read(tmp_path, f"[watch]\nuris = {uri}\n").uris == (uri,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uris = x", "File contains no section headers"),
        ("[watch]\nuris", "uris"),
        ("[watch]\nuris = a\nuris = b", "option 'uris' in section 'watch' already exists"),
        ("[watch]\n[watch]", "section 'watch' already exists"),
    ],
)
def test_what_is_no_such_file_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    whole = complaint(tmp_path, text)
    assert whole.startswith("FILE cannot be read: ")
    assert said in whole


def test_a_hardware_clock_is_not_taken_where_going_back_is_forbidden(tmp_path: Path) -> None:
    for backward in ("leave", "slew"):
        said = complaint(tmp_path, f"[resync]\nmethod = rtc\nbackward = {backward}\n")
        assert said.startswith(f"FILE: [resync] method rtc cannot keep to backward={backward}: ")
    assert read(tmp_path, "[resync]\nmethod = rtc\n").resync["method"] == "rtc"


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"/none cannot be read: No such file or directory\Z"):
        config.read(str(tmp_path / "none"))
    (tmp_path / "conf").write_bytes(b"[watch]\nuris = \xff\n")
    with pytest.raises(config.ConfigError, match="conf cannot be read: 'utf-8' codec"):
        config.read(str(tmp_path / "conf"))
