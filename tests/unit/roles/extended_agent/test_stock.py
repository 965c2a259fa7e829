"""The state of the stock agent that is learned, and kept across freezes, hangs and restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.extended_agent import module

FROZEN_ALLOWED = ("guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status")
PING = "guest-ping"
LISTED = (*FROZEN_ALLOWED, "guest-get-time", "guest-set-time")
REFUSED = b'{"error": {"class": "CommandNotFound", "desc": "Command guest-info has been disabled"}}\n'


def info(*disabled: str) -> bytes:
    commands = [{"name": name, "enabled": name not in disabled, "success-response": True} for name in LISTED]
    return json.dumps({"return": {"version": "1.2.3", "supported_commands": commands}}).encode() + b"\n"


IN_FREEZE = info(*set(LISTED).difference(FROZEN_ALLOWED))


class Known:
    """The state that an extended agent has of a played stock agent, with a memory in a file."""

    def __init__(self, turned: Any, played: Any, directory: Path) -> None:
        self.log = directory / "log"
        log, costs, policy = module("log").Log(str(self.log)), module("limits").Costs(), module("policy")
        self.turned = turned
        self.file = directory / "stock.json"
        memory = module("stock").Memory(str(self.file), log)
        self.stock = module("stock").Stock(turned.loop, played.path, str(directory), costs, log, memory)
        self.heard = 0
        self.stock.on_known = self.hear
        self.policy = policy.Policy(policy.Lists(), self.stock)

    def hear(self) -> None:
        self.heard += 1

    def connect(self) -> None:
        self.stock.link.connect()
        self.turned.settle()

    @property
    def is_time_settable(self) -> bool:
        return bool(self.policy.is_enabled("guest-update-time"))


@pytest.fixture
def known(turned: Any, stock: Any, tmp_path: Path) -> Known:
    return Known(turned, stock, tmp_path)


def test_a_list_from_frozen_file_systems_is_neither_used_nor_stored(
    turned: Any, stock: Any, known: Known, tmp_path: Path
) -> None:
    stock.answers["guest-info"] = info("guest-get-time")
    known.connect()
    before = known.file.read_bytes()
    stock.answers.update({"guest-info": IN_FREEZE, "guest-fsfreeze-status": b'{"return": "frozen"}\n'})
    stock.hang_up()
    turned.until(lambda: known.stock.link.is_connected and known.heard == 2)
    assert not known.is_time_settable, "file systems are frozen"
    assert known.file.read_bytes() == before
    # Directly after the thaw, the list from before the freeze counts.
    known.stock.answered("guest-fsfreeze-thaw", b'{"return": 1}\n')
    assert known.is_time_settable
    assert not known.policy.is_enabled("guest-get-clock")
    assert not Known(turned, stock, tmp_path).policy.is_enabled("guest-get-clock")


def test_the_list_is_requested_again_after_a_thaw(turned: Any, stock: Any, known: Known) -> None:
    stock.answers.update({"guest-info": IN_FREEZE, "guest-fsfreeze-status": b'{"return": "frozen"}\n'})
    known.connect()
    assert known.stock.is_list_frozen
    assert not known.file.exists()
    stock.answers.update({"guest-info": info("guest-set-time"), "guest-fsfreeze-status": b'{"return": "thawed"}\n'})
    known.stock.answered("guest-fsfreeze-thaw", b'{"return": 1}\n')
    known.stock.freed()
    turned.settle()
    assert not known.stock.is_list_frozen
    assert not known.is_time_settable
    assert known.policy.is_enabled("guest-get-clock")
    assert known.file.read_bytes() == stock.answers["guest-info"]


@pytest.mark.parametrize("refused", [(), ("guest-get-time",), (PING,), ("guest-sync",), ("guest-sync-delimited", PING)])
def test_if_it_may_not_list_its_commands_the_harmless_ones_are_tried(
    stock: Any, known: Known, refused: tuple[str, ...]
) -> None:
    stock.answers.update({"guest-info": REFUSED, "guest-get-time": b'{"return": 1}\n', PING: b'{"return": {}}\n'})
    stock.disabled = set(refused)
    known.connect()
    assert known.heard == 1
    tried = {PING, "guest-sync", "guest-sync-delimited", "guest-get-time"}
    assert {command for command in tried if not known.policy.is_enabled(command)} == set(refused)
    assert not known.is_time_settable
    assert known.policy.refusal("guest-info").description == "Command guest-info has been disabled"
    assert "guest-set-time" not in stock.commands, "setting the time cannot be tried"


def test_after_a_restart_unlisted_commands_are_disabled_until_they_are_tried(
    turned: Any, stock: Any, known: Known, tmp_path: Path
) -> None:
    stock.answers.update({"guest-info": REFUSED, "guest-get-time": b'{"return": 1}\n', PING: b'{"return": {}}\n'})
    known.connect()
    anew = Known(turned, stock, tmp_path)
    assert not anew.is_time_settable
    assert not anew.policy.is_enabled("guest-get-clock")
    assert anew.policy.is_enabled(PING)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"garbage", ""),
        (b"[]", ""),
        (b"{" * 5000, ""),
        (b"x" * 300_000, ""),
        (b"\xff\xfe", "invalid start byte"),
        (info(), "is writable by other users"),
    ],
)
def test_a_memory_that_is_invalid_or_writable_by_others_is_ignored(
    turned: Any, stock: Any, tmp_path: Path, content: bytes, problem: str
) -> None:
    (tmp_path / "stock.json").write_bytes(content)
    (tmp_path / "stock.json").chmod(0o666 if content == info() else 0o600)
    known = Known(turned, stock, tmp_path)
    assert known.stock.info is None or known.stock.info.commands == {}
    assert problem in known.log.read_text()
    stock.answers["guest-info"] = info("guest-set-time")
    known.connect()
    assert known.file.read_bytes() == info("guest-set-time")
    assert known.file.stat().st_mode & 0o777 == 0o600


def test_a_memory_that_cannot_be_written_is_logged(stock: Any, known: Known) -> None:
    known.file.with_name("stock.json.new").mkdir()
    stock.answers["guest-info"] = info()
    known.connect()
    assert known.is_time_settable
    assert f"cannot store the stock agent's commands in '{known.file}'" in known.log.read_text()


def test_an_earlier_freeze_is_known_at_the_start(turned: Any, stock: Any, tmp_path: Path) -> None:
    (tmp_path / "qga.state.isfrozen").touch()
    assert "frozen" in Known(turned, stock, tmp_path).policy.refusal("guest-get-clock").description


def test_the_result_of_a_try_counts_until_the_next_one(turned: Any, stock: Any, known: Known) -> None:
    stock.answers.update({"guest-info": REFUSED, "guest-get-time": b'{"return": 1}\n'})
    known.connect()
    assert known.policy.is_enabled("guest-get-clock")
    del stock.answers["guest-get-time"]  # it hangs when it is asked
    stock.hang_up()
    turned.until(lambda: known.stock.link.is_connected and stock.commands.count("guest-get-time") == 2)
    assert known.policy.is_enabled("guest-get-clock")


def test_the_memory_is_written_only_on_changes(turned: Any, stock: Any, known: Known) -> None:
    stock.answers["guest-info"] = info()
    known.connect()
    known.file.write_bytes(b"a mark\n")
    stock.hang_up()
    turned.until(lambda: known.heard == 2)
    assert known.file.read_bytes() == b"a mark\n"
    stock.answers["guest-info"] = info("guest-set-time")
    stock.hang_up()
    turned.until(lambda: known.heard == 3)
    assert known.file.read_bytes() == stock.answers["guest-info"]
    assert [path.name for path in known.file.parent.iterdir() if path.name.startswith("stock.json")] == ["stock.json"]
