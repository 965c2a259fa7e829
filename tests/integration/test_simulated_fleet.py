"""A simulated fleet as a process: its sockets, its clocks, its faults, and what is left of it afterwards."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faults import FAULTS, REPLIES_BEFORE_HANGING_UP
from tests.fakes.fleet import Profile, SimulatedFleet, SimulatedFleetError, named, profiles
from tests.fakes.kinds import MILLISECOND_NS, SECOND_NS
from tests.support.agent_client import Client, answers
from tests.support.collection import ROOT
from tests.support.until import until

COUNT = 50
SECONDS = 10.0
QUIET_SECONDS = 0.15
FUTURE = 1_900_000_000

PING = b'{"execute": "guest-ping"}'
GET_CLOCK = b'{"execute": "guest-get-clock"}'
PONG = {"return": {}}

SPECIAL = {
    **{f"faulty/{fault}": Profile(offset_ns=-2 * SECOND_NS, fault=fault) for fault in FAULTS},
    "extended": Profile(offset_ns=-2 * SECOND_NS, drift_ppm=30),
    "stock": Profile(kind="stock", offset_ns=-2 * SECOND_NS, set_seconds=0.3),
    "distant": Profile(forward_seconds=0.12, backward_seconds=0.06),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFleet]:
    usual = named(profiles(COUNT - len(SPECIAL), 1, stock=0.4), hosts=3)
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), {**usual, **SPECIAL}) as running:
        yield running


@contextmanager
def untouched_machine_clock() -> Iterator[None]:
    """This machine's clock runs on beside its monotonic clock as before."""

    def gap_ns() -> int:
        return time.time_ns() - time.monotonic_ns()

    before_ns = gap_ns()
    yield
    assert abs(gap_ns() - before_ns) < 100 * MILLISECOND_NS


# ------------------------------------------------------------------------------------------------------------- sockets


def test_all_listen_in_the_directories_that_their_names_say(fleet: SimulatedFleet) -> None:
    assert len(fleet.paths) == COUNT
    assert fleet.paths == sorted(fleet.paths)
    assert {Path(path).parent.name for path in fleet.paths} >= {"host01", "host02", "host03", "faulty"}
    assert all(Path(path).is_socket() for path in fleet.paths)
    assert fleet.path("host01/guest0001") in fleet.paths


def test_each_usual_agent_answers_at_the_same_time(fleet: SimulatedFleet) -> None:
    def said(path: str) -> tuple[list[bytes], Any, Any]:
        with Client(path) as client:
            return client.sync(77), client.ask(PING), client.execute("guest-get-host-name")

    usual = [path for path in fleet.paths if "guest" in Path(path).name]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(said, usual))
    assert all(len(skipped) == 1 and pong == PONG for skipped, pong, _name in replies)
    assert len({name["return"]["host-name"] for _skipped, _pong, name in replies}) == len(usual)


def test_a_second_client_waits_until_the_first_has_gone(fleet: SimulatedFleet) -> None:
    path = fleet.path("host01/guest0001")
    with Client(path) as first, Client(path) as second:
        second.send(PING)
        assert first.ask(PING) == PONG
        assert second.is_quiet(QUIET_SECONDS)
        assert first.ask(PING) == PONG
        first.socket.close()
        assert second.reply() == PONG


def test_who_half_closes_gets_all_replies_and_the_end(fleet: SimulatedFleet) -> None:
    for name in ("host01/guest0001", "stock", "distant"):
        assert answers(fleet.path(name), PING * 3) == [b'{"return": {}}'] * 3


def test_a_client_that_sends_more_than_it_reads_gets_all_replies(fleet: SimulatedFleet) -> None:
    count = 20_000
    with Client(fleet.path("host01/guest0001")) as client, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send, PING * count)
        time.sleep(QUIET_SECONDS)
        for _reply in range(count):
            assert client.line() == b'{"return": {}}'
        sending.result()


def test_a_client_that_does_not_wait_for_its_reply_is_no_loss(fleet: SimulatedFleet) -> None:
    for name in ("distant", "stock", "faulty/slow"):
        with Client(fleet.path(name)) as impatient:
            impatient.send(b'{"execute": "guest-set-time", "arguments": {"time": %d}}' % (FUTURE * SECOND_NS))
        with Client(fleet.path(name)) as client:
            assert client.ask(PING) == PONG
    # It was carried out all the same.
    assert fleet.truths()["distant"] > 0


# -------------------------------------------------------------------------------------------------------------- clocks


def test_the_truth_is_what_a_client_reads(fleet: SimulatedFleet) -> None:
    with Client(fleet.path("extended")) as client:
        client.ask(GET_CLOCK)
        sent_ns = time.time_ns()
        clock = client.ask(GET_CLOCK)["return"]
        back_ns = time.time_ns()
    truth_ns = fleet.truths()["extended"]
    # The reading of both clocks from which the truth is told, and the drift until then.
    margin_ns = MILLISECOND_NS
    assert clock["transmitted"] - back_ns - margin_ns <= truth_ns <= clock["received"] - sent_ns + margin_ns


def test_clocks_are_independent_and_this_machines_stays_as_it_is(fleet: SimulatedFleet) -> None:
    extended, stock = "extended", "stock"
    before = fleet.truths()
    with untouched_machine_clock():
        with Client(fleet.path(extended)) as client:
            assert "after" in client.execute("guest-update-time", seconds=FUTURE, rtc=True)["return"]
            assert "after" in client.execute("guest-update-time", seconds=-7, relative=True)["return"]
        with Client(fleet.path(stock)) as client:
            assert client.execute("guest-set-time", time=FUTURE * SECOND_NS) == PONG
        after = fleet.truths()
    changed = {name for name, truth_ns in after.items() if abs(truth_ns - before[name]) > MILLISECOND_NS}
    assert changed == {extended, stock}
    assert 6 * SECOND_NS < after[stock] - after[extended] < 8 * SECOND_NS


def test_a_relative_step_is_exact(fleet: SimulatedFleet) -> None:
    name = "extended"
    before_ns = fleet.truths()[name]
    with Client(fleet.path(name)) as client:
        client.execute("guest-update-time", seconds=3, nanoseconds=500_000_000, relative=True)
    assert abs(fleet.truths()[name] - before_ns - 3_500_000_000) < MILLISECOND_NS


def test_shifting_puts_clocks_wrong_again(fleet: SimulatedFleet) -> None:
    before = fleet.truths()
    fleet.shift({"stock": 5 * SECOND_NS})
    fleet.shift(-SECOND_NS)
    moved = {name: round((truth_ns - before[name]) / SECOND_NS, 2) for name, truth_ns in fleet.truths().items()}
    assert moved == {**dict.fromkeys(before, -1.0), "stock": 4.0}
    with pytest.raises(SimulatedFleetError, match="there is no agent 'nobody'"):
        fleet.shift({"nobody": 1})


def test_it_counts_what_each_was_asked_for(fleet: SimulatedFleet) -> None:
    name = "host03/guest0003"
    before = fleet.received()[name]
    with Client(fleet.path(name)) as client:
        client.ask(PING)
        client.ask(PING)
    assert fleet.received()[name] == {**before, "guest-ping": before.get("guest-ping", 0) + 2}


# --------------------------------------------------------------------------------------------------------------- delays


def test_requests_and_replies_spend_their_time_on_the_way(fleet: SimulatedFleet) -> None:
    with Client(fleet.path("distant")) as client:
        begun_ns = time.monotonic_ns()
        first = client.ask(GET_CLOCK)["return"]
        there_and_back_ns = time.monotonic_ns() - begun_ns
        sent_ns = time.time_ns() + fleet.truths()["distant"]
        client.send(GET_CLOCK)
        received_ns = client.reply()["return"]["received"]
    assert there_and_back_ns >= 170 * MILLISECOND_NS
    assert 0 < first["transmitted"] - first["received"] < 110 * MILLISECOND_NS
    assert received_ns - sent_ns >= 115 * MILLISECOND_NS


def test_they_are_on_the_way_together_and_in_order(fleet: SimulatedFleet) -> None:
    count = 20
    with Client(fleet.path("distant")) as client:
        begun = time.monotonic()
        for number in range(count):
            client.send(b'{"execute": "guest-sync", "arguments": {"id": %d}}' % number)
        assert [client.reply()["return"] for _reply in range(count)] == list(range(count))
        assert 0.17 <= time.monotonic() - begun < count * 0.17


def test_a_stock_agent_is_deaf_until_the_hardware_clock_is_set(fleet: SimulatedFleet) -> None:
    with Client(fleet.path("stock")) as client:
        begun = time.monotonic()
        client.send(b'{"execute": "guest-set-time", "arguments": {"time": %d}}' % (FUTURE * SECOND_NS))
        client.send(b'{"execute": "guest-get-time"}')
        assert client.reply() == PONG
        assert time.monotonic() - begun >= 0.29
        assert 290 * MILLISECOND_NS <= client.reply()["return"] - FUTURE * SECOND_NS < SECONDS * SECOND_NS


# --------------------------------------------------------------------------------------------------------------- faults


def test_refuses(fleet: SimulatedFleet) -> None:
    assert Path(fleet.path("faulty/refuses")).is_socket()
    with pytest.raises(ConnectionRefusedError):
        Client(fleet.path("faulty/refuses"))


def test_silent_after_step(fleet: SimulatedFleet) -> None:
    name = "faulty/silent_after_step"
    before_ns = fleet.truths()[name]
    with Client(fleet.path(name)) as client:
        assert client.ask(PING) == PONG
        client.send(b'{"execute": "guest-update-time", "arguments": {"seconds": 9, "relative": true}}')
        client.send(PING)
        assert client.is_quiet(QUIET_SECONDS)
    with Client(fleet.path(name)) as client:
        client.send(PING)
        assert client.is_quiet(QUIET_SECONDS)
    assert round((fleet.truths()[name] - before_ns) / SECOND_NS, 2) == 9


def test_hangs_up(fleet: SimulatedFleet) -> None:
    with Client(fleet.path("faulty/hangs_up")) as client:
        for _reply in range(REPLIES_BEFORE_HANGING_UP):
            assert client.ask(PING) == PONG
        client.send(PING)
        assert client.line() == b""
    with Client(fleet.path("faulty/hangs_up")) as client:
        client.send(PING)
        assert client.line() == b""


# ---------------------------------------------------------------------------------------------------------- the process


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_stopping_leaves_no_process_and_no_socket(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "for it"
    with SimulatedFleet(directory, {"host1/guest1": Profile(), "guest2": Profile(fault="refuses")}) as running:
        pid = running.pid
        assert is_alive(pid)
        with Client(running.path("host1/guest1")) as client, Client(running.path("host1/guest1")):
            client.send(PING)
            running.stop()
            assert client.line() in (b"", b'{"return": {}}')
    assert not is_alive(pid)
    assert list(tmp_path.iterdir()) == []


def test_it_goes_with_who_started_it(tmp_path: Path) -> None:
    """Which may be killed: then nobody is left to end it but itself."""
    program = (
        "import sys, time, pathlib\n"
        "from tests.fakes.fleet import Profile, SimulatedFleet\n"
        "with SimulatedFleet(pathlib.Path(sys.argv[1]), {'guest1': Profile()}) as fleet:\n"
        "    print(fleet.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "temporary").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "fleet")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},  # what the killed one cannot remove
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    until(lambda: not is_alive(pid) or is_zombie(pid), "the program has not ended")
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_its_sockets_go_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    with SimulatedFleet(tmp_path / "fleet", {"host1/guest1": Profile()}) as running:
        os.kill(running.pid, number)
        with pytest.raises(SimulatedFleetError, match="has ended"):
            until(lambda: running.truths() == {}, "there are guests left")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_taken_stays_whose_it_is(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(tmp_path / "b.qga"))
        other.listen()
        with (
            pytest.raises(SimulatedFleetError, match=r"cannot listen on .*/b\.qga: another program does"),
            SimulatedFleet(tmp_path, {"a": Profile(), "b": Profile()}),
        ):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["b.qga"]


def test_a_name_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no name such as"):
        SimulatedFleet(tmp_path, {"../elsewhere": Profile()})


def test_it_tells_what_it_costs(fleet: SimulatedFleet) -> None:
    before = fleet.cpu_seconds()
    with Client(fleet.path("extended")) as client:
        until(lambda: client.ask(GET_CLOCK)["return"] and fleet.cpu_seconds() > before, "it takes no time")
    assert 1_000 < fleet.resident_kib() < 200_000


def test_a_thousand_agents_run_in_one_process(tmp_path: Path) -> None:
    described = named(profiles(1000, 1, dead=0.1), hosts=20)
    living = [name for name, profile in described.items() if profile.fault == "none"]
    begun = time.monotonic()
    with SimulatedFleet(tmp_path, described) as running, ExitStack() as connected:
        assert time.monotonic() - begun < 30
        assert len(running.paths) == len(living) * 10 // 9 == 1000
        assert sum(truth_ns > 0 for truth_ns in running.truths().values()) == 100
        clients = [connected.enter_context(Client(running.path(name))) for name in living[:300]]
        for client in clients:
            client.send(PING)
        assert [client.reply() for client in clients] == [PONG] * 300


# ------------------------------------------------------------------------------------------------------- from a shell


def run_by_hand(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.fleet", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_by_hand_it_runs_until_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    with run_by_hand(str(tmp_path / "fleet"), "--count", "6", "--hosts", "2", "--stock", "0.5") as program:
        assert program.stdout is not None
        told = program.stdout.readline()
        path = str(tmp_path / "fleet" / "host01" / "guest0001.qga")
        assert told == f"6 agents listen, from {path}\n"
        program.stdout.readline()
        program.stdout.readline()
        with Client(path) as client:
            assert client.ask(PING) == PONG
        program.send_signal(number)
        _told, complaints = program.communicate(timeout=SECONDS)
    assert complaints == ""
    assert program.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_by_hand_it_does_not_outlive_its_server(tmp_path: Path) -> None:
    with run_by_hand(str(tmp_path / "fleet"), "--count", "1") as program:
        assert program.stdout is not None
        program.stdout.readline()
        (server,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        os.kill(int(server), signal.SIGKILL)
        _told, complaints = program.communicate(timeout=SECONDS)
    assert program.returncode == 1
    assert "the simulated fleet has ended" in complaints
    assert list(tmp_path.iterdir()) == []


def test_by_hand_wrong_input_gets_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with run_by_hand(str(tmp_path / "file"), "--count", "1") as program:
        _told, complaints = program.communicate(timeout=SECONDS)
    assert program.returncode == 1
    assert os.strerror(errno.ENOTDIR) in complaints
    assert complaints.count("\n") == 1
