"""The service's configuration: what a file means, and what is said of one that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.resync_service import module

config = module("config")
SUCH_AS = "the URI of a hypervisor, such as qemu:///system"
ALL_KEYS = """
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
"""


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
    resync = {"tolerance": 0.1, "method": "auto", "attempts": 3, "samples": 16, "backward": "step"}
    assert read(tmp_path, "") == config.Config(
        uris=("qemu:///system",),
        agent_patience=120.0,
        look_at_start=True,
        timeout=5.0,
        concurrency=20,
        resync={**resync, "require_synchronized_host": False, "update_rtc": False},
        metrics_file="",
    )


def test_all_keys_are_read(tmp_path: Path) -> None:
    resync = {"tolerance": 0.001, "method": "set_time", "attempts": 1, "samples": 8, "backward": "slew"}
    assert read(tmp_path, ALL_KEYS) == config.Config(
        uris=("qemu:///system", "qemu+ssh://root@other:2222/system?keyfile=/root/key", "qemu:///session"),
        agent_patience=0.5,
        look_at_start=False,
        timeout=2.5,
        concurrency=5,
        resync={**resync, "require_synchronized_host": True, "update_rtc": False},
        metrics_file="/var/lib/node exporter/qga.prom",
    )


@pytest.mark.parametrize(
    "uri", ["test:///default", "qemu:/system", "QEMU:///system", "qemu+libssh2://root@[::1]:22/system", "xen:///"]
)
def test_every_driver_and_transport_has_its_uris(tmp_path: Path, uri: str) -> None:
    assert read(tmp_path, f"[watch]\nuris = {uri}\n").uris == (uri,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[wach]", ": there is no section [wach], only [watch], [resync], [metrics]"),
        ("[DEFAULT]\nuris = x", ": there is no section [DEFAULT], only [watch], [resync], [metrics]"),
        ("[metrics]\npath = /x", ": there is no key path in [metrics], only file"),
        ("[watch]\nURIs = x", ": there is no key URIs in [watch], only uris, agent_patience, look_at_start"),
        ("[watch]\nuris =", f": [watch] uris is empty: expects {SUCH_AS}"),
        ("[watch]\nuris = qemu:///system alias", f": [watch] uris is qemu:///system alias: alias is not {SUCH_AS}"),
        ("[watch]\nuris = ://other/system", f": [watch] uris is ://other/system: ://other/system is not {SUCH_AS}"),
        ("[watch]\nagent_patience = soon", ": [watch] agent_patience is soon: expects a number of seconds"),
        ("[watch]\nagent_patience = -1", ": [watch] agent_patience is -1: Choose between 0 and 86400 s."),
        ("[watch]\nlook_at_start = maybe", ": [watch] look_at_start is maybe: expects yes or no"),
        ("[resync]\ntolerance = nan", ": [resync] tolerance is nan: Choose between 0 and 31622400 s."),
        ("[resync]\nmethod = magic", ": [resync] method is magic: expects one of auto, extended, set_time, rtc"),
        ("[resync]\nattempts = 1.5", ": [resync] attempts is 1.5: expects a whole number"),
        ("[resync]\nattempts = 0", ": [resync] attempts is 0: Choose between 1 and 100."),
        ("[resync]\nsamples = 1001", ": [resync] samples is 1001: Choose between 1 and 1000."),
        ("[resync]\nbackward =", ": [resync] backward is empty: expects one of step, slew, leave"),
        ("[resync]\ntimeout = 0", ": [resync] timeout is 0: Choose between 0.05 and 86400 s."),
        ("[resync]\nconcurrency = 0", ": [resync] concurrency is 0: Choose between 1 and 1000."),
        ("[metrics]\nfile = qga.prom", ": [metrics] file is qga.prom: expects a path from the root, or nothing"),
        ("[resync]\nmethod = rtc\nbackward = slew", ": [resync] method rtc cannot be combined with backward=slew: "),
        ("[resync]\nmethod = rtc\nbackward = leave", ": [resync] method rtc cannot be combined with backward=leave: "),
        ("uris = x", " cannot be read: File contains no section headers"),
        ("[watch]\nuris", " cannot be read: Source contains parsing errors"),
        ("[watch]\n[watch]", " cannot be read: While reading from 'FILE' [line 2]: section 'watch' already exists"),
    ],
)
def test_what_is_wrong_is_said_with_section_and_key(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text).startswith(f"FILE{said}")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"/none cannot be read: No such file or directory\Z"):
        config.read(str(tmp_path / "none"))
    (tmp_path / "conf").write_bytes(b"[watch]\nuris = \xff\n")
    with pytest.raises(config.ConfigError, match="conf cannot be read: 'utf-8' codec"):
        config.read(str(tmp_path / "conf"))
