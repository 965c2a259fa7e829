"""The units that the role creates, and their dependencies."""

from __future__ import annotations

import json
from pathlib import Path

from tests.processes.printing_guest import PrintingGuest
from tests.support.collection import ROOT

DEBIAN = "uid=0\ninit=systemd\nfamilies=debian\nversion=12\nname=Debian\npython=full\n"
LIFE = ["IgnoreOnIsolate=True", "DefaultDependencies=no", "Conflicts=shutdown.target", "Before=shutdown.target"]
TEMPLATES = ("qemu-ga-extended.service", "qemu-ga-extended-stock.socket", "stock.conf")
SOCKET = "qemu-ga-extended-stock.socket"
DIRECTORY = "/var/lib/qemu-ga-extended/lib"


def test_the_units_have_the_right_dependencies_lifetime_settings_and_directory(tmp_path: Path) -> None:
    paths = [ROOT / f"roles/extended_agent/templates/{name}.j2" for name in TEMPLATES]
    show = ", ".join(f"lookup('ansible.builtin.template', '{path}')" for path in paths)
    variables = {"extended_agent_stock_life": LIFE, "extended_agent_chosen_directory": DIRECTORY}
    run = PrintingGuest(tmp_path, {"os-release": DEBIAN}).run_role(
        "extended_agent", "-e", json.dumps(variables), tasks_from="requirements", show=f"{{'texts': [{show}]}}"
    )
    assert run.status == 0, run.output
    agent, socket, stock = (
        [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
        for text in run.result("Show")["msg"]["texts"]
    )

    # The socket starts and stops with the stock agent, and no unit of the extended agent starts either of them.
    assert "PartOf=qemu-guest-agent.service" in socket
    assert {f"Requires={SOCKET}", f"After={SOCKET}"} <= set(stock)
    assert not [line for line in agent if line.startswith(("Wants=", "Requires=", "Upholds=", "OnFailure="))]
    assert not [line for line in socket if line.startswith(("WantedBy=", "RequiredBy="))]
    # systemd does not count starts, and a failure to count must not prevent the agent's start.
    assert "StartLimitIntervalSec=0" in agent
    starts = [line for line in agent if line.startswith("ExecStartPre=")]
    assert starts[0] == f"ExecStartPre=-+/bin/sh {DIRECTORY}/switch count"
    assert f"WorkingDirectory={DIRECTORY}" in agent
    assert set(LIFE) <= set(agent) & set(socket)
