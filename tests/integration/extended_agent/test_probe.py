"""The probe that decides whether an agent may take the channel, with a real stock agent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.stock_agent import StockAgent
from tests.support.collection import ROOT

PROBE = ROOT / "roles/extended_agent/files/probe.py"
# The probe itself gives up after 30 s.
SECONDS = 60.0


def probe(path: object, *commands: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-E", "-s", "-S", str(PROBE), str(path), *commands]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_agent_survives_the_probe_and_a_missing_command_is_reported() -> None:
    with StockAgent() as agent:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent.socket))
            client.sendall(b'{"execute": "guest-')  # an incomplete request of another client does not matter
        # The stock agent ends when a client leaves some of a reply unread.
        for _time in range(3):
            assert probe(agent.socket, "guest-info", "guest-get-time").returncode == 0
        done = probe(agent.socket, "guest-get-clock")
    assert done.returncode == 1
    assert done.stderr.startswith(f"The agent at {agent.socket} failed the test: it answered guest-get-clock with")


@pytest.mark.parametrize("lists", [{"block_rpcs": ["guest-sync-delimited"]}, {"allow_rpcs": ["guest-get-osinfo"]}])
def test_an_agent_whose_lists_refuse_syncs_has_answered(lists: dict[str, list[str]]) -> None:
    with StockAgent(**lists) as restricted:
        assert probe(restricted.socket).returncode == 0
        assert probe(restricted.socket, "guest-get-osinfo").returncode == 0


# QEMU 10.0, 4.1 and 1.1 (qapi/qmp-dispatch.c).
REFUSALS = {
    "not allowed": ("CommandNotFound", "Command guest-sync-delimited has been disabled: the command is not allowed"),
    "not enabled": ("GenericError", "The command guest-sync-delimited has been disabled for this instance"),
    "disabled": ("CommandDisabled", "The command guest-sync-delimited has been disabled for this instance"),
    "unknown": ("CommandNotFound", "The command guest-sync-delimited has not been found"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_refusals_of_all_versions_are_recognized(refusal: str, tmp_path: Path) -> None:
    kind, description = REFUSALS[refusal]
    stray = {"error": {"class": "GenericError", "desc": "JSON parse error, stray '\\uFFFD'"}}
    lines = [json.dumps(stray), "no JSON", json.dumps({"error": {"class": kind, "desc": description}})]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        command = [sys.executable, "-E", "-s", "-S", str(PROBE), str(tmp_path / "agent.sock")]
        with subprocess.Popen(command) as running, listener.accept()[0] as client:
            client.sendall("".join(f"{line}\n" for line in lines).encode())
            assert running.wait(SECONDS) == 0
