"""What the role's variables become: the service's configuration, and its unit."""

from __future__ import annotations

import configparser
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.filter import core as filters
from ansible.plugins.test import core as checks

from tests.support.collection import ROOT

ROLE = ROOT / "roles/resync_on_resume"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
# What templates take the variables of these kinds from.
CONVERTED = ("watched", "looks_at_start", "requires_synchronized_host")
OTHERS = {
    "uris": ["qemu:///system", "qemu+tls://other.example/system?pkipath=/etc/pki/a%20b"],
    "agent_patience": 7.5,
    "look_at_start": False,
    "tolerance": 0,
    "method": "set_time",
    "attempts": 9,
    "samples": 99,
    "backward": "leave",
    "require_synchronized_host": True,
    "timeout": 0.25,
    "concurrency": 1,
    "metrics_file": "/srv/some where/resync.prom",
}


def rendered(template: str, **changed: Any) -> str:
    """With the role's defaults, but for what ``changed`` says."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # as Ansible does it
    )
    environment.filters.update(filters.FilterModule().filters())
    environment.tests.update(checks.TestModule().tests())
    internal = {
        "command": "/usr/bin/python3 -m resync_on_resume --config",
        "config": "/etc/service.conf",
        "directory": "/usr/lib/service",
        "needed_capabilities": "",
        "runtime_directory": "/run/service",
    }
    named = {f"resync_on_resume_{name}": value for name, value in {**internal, **changed}.items()}
    variables = {**DEFAULTS, **named, "resync_on_resume_yes": VARIABLES["resync_on_resume_yes"]}
    for name in (f"resync_on_resume_{name}" for name in CONVERTED):
        variables[name] = environment.compile_expression(VARIABLES[name].strip("{} \n"))(variables)
    return environment.get_template(template).render(variables)


# -------------------------------------------------------------------------------------------------- the configuration


def configured(**changed: Any) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(rendered("qga-resync-on-resume.conf.j2", **changed))
    return parser


@pytest.mark.parametrize("changed", [{}, OTHERS], ids=["defaults", "all others"])
def test_the_configuration_says_what_the_variables_say(changed: dict[str, Any]) -> None:
    parser = configured(**changed)
    expected = {**{name.removeprefix("resync_on_resume_"): value for name, value in DEFAULTS.items()}, **changed}
    watch, resync, metrics = (parser[section] for section in ("watch", "resync", "metrics"))
    assert {
        "state": "present",
        "uris": watch["uris"].split(),
        "agent_patience": watch.getfloat("agent_patience"),
        "look_at_start": watch.getboolean("look_at_start"),
        "tolerance": resync.getfloat("tolerance"),
        "method": resync["method"],
        "attempts": resync.getint("attempts"),
        "samples": resync.getint("samples"),
        "backward": resync["backward"],
        "require_synchronized_host": resync.getboolean("require_synchronized_host"),
        "timeout": resync.getfloat("timeout"),
        "concurrency": resync.getint("concurrency"),
        "metrics_file": metrics["file"],
    } == expected
    assert sum(len(parser[section]) for section in parser.sections()) == len(expected) - 1


def test_what_came_from_the_command_line_as_text_means_the_same() -> None:
    assert configured(look_at_start="false", attempts="4") == configured(look_at_start=False, attempts=4)
    assert configured(require_synchronized_host="y") == configured(require_synchronized_host=True)
    assert configured(uris=", ".join(OTHERS["uris"])) == configured(uris=OTHERS["uris"])


# ------------------------------------------------------------------------------------------------------------ the unit


def unit(**changed: Any) -> dict[str, list[str]]:
    """Each setting's values, in their order."""
    settings: dict[str, list[str]] = {}
    for line in rendered("qga-resync-on-resume.service.j2", **changed).splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize(
    "uris", [["qemu:///system"], ["qemu:///system", "lxc:///system"], ["qemu+unix:///system?socket=/run/other/sock"]]
)
def test_where_all_hypervisors_are_here_there_is_no_network(uris: list[str]) -> None:
    found = unit(uris=uris)
    assert found["PrivateNetwork"] == ["yes"]
    assert found["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert "@setuid" in found["SystemCallFilter"][1]


@pytest.mark.parametrize("uri", ["qemu+ssh://root@other/system", "qemu://other/system", "qemu+tcp:///system"])
def test_one_that_is_elsewhere_can_be_reached(uri: str) -> None:
    found = unit(uris=["qemu:///system", uri])
    assert "PrivateNetwork" not in found
    assert "IPAddressDeny" not in found
    assert found["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]
    assert found["ProtectHome"] == ["read-only"], "the keys of ssh are there"
    assert "@setuid" not in found["SystemCallFilter"][1]


def test_nothing_can_be_written_without_metrics() -> None:
    assert "ReadWritePaths" not in unit()


def test_the_directory_of_the_metrics_can_be_written_whatever_it_is_called() -> None:
    # Quotes, backslashes and percent signs mean something to systemd.
    assert unit(metrics_file='/srv/a b/50%"\\/resync.prom')["ReadWritePaths"] == ['"-/srv/a b/50%%\\"\\\\"']


def test_there_is_no_capability_but_the_one_that_is_needed() -> None:
    assert unit()["CapabilityBoundingSet"] == [""]
    assert unit(needed_capabilities="CAP_DAC_OVERRIDE")["CapabilityBoundingSet"] == ["CAP_DAC_OVERRIDE"]


def test_the_kernels_clock_can_be_read() -> None:
    # Of each of these, systemd makes a filter that forbids adjtimex, or the last one that allows it.
    found = unit()
    assert "ProtectClock" not in found
    assert found["SystemCallFilter"][-1] == "clock_adjtime"


def test_more_hypervisors_may_have_more_threads() -> None:
    few, many = (int(unit(uris=["qemu:///system"] * count)["TasksMax"][0]) for count in (1, 10))
    assert many - few >= 9 * (3 * 5 + 1)
