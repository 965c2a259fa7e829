from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.vm.domain_xml import METADATA_URI, GuestFiles, domain_xml
from tests.vm.image import Image

FILES = GuestFiles(Path("/state/a <b> & 'c'"))


def parsed(*security_models: str) -> ET.Element:
    return ET.fromstring(domain_xml("qga-unit", Image(Path("/cache/image")), FILES, 384, 1, security_models))


def test_paths_are_escaped() -> None:
    assert parsed().find("devices/disk/source").get("file") == str(FILES.overlay)  # type: ignore[union-attr]


def test_the_domain_bears_our_mark_with_its_directory() -> None:
    mark = parsed().find(f"metadata/{{{METADATA_URI}}}guest")
    assert mark is not None
    assert mark.get("directory") == str(FILES.directory)


def test_it_is_emulated_and_has_no_network() -> None:
    domain = parsed()
    assert domain.get("type") == "qemu"
    assert domain.find("devices/interface") is None


def test_it_has_the_agents_and_the_witness_port() -> None:
    names = [target.get("name") for target in parsed().iterfind("devices/channel/target")]
    assert names == ["org.qemu.guest_agent.0", "org.qemu.guest_agent.witness"]


def test_qemu_runs_as_whoever_runs_the_tests() -> None:
    label = parsed("dac").findtext("seclabel[@model='dac']/label")
    assert label == f"+{os.geteuid()}:+{os.getegid()}"


def test_only_the_hosts_own_security_models_are_named() -> None:
    labels = [(label.get("model"), label.get("type")) for label in parsed("none", "apparmor", "dac").iter("seclabel")]
    assert labels == [("apparmor", "none"), ("dac", "static")]
