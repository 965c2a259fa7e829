"""The role's variables, and its templates for the service's configuration and unit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible.plugins.filter import core as filters
from ansible.plugins.test import core as checks

from tests.support.collection import ROOT
from tests.support.resync_service import module

ROLE = ROOT / "roles/resync_on_resume"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
# Variables that the role converts from lists and flags for the templates.
CONVERTED = ("watched", "looks_at_start", "requires_synchronized_host")
INTERNAL = {
    "command": "/usr/bin/python3 -m resync_on_resume --config",
    "config": "/etc/service.conf",
    "directory": "/usr/lib/service",
    "needed_capabilities": "",
    "runtime_directory": "/run/service",
}
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


def test_all_variables_are_documented_with_their_defaults() -> None:
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items()} == DEFAULTS
    rows = re.findall(r"^\| `(resync_on_resume_\w+)` \| `(.*?)` \|", (ROLE / "README.md").read_text(), re.MULTILINE)
    assert {name: yaml.safe_load(default) for name, default in rows} == DEFAULTS
    source = (ROOT / "plugins/modules/qga_update_time.py").read_text()
    documentation = yaml.safe_load(source.split('DOCUMENTATION = r"""')[1].split('"""')[0])
    assert options["resync_on_resume_method"]["choices"] == documentation["options"]["method"]["choices"]


def rendered(template: str, **changed: Any) -> str:
    """Return the rendered template, with the role's defaults except for ``changed``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # as Ansible does it
    )
    environment.filters.update(filters.FilterModule().filters())
    environment.tests.update(checks.TestModule().tests())
    named = {f"resync_on_resume_{name}": value for name, value in {**INTERNAL, **changed}.items()}
    variables = {**DEFAULTS, **named, "resync_on_resume_yes": VARIABLES["resync_on_resume_yes"]}
    for name in (f"resync_on_resume_{name}" for name in CONVERTED):
        variables[name] = environment.compile_expression(VARIABLES[name].strip("{} \n"))(variables)
    return environment.get_template(template).render(variables)


@pytest.mark.parametrize("changed", [{}, OTHERS], ids=["defaults", "all others"])
def test_the_configuration_has_the_values_of_the_variables(changed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "conf").write_text(rendered("qga-resync-on-resume.conf.j2", **changed))
    expected = {**{name.removeprefix("resync_on_resume_"): value for name, value in DEFAULTS.items()}, **changed}
    del expected["state"]
    config = vars(module("config").read(str(tmp_path / "conf")))
    found = {**config, **config["resync"], "uris": list(config["uris"])}
    del found["resync"], found["update_rtc"]
    assert found == expected


# ------------------------------------------------------------------------------------------------------------ the unit


def unit(**changed: Any) -> dict[str, list[str]]:
    """Return the values of each setting, in order."""
    settings: dict[str, list[str]] = {}
    for line in rendered("qga-resync-on-resume.service.j2", **changed).splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize(
    "uris", [["qemu:///system"], ["qemu:///system", "lxc:///system"], ["qemu+unix:///system?socket=/run/other/sock"]]
)
def test_the_service_has_no_network_if_all_hypervisors_are_local(uris: list[str]) -> None:
    found = unit(uris=uris)
    assert found["PrivateNetwork"] == ["yes"]
    assert found["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert "@setuid" in found["SystemCallFilter"][1]


@pytest.mark.parametrize("uri", ["qemu+ssh://root@other/system", "qemu://other/system", "qemu+tcp:///system"])
def test_the_service_can_reach_a_remote_hypervisor(uri: str) -> None:
    found = unit(uris=["qemu:///system", uri])
    assert not {"PrivateNetwork", "IPAddressDeny"} & found.keys()
    assert found["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]
    assert found["ProtectHome"] == ["read-only"], "SSH keys are in the home directory"
    assert "@setuid" not in found["SystemCallFilter"][1]


def test_only_the_metrics_directory_is_writable_whatever_its_name() -> None:
    assert "ReadWritePaths" not in unit()
    # Quotes, backslashes and percent signs are special to systemd.
    assert unit(metrics_file='/srv/a b/50%"\\/resync.prom')["ReadWritePaths"] == ['"-/srv/a b/50%%\\"\\\\"']


def test_the_service_has_only_the_needed_capability_and_can_read_the_state_of_the_clock() -> None:
    found = unit()
    assert found["CapabilityBoundingSet"] == [""]
    assert unit(needed_capabilities="CAP_DAC_OVERRIDE")["CapabilityBoundingSet"] == ["CAP_DAC_OVERRIDE"]
    # ProtectClock would forbid adjtimex; the last filter allows it.
    assert "ProtectClock" not in found
    assert found["SystemCallFilter"][-1] == "clock_adjtime"
