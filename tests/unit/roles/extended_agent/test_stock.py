"""What is learned of the stock agent, and what is kept of it over freezes, hangs and starts."""

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
    """What an extended agent knows of a stock agent that a test plays, with a memory in a file."""

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


def test_what_it_says_while_frozen_is_neither_believed_nor_kept(
    turned: Any, stock: Any, known: Known, tmp_path: Path
) -> None:
    stock.answers["guest-info"] = info("guest-get-time")
    known.connect()
    said = known.file.read_bytes()
    stock.answers.update({"guest-info": IN_FREEZE, "guest-fsfreeze-status": b'{"return": "frozen"}\n'})
    stock.hang_up()
    turned.until(lambda: known.stock.link.is_connected and known.heard == 2)
    assert not known.is_time_settable, "file systems are frozen"
    assert known.file.read_bytes() == said
    # In the moment after the thaw, what it said before the freeze counts.
    known.stock.answered("guest-fsfreeze-thaw", b'{"return": 1}\n')
    assert known.is_time_settable
    assert not known.policy.is_enabled("guest-get-clock")
    assert not Known(turned, stock, tmp_path).policy.is_enabled("guest-get-clock")


def test_after_a_thaw_it_is_asked_again(turned: Any, stock: Any, known: Known) -> None:
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
def test_one_that_may_not_list_its_commands_is_tried_with_all_that_changes_nothing(
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


def test_what_was_not_listed_before_a_start_is_not_permitted_before_it_can_be_tried(
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
def test_a_memory_that_makes_no_sense_or_that_others_can_write_is_none(
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


def test_a_memory_that_cannot_be_written_costs_a_line_in_the_log(stock: Any, known: Known) -> None:
    known.file.with_name("stock.json.new").mkdir()
    stock.answers["guest-info"] = info()
    known.connect()
    assert known.is_time_settable
    assert f"cannot store the stock agent's commands in {known.file}" in known.log.read_text()


def test_a_stock_agent_that_had_frozen_file_systems_before_is_known_to_have(
    turned: Any, stock: Any, tmp_path: Path
) -> None:
    (tmp_path / "qga.state.isfrozen").touch()
    assert "frozen" in Known(turned, stock, tmp_path).policy.refusal("guest-get-clock").description


def test_what_came_of_trying_counts_until_it_is_tried_again(turned: Any, stock: Any, known: Known) -> None:
    stock.answers.update({"guest-info": REFUSED, "guest-get-time": b'{"return": 1}\n'})
    known.connect()
    assert known.policy.is_enabled("guest-get-clock")
    del stock.answers["guest-get-time"]  # it hangs when it is asked
    stock.hang_up()
    turned.until(lambda: known.stock.link.is_connected and stock.commands.count("guest-get-time") == 2)
    assert known.policy.is_enabled("guest-get-clock")


def test_it_is_written_only_when_it_has_changed(turned: Any, stock: Any, known: Known) -> None:
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
