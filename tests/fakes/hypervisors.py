"""Hypervisors with guests of all kinds, for tests and for processes that import them in place of libvirt."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.agent import Agent
from tests.fakes.domains import PAUSED, RUNNING, SHUT_OFF, Definition, Domain, uuid_of
from tests.fakes.fleet import Agents, Profile
from tests.fakes.kinds import FACTS
from tests.fakes.libvirt import AGENT_CONNECTED, Connection, FakeHypervisor
from tests.fakes.libvirt_replies import (
    AT_LENGTH,
    SYSTEM_ERROR,
    Answer,
    LibvirtError,
    agent_returns,
    answers_by,
)
from tests.fakes.this_machine import ThisMachine
from tests.support.bait import baits, guests_with
from tests.support.collection import ROOT


class HypervisorsByUri(FakeHypervisor):
    """Several hypervisors in one ``libvirt``. Connections to any other URI are refused."""

    def __init__(self, by_uri: Mapping[str, FakeHypervisor]) -> None:
        super().__init__()
        self.by_uri = dict(by_uri)

    def registerErrorHandler(self, handler: Callable[..., None], context: object) -> None:  # noqa: N802
        for each in self.by_uri.values():
            each.registerErrorHandler(handler, context)

    def open(self, uri: str) -> Connection:
        if uri not in self.by_uri:
            raise LibvirtError(SYSTEM_ERROR, "Failed to connect socket: Connection refused", errno.ECONNREFUSED)
        return self.by_uri[uri].open(uri)

    def qemuAgentCommand(self, domain: Domain, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        return domain.connection.hypervisor.qemuAgentCommand(domain, text, timeout, flags)


HERE, THERE = "qemu:///system", "qemu+tls://hv2/system"


def interfaces(*addresses: str, name: str = "eth0", mac: str = "02:00:00:00:00:01") -> list[dict[str, Any]]:
    listed = [{"ip-address": each, "ip-address-type": "ipv4", "prefix": 24} for each in addresses]
    return [{"name": name, "hardware-address": mac, "ip-addresses": listed}]


def two_hypervisors() -> HypervisorsByUri:
    lo = interfaces("127.0.0.1", name="lo")
    fedora = stock_replies(
        guest_get_osinfo={"id": "fedora", "version-id": "41"},
        guest_get_host_name={"host-name": "web2.example"},
        guest_network_get_interfaces=[
            *lo,
            *interfaces("172.17.0.1", name="docker0"),
            *interfaces("fe80::1", "2001:db9::2", "10.1.0.2", name="ens3"),
            *interfaces("192.168.5.2", name="ens4"),
        ],
    )
    here = [
        Definition("web1", replies=stock_replies()),
        Definition("web2", replies=fedora),
        Definition("lonely", replies=stock_replies(guest_network_get_interfaces=lo)),
        Definition("silent", is_silent=True),
        Definition("agentless", channel_state="disconnected"),
        Definition("off", state=SHUT_OFF),
    ]
    there = [Definition("web1", uuid=uuid_of("another"), replies=stock_replies()), Definition("resting", state=PAUSED)]
    return HypervisorsByUri({HERE: FakeHypervisor(here), THERE: FakeHypervisor(there)})


_MAC = "52:54:00:aa:bb:01"


def in_the_field() -> HypervisorsByUri:
    """Guests whose agents list unreachable interfaces, or do not know the ID of their operating system."""
    openshift = [
        *interfaces(name="ens3", mac=_MAC),
        *interfaces("10.128.0.2", name="ovn-k8s-mp0"),
        *interfaces("169.254.169.2", "192.168.126.11", name="br-ex", mac=_MAC),
    ]
    hyper_v = [
        *interfaces("172.24.96.1", name="vEthernet (Default Switch)"),
        *interfaces("192.168.126.12", name="vEthernet (External)", mac=_MAC.upper().replace(":", "-")),
    ]
    tunnel = [
        *interfaces("100.101.102.103", name="tailscale0"),
        *interfaces("192.168.126.13", name="bond0.20", mac=_MAC),
    ]
    passed_through = [*interfaces("10.96.0.1", name="kube-ipvs0"), *interfaces("192.168.126.14", name="br-ex")]
    freebsd = {
        "kernel-release": "13.1-RELEASE-p5",
        "kernel-version": "FreeBSD 13.1-RELEASE-p5 stable/23.1-n250372-c4ad069e50a SMP",
        "machine": "amd64",
    }
    old = {"kernel-release": "2.6.32-754.el6.x86_64", "kernel-version": "#1 SMP Fri", "machine": "x86_64"}
    listed = {"openshift": openshift, "hyper-v": hyper_v, "tunnel": tunnel, "passed-through": passed_through}
    guests = [
        Definition(name, replies=stock_replies(guest_network_get_interfaces=each), macs=(_MAC,))
        for name, each in listed.items()
    ]
    guests[-1].macs = ()
    systems = {"freebsd": freebsd, "old": old}
    guests += [Definition(name, replies=stock_replies(guest_get_osinfo=each)) for name, each in systems.items()]
    return HypervisorsByUri({HERE: FakeHypervisor(guests)})


def one_that_runs_programs(name: str = "web1", uri: str = THERE) -> HypervisorsByUri:
    """One guest, whose name is not its address. Its programs run on this machine."""
    agent = answers_by(Agent(perform=ThisMachine().reply_to))
    replies = stock_replies(guest_network_get_interfaces=interfaces("192.0.2.1"))
    return HypervisorsByUri({uri: FakeHypervisor([Definition(name, replies=replies, agent=agent)])})


def none_at_all() -> HypervisorsByUri:
    return HypervisorsByUri({})


def many(count: int, silent: int, latency_s: float = 0.0) -> HypervisorsByUri:
    """``count`` guests, ``silent`` of them silent and spread evenly. The others reply after ``latency_s``."""
    guests = [
        Definition(f"web{number}", replies=stock_replies(), takes=lambda _request: latency_s)
        for number in range(1, count + 1)
    ]
    for number, guest in enumerate(guests, 1):
        guest.is_silent = number * silent // count != (number - 1) * silent // count
    return HypervisorsByUri({HERE: FakeHypervisor(guests)})


def long_winded(count: int, what: str, is_late: bool) -> HypervisorsByUri:
    """``count`` guests with very long answers. ``is_late``: all but guest-info, which is a normal answer. ``what`` is a
    key of AT_LENGTH.
    """
    replies = {"guest-info": stock_replies(guest_get_time=0)["guest-info"]} if is_late else {}
    guests = [Definition(f"web{number}", replies=replies, agent=AT_LENGTH[what]) for number in range(count)]
    return HypervisorsByUri({HERE: FakeHypervisor(guests)})


def baited(canaries: str, is_inert: bool = True) -> HypervisorsByUri:
    """Guests all of whose text is bait. Without ``is_inert``, the text reaches Ansible as it is, and only Ansible's own
    marks protect it.
    """
    if not is_inert:
        from ansible_collections.qemu.guest_agent.plugins.module_utils import _untrusted as untrusted

        untrusted.inert = lambda text: text
    expression, *bad_names = (baits(Path(canaries))[name] for name in ("expression", "screen", "shell"))
    # A valid address among bait.
    links = [
        *interfaces(expression, f"fd00::1%{expression}", name=expression),
        *interfaces("10.1.0.9", name=expression),
    ]
    replies = {"addressed": stock_replies(guest_network_get_interfaces=links)}
    if is_inert:  # a domain's name comes from its hypervisor; it is bait as well if all text is made inert
        replies |= {name: stock_replies() for name in (expression, *bad_names)}
    # libvirt limits replies, and an error has to be text.
    left_out = ("telling-at-length", "refusing-surrogates", "failing-surrogates")
    agents = {name: agent for name, agent in guests_with(Path(canaries)).items() if name not in left_out}
    guests = [
        *(Definition(name, agent=answers_by(agent)) for name, agent in agents.items()),
        *(Definition(name, replies=each) for name, each in replies.items()),
    ]
    return HypervisorsByUri({HERE: FakeHypervisor(guests)})


# The source of both modules of libvirt-python.
_MODULE = """
import sys
sys.path.insert(0, {root!r})
from {module} import {function}
sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = {function}(*{arguments!r})
"""


def stock_replies(**returns: Any) -> dict[str, Answer]:
    """Return the replies of a stock agent. ``returns`` replaces values by command, with ``_`` for ``-``."""
    values = {**FACTS, **{command.replace("_", "-"): value for command, value in returns.items()}}
    info = {"version": "10.0.2", "supported_commands": _supported(values)}
    return {command: agent_returns(value) for command, value in {"guest-info": info, **values}.items()}


def _supported(commands: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": name, "enabled": True, "success-response": True} for name in commands]


def lay_out(directory: Path, make: Callable[..., HypervisorsByUri], *arguments: Any) -> Path:
    """Write the modules for a process with ``directory`` in its PYTHONPATH. ``make`` is a function of these tests."""
    directory.mkdir(parents=True, exist_ok=True)
    stand_in = _MODULE.format(root=str(ROOT), module=make.__module__, function=make.__name__, arguments=arguments)
    for name in ("libvirt", "libvirt_qemu"):
        (directory / f"{name}.py").write_text(stand_in, encoding="utf-8")
    return directory


# Events and their details: VIR_DOMAIN_EVENT_RESUMED_UNPAUSED, VIR_DOMAIN_EVENT_STARTED_RESTORED.
RESUMED, UNPAUSED = 4, 0
STARTED, RESTORED = 2, 2
SUSPENDED = 3


class SimulatedHypervisor(FakeHypervisor):
    """A hypervisor with simulated agents. ``profiles`` are these agents by domain name."""

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self.agents = Agents({name: profile.agent(name) for name, profile in profiles.items()})
        self.truths, self.received = self.agents.truths, self.agents.received
        super().__init__(Definition(name, agent=answers_by(agent)) for name, agent in self.agents.items())

    def resume(self, names: Iterable[str]) -> None:
        for name in names:
            self.definition(name).state = RUNNING
            self.fire_lifecycle(name, RESUMED, UNPAUSED)

    def suspend(self, names: Iterable[str]) -> None:
        for name in names:
            self.definition(name).state = PAUSED
            self.fire_lifecycle(name, SUSPENDED, 0)

    def restore(self, names: Iterable[str]) -> None:
        """Fire all events of a restore: the domain was started, it runs, and its agent is connected."""
        for name in names:
            self.fire_lifecycle(name, STARTED, RESTORED)
            self.resume([name])
            self.fire_agent(name, AGENT_CONNECTED)

    def break_at(self, names: Iterable[str], command: str, is_deadly: bool = False) -> None:
        """At each of their answers to that command, the daemon hangs up on its client, or exits and is restarted."""
        for name in names:
            self.definition(name).breaks = lambda request: request["execute"] == command
        self.at_break = (lambda _connection: self.break_connections()) if is_deadly else self.hang_up

    def slow_down(self, names: Iterable[str], seconds: float) -> None:
        for name in names:
            self.definition(name).takes = lambda _request: seconds

    pause = suspend

    def silence(self, name: str) -> None:
        """Make its agent silent from now on."""
        self.definition(name).is_silent = True

    def answer_at_length(self, name: str, what: str) -> None:
        """Make its agent give very long answers from now on; ``what`` is a key of AT_LENGTH."""
        self.definition(name).agent = AT_LENGTH[what]

    def is_asked(self, name: str) -> bool:
        return any(each == name for each, _command in self.commands)

    def definition(self, name: str) -> Definition:
        (found,) = (each for each in self.definitions if each.name == name)
        return found
