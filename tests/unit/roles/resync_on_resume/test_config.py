"""The service's configuration file: its meaning, and the errors for an invalid one."""

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


def error_for(directory: Path, text: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        read(directory, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(directory / "conf"), "FILE")


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
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
def test_uris_of_every_driver_and_transport_are_accepted(tmp_path: Path, uri: str) -> None:
    assert read(tmp_path, f"[watch]\nuris = {uri}\n").uris == (uri,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[wach]", "FILE: unknown section [wach]; expected one of [watch], [resync], [metrics]"),
        ("[DEFAULT]\nuris = x", "FILE: unknown section [DEFAULT]; expected one of [watch], [resync], [metrics]"),
        ("[metrics]\npath = /x", "FILE: unknown key 'path' in [metrics]; expected one of file"),
        (
            "[watch]\nURIs = x",
            "FILE: unknown key 'URIs' in [watch]; expected one of uris, agent_patience, look_at_start",
        ),
        ("[watch]\nuris =", f"FILE: [watch] uris is empty: expected {SUCH_AS}"),
        ("[watch]\nuris = x:/ alias", f"FILE: [watch] uris is 'x:/ alias': 'alias' is not {SUCH_AS}"),
        ("[watch]\nuris = ://other/x", f"FILE: [watch] uris is '://other/x': '://other/x' is not {SUCH_AS}"),
        ("[watch]\nagent_patience = soon", "FILE: [watch] agent_patience is 'soon': expected a number of seconds"),
        ("[watch]\nagent_patience = -1", "FILE: [watch] agent_patience is '-1': Choose between 0 and 86400 s."),
        ("[watch]\nlook_at_start = maybe", "FILE: [watch] look_at_start is 'maybe': expected yes or no"),
        ("[resync]\ntolerance = nan", "FILE: [resync] tolerance is 'nan': Choose between 0 and 31622400 s."),
        ("[resync]\nmethod = x", "FILE: [resync] method is 'x': expected one of auto, extended, set_time, rtc"),
        ("[resync]\nattempts = 1.5", "FILE: [resync] attempts is '1.5': expected a whole number"),
        ("[resync]\nattempts = 0", "FILE: [resync] attempts is '0': Choose between 1 and 100."),
        ("[resync]\nsamples = 1001", "FILE: [resync] samples is '1001': Choose between 1 and 1000."),
        ("[resync]\nbackward =", "FILE: [resync] backward is empty: expected one of step, slew, leave"),
        ("[resync]\ntimeout = 0", "FILE: [resync] timeout is '0': Choose between 0.05 and 86400 s."),
        ("[resync]\nconcurrency = 0", "FILE: [resync] concurrency is '0': Choose between 1 and 1000."),
        ("[metrics]\nfile = qga.prom", "FILE: [metrics] file is 'qga.prom': expected an absolute path, or nothing"),
        (
            "[resync]\nmethod = rtc\nbackward = slew",
            "FILE: [resync] method rtc cannot be combined with backward=slew: ",
        ),
        (
            "[resync]\nmethod = rtc\nbackward = leave",
            "FILE: [resync] method rtc cannot be combined with backward=leave: ",
        ),
        ("uris = x", "cannot read 'FILE': File contains no section headers"),
        ("[watch]\nuris", "cannot read 'FILE': Source contains parsing errors"),
        ("[watch]\n[watch]", "cannot read 'FILE': While reading from 'FILE' [line 2]: section 'watch' already exists"),
    ],
)
def test_an_error_names_the_section_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    assert error_for(tmp_path, text).startswith(message)


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"cannot read '.*/none': No such file or directory\Z"):
        config.read(str(tmp_path / "none"))
    (tmp_path / "conf").write_bytes(b"[watch]\nuris = \xff\n")
    with pytest.raises(config.ConfigError, match=r"cannot read '.*/conf': 'utf-8' codec"):
        config.read(str(tmp_path / "conf"))
