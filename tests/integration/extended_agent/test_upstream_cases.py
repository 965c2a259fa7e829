"""QEMU's own cases for its agent, and more in which clients differ: our agent in front replies as the stock one alone.

Three of upstream's 29 cases (``config``, ``blockedrpcs`` and ``allowedrpcs``) are tests of their own here; the others,
and ours, are in tests/support/agent_cases.py. Each one is held with a stock agent alone and with an extended agent in
front of another one, with the same lists of commands in either or both; all that comes back must be equal.
``test_differences.py`` has what is not.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.processes.stock_agent import StockAgent, find_qemu_ga
from tests.support.agent_cases import (
    MAY_FAIL,
    NOT_ALLOWED,
    OS_RELEASE,
    OTHERS,
    SINCE,
    UPSTREAM,
    Case,
    Dialog,
    EndedError,
)
from tests.support.agent_client import Client
from tests.support.extended_agent import PATIENT, ExtendedAgent, package_parent


@dataclass(frozen=True)
class Lists:
    """As both agents have them: ``block_rpcs``, and ``allow_rpcs`` unless that is empty."""

    block_rpcs: tuple[str, ...] = ()
    allow_rpcs: tuple[str, ...] = ()

    def refuse(self, command: str) -> bool:
        return command in self.block_rpcs or (bool(self.allow_rpcs) and command not in self.allow_rpcs)

    def in_front(self) -> dict[str, Any]:
        return {"block_rpcs": self.block_rpcs, "allow_rpcs": self.allow_rpcs or None}

    def of_stock(self) -> dict[str, Any]:
        return {"block_rpcs": self.block_rpcs, "allow_rpcs": self.allow_rpcs}


LISTS = {
    "no lists": Lists(),
    # Upstream's own two, and one that hits the middle of most cases.
    "blocks": Lists(block_rpcs=("guest-ping", "guest-get-time")),
    "allows": Lists(allow_rpcs=("guest-ping", "guest-get-time")),
    "blocks more": Lists(block_rpcs=("guest-info", "guest-file-flush", "guest-exec-status", "guest-get-osinfo")),
}
ANYTHING = Lists()


@dataclass(frozen=True)
class Arrangement:
    """The lists of a stock agent alone, and where an extended agent in front of another has them."""

    name: str
    alone: Lists
    in_front: Lists = field(default=ANYTHING)
    after_it: Lists = field(default=ANYTHING)

    @property
    def hides_what_there_is(self) -> bool:
        """Return whether the agent in front cannot distinguish a command that it refuses from one that there is not."""
        return bool(self.in_front.allow_rpcs) and self.after_it.refuse("guest-info")


def arrangements() -> Iterator[Arrangement]:
    for name, lists in LISTS.items():
        if lists == ANYTHING:
            yield Arrangement(name, lists)
            continue
        yield Arrangement(f"{name}, in front", lists, in_front=lists)
        yield Arrangement(f"{name}, in the stock agent", lists, after_it=lists)
        yield Arrangement(f"{name}, in both", lists, in_front=lists, after_it=lists)


@dataclass(frozen=True)
class Agents:
    arrangement: Arrangement
    stock: str
    extended: str
    version: tuple[int, ...]


@pytest.fixture(scope="module", params=arrangements(), ids=lambda arrangement: arrangement.name)
def agents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    arrangement: Arrangement = request.param
    os_release = tmp_path_factory.mktemp("upstream") / "os-release"
    os_release.write_text(OS_RELEASE)
    environment = {"QGA_OS_RELEASE": str(os_release)}
    with (
        StockAgent(**arrangement.alone.of_stock(), environment=environment) as alone,
        StockAgent(**arrangement.after_it.of_stock(), environment=environment) as stock,
        ExtendedAgent(stock.socket, **arrangement.in_front.in_front(), costs=PATIENT) as extended,
    ):
        yield Agents(arrangement, alone.socket, extended.socket, installed_version())


def installed_version() -> tuple[int, ...]:
    printed = subprocess.run([find_qemu_ga(), "--version"], capture_output=True, text=True, check=True).stdout
    number = next(word for word in printed.split() if word[0].isdigit())
    return tuple(map(int, number.split(".")))


def hold(case: Case, path: str, directory: Path) -> tuple[list[Any], str]:
    """Return all that one agent replied, and why the case ended before its end, if it did."""
    directory.mkdir()
    reason = ""
    with Dialog(path) as dialog:
        try:
            case(dialog, directory)
        except EndedError as ended:
            reason = str(ended).removesuffix(NOT_ALLOWED)
        dialog.end()
    return dialog.notes, reason


def call_disabled(said_alone: Any) -> Any:
    """Return it with all commands that are not found called disabled, as test_differences.py has it."""
    if isinstance(said_alone, str):
        return re.sub(r"The command (\S+) has not been found", r"Command \1 has been disabled", said_alone)
    if isinstance(said_alone, dict):
        return {key: call_disabled(value) for key, value in said_alone.items()}
    if isinstance(said_alone, (list, tuple)):
        return type(said_alone)(map(call_disabled, said_alone))
    return said_alone


@pytest.mark.parametrize("case", [*UPSTREAM, *OTHERS], ids=lambda case: case.__name__)
def test_the_agent_in_front_replies_as_the_stock_agent_alone(agents: Agents, case: Case, tmp_path: Path) -> None:
    alone, reason = hold(case, agents.stock, tmp_path / "alone")
    in_front = hold(case, agents.extended, tmp_path / "in_front")
    if agents.arrangement.hides_what_there_is:
        assert in_front == (call_disabled(alone), call_disabled(reason))
    else:
        assert in_front == (alone, reason)
    is_complete = reason == ""
    if agents.arrangement.alone == ANYTHING and case.__name__ not in MAY_FAIL:
        assert is_complete == (agents.version >= SINCE.get(case.__name__, (0,))), reason


def test_upstreams_blockedrpcs_and_allowedrpcs(agents: Agents) -> None:
    """In every arrangement, the lists refuse what they name, or do not name, and nothing else."""
    for path in (agents.stock, agents.extended):
        with Client(path) as client:
            for command in ("guest-ping", "guest-get-time", "guest-get-fsinfo", "guest-info", "guest-get-osinfo"):
                reply = client.execute(command)
                assert ("error" in reply) == agents.arrangement.alone.refuse(command)
                if "error" in reply:
                    assert reply["error"]["class"] == "CommandNotFound"
                    assert "has been disabled" in reply["error"]["desc"]


def dump(name: str, configuration: Path, *options: str) -> str:
    """Return what an agent prints as its configuration."""
    extended = [sys.executable, "-E", "-s", "-m", "qemu_ga_extended"]
    program, variable = {"stock": ([find_qemu_ga()], "QGA_CONF"), "extended": (extended, "QGA_EXTENDED_CONF")}[name]
    done = subprocess.run(
        [*program, "-D", *options],
        env={variable: str(configuration)},
        cwd=package_parent(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


CONFIGURATION = """[general]
daemon=false
method=virtio-serial
path=/path/to/the.port
pidfile=/path/to/the.pid
statedir=/path/to/state
verbose=true
block-rpcs=guest-ping,guest-get-time
"""


@pytest.mark.parametrize("name", ["stock", "extended"])
@pytest.mark.parametrize("options", [(), ("-b", "guest-exec"), ("-p", "/other", "-r")], ids=" ".join)
def test_upstreams_config(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """A dump has what the file says, with the command line's options before it and its lists added to it."""
    (tmp_path / "conf").write_text(CONFIGURATION)
    printed = dump(name, tmp_path / "conf", *options)
    parsed = configparser.ConfigParser()
    parsed.read_string(printed)
    general = dict(parsed["general"])
    assert general["method"] == "virtio-serial"
    assert general["path"] == ("/other" if "-p" in options else "/path/to/the.port")
    assert general["pidfile"] == "/path/to/the.pid"
    assert general["statedir"] == "/path/to/state"
    assert general["verbose"] == "true"
    assert general["retry-path"] == ("true" if "-r" in options else "false")
    blocked = {"guest-ping", "guest-get-time"} | ({"guest-exec"} if "-b" in options else set())
    assert set(general["block-rpcs"].split(",")) == blocked
