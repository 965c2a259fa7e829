"""The roles' requirements: which systems they refuse, and how they adapt to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.ansible_run import PlaybookRun, every_core
from tests.processes.printing_guest import PrintingGuest
from tests.support.role_run import DESCRIBE, PYTHON, ROLES, VALIDATE, described, every_role, result_of
from tests.support.tiers import quick

# Words that occur only in unclear errors.
UNCLEAR = ("NoneType", "undefined", "Traceback", "StopIteration", "Unexpected")
NOT_ANSWERED = "did not return what the role"
# The role for guests supports one more family, which is listed first.
UNKNOWN = "Debian, RedHat and Suse, but not "
REFUSED = {
    "nothing": ("", NOT_ANSWERED),
    "something else": ("Welcome to Guest!\r\nuid\nUID=0\n=\n", NOT_ANSWERED),
    "a user": (described(uid="1000"), "needs root"),
    "a user that is not a number": (described(uid="0 0"), "needs root"),
    "another init": (described(init=""), "needs systemd"),
    "no os-release, as on EL 6": ("uid=0\ninit=systemd\npython=full\n", UNKNOWN + "a system without os-release."),
    "FreeBSD": (described(families="freebsd ", version="14", name="FreeBSD"), UNKNOWN + "FreeBSD."),
    "no name": (described(families="", version="", name=""), UNKNOWN + "a system without os-release."),
}


@every_role
@pytest.mark.parametrize("case", REFUSED)
def test_an_unsupported_system_is_refused_with_a_clear_message(role: str, case: str, tmp_path: Path) -> None:
    printed, message = REFUSED[case]
    run = PrintingGuest(tmp_path, {DESCRIBE: printed}).run_role(role)
    assert message in result_of(run, VALIDATE[role])["msg"]
    assert [word for word in UNCLEAR if word in run.output] == []


FOUND_ON_ALPINE = "channel\npython\nwritable=/usr/lib/qemu-ga-extended\n"
SERVED_INITS = {
    ("debian", "systemd"): "",
    ("debian", "openrc"): "",
    ("devuan debian", "sysvinit"): "",
    ("alpine", "openrc"): "",
    ("alpine", "sysvinit"): "needs OpenRC, but this guest runs sysvinit.",
    ("alpine", "systemd"): "needs OpenRC, but this guest runs systemd.",
    ("rhel", "sysvinit"): "needs systemd, but this guest runs sysvinit.",
    ("suse", "openrc"): "needs systemd, but this guest runs OpenRC.",
    ("debian", "runit"): "needs systemd, OpenRC or sysvinit, but this guest runs none of them.",
    ("debian", "openrc|sysvinit"): "needs systemd, OpenRC or sysvinit, but this guest runs none of them.",
}


@pytest.mark.parametrize(("families", "init"), SERVED_INITS)
def test_a_family_is_supported_with_the_inits_that_have_scripts(families: str, init: str, tmp_path: Path) -> None:
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(families=families, init=init)})
    run = guest.run_role("extended_agent", tasks_from="requirements", show="extended_agent_files.values() | list")
    sentence = SERVED_INITS[families, init]
    if sentence:
        assert sentence in result_of(run, VALIDATE["extended_agent"])["msg"]
        return
    files = result_of(run, "Show")["msg"]
    assert ("/etc/init.d/qemu-ga-extended" in files) == (init != "systemd")
    assert ("/etc/systemd/system/qemu-ga-extended.service" in files) == (init == "systemd")


def test_a_failure_of_apk_is_reported(tmp_path: Path) -> None:
    alpine = described(families="alpine", init="openrc")
    # The guest has nothing else that the role needs. The script that names the channel is the inspection.
    printed = {DESCRIBE: alpine, "apk add": "ERROR: unable to select packages", "/dev/virtio-ports": FOUND_ON_ALPINE}
    run = PrintingGuest(tmp_path, printed, {"apk add": 1}).run_role("extended_agent")
    message = result_of(run, "Fail if apk failed")["msg"]
    assert message == "qemu-guest-agent could not be installed: ERROR: unable to select packages"


@every_core
@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("", "missing"),
        ("version=\n", "missing"),
        ("version=3.6\n", "3.6"),
        ("Illegal instruction\n", "missing"),
        ("version=3.11\x1b[2J\n", "missing"),
        ("version=3.{{ 6 * 7 }}\n", "missing"),
    ],
)
def test_a_python_without_a_valid_version_is_refused(core: str, printed: str, found: str, tmp_path: Path) -> None:
    run = PrintingGuest(tmp_path, {DESCRIBE: described(), PYTHON: printed}).run_role("resync_on_resume", core=core)
    message = result_of(run, "Validate the Python version")["msg"]
    assert message.endswith(f"/usr/bin/python3 of this host is {found}.")
    assert [word for word in UNCLEAR if word in run.output] == []


@pytest.mark.parametrize("mode", ["", "--check"])
def test_a_read_only_usr_without_a_package_is_refused(mode: str, tmp_path: Path) -> None:
    found = "channel\npython\nwritable=/var/lib/qemu-ga-extended/lib\n"
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": found})
    run = guest.run_role("extended_agent", *filter(None, [mode]))
    assert "The guest lacks qemu-guest-agent, but its /usr is read-only." in run.output
    assert "Install the packages" not in run.output


@pytest.mark.parametrize(
    ("found", "directory"),
    [
        ("", "/usr/lib/qemu-ga-extended"),
        ("writable={usr}\nwritable={var}\n", "/usr/lib/qemu-ga-extended"),
        ("writable={var}\n", "/var/lib/qemu-ga-extended/lib"),
        ("writable={usr}\nwritable={var}\ndirectory={var}\n", "/var/lib/qemu-ga-extended/lib"),
        ("writable={var}\nmoved={usr}\ndirectory={usr}\n", "/usr/lib/qemu-ga-extended"),
        ("writable={var}\ndirectory={usr}\n", "/var/lib/qemu-ga-extended/lib"),
        ("writable={usr}\ndirectory=/etc\nwritable=/etc\nmoved=/etc\n", "/usr/lib/qemu-ga-extended"),
    ],
)
def test_the_agents_directory_is_writable_or_the_one_in_use(found: str, directory: str, tmp_path: Path) -> None:
    answer = found.format(usr="/usr/lib/qemu-ga-extended", var="/var/lib/qemu-ga-extended/lib")
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": f"channel\npython\nstock\n{answer}"})
    run = guest.run_role("extended_agent")
    chosen = result_of(run, "Choose the directory")["ansible_facts"]["extended_agent_chosen_directory"]
    assert chosen == directory


def stock_life(run: PlaybookRun) -> list[str]:
    """Return the settings that are copied from the stock unit."""
    facts: dict[str, list[str]] = result_of(run, "Set the stock unit's lifetime settings")["ansible_facts"]
    return facts["extended_agent_stock_life"]


@every_core
def test_only_lifetime_settings_of_the_stock_unit_are_copied(core: str, tmp_path: Path) -> None:
    taken = ["IgnoreOnIsolate=True", "Conflicts=shutdown.target rescue@x\\x2d.target"]
    others = ["ExecStart=/bin/sh", "Before={{ 6 * 7 }}", "Before=$(touch x)"]
    found = "".join(f"life {line}\n" for line in [*taken, *others])
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": f"channel\npython\nstock\n{found}"})
    assert stock_life(guest.run_role("extended_agent", core=core)) == taken


def test_a_setting_of_several_lines_is_copied_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = "[Unit]\nConflicts=a.service \\\n    b.service\\\n c.service\n IgnoreOnIsolate = True\n"
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\ncat <<'END'\n{unit}END\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl.parent), prepend=":")
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "LoadState": "channel\npython\nstock\n"})
    case = '*"systemctl cat"*) exec /bin/sh -c "$2" ;;\n'
    guest.shell.write_text(guest.shell.read_text().replace("true) exit 0", f"{case}true) exit 0"))
    conflicts, isolation = stock_life(guest.run_role("extended_agent"))
    assert conflicts.split() == ["Conflicts=a.service", "b.service", "c.service"]
    assert isolation == "IgnoreOnIsolate=True"


# --------------------------------------------------------------------------------------------------------- and it works

PLAIN, LATER = "/usr/bin/python3", "/usr/bin/python3.11"
NAMES = {"extended_agent": "extended_agent_python_package", "resync_on_resume": "resync_on_resume_libvirt_package"}
OURS, SUSES = "python3-libvirt", "python3-libvirt-python"
SYSTEMS = {
    "Alpine 3.20": ("alpine", "3", [PLAIN, "python3"], None),
    "Debian 12": ("debian ", "12", [PLAIN, "python3"], [PLAIN, OURS]),
    "Devuan 5": ("devuan debian", "5", [PLAIN, "python3"], [PLAIN, OURS]),
    "Ubuntu 24.04": ("ubuntu debian", "24", [PLAIN, "python3"], [PLAIN, OURS]),
    "RHEL 8": ("rhel fedora", "8", [LATER, "python3.11"], [PLAIN, OURS]),
    "Rocky Linux 9": ("rocky rhel centos fedora", "9", [PLAIN, "python3"], [PLAIN, OURS]),
    "SLES 15": ("sles suse", "15", [LATER, "python311"], [LATER, "python311-libvirt-python"]),
    "Tumbleweed": ("opensuse-tumbleweed opensuse suse", "20261130", [PLAIN, "python3"], [PLAIN, SUSES]),
    "Debian, rolling": ("debian ", "", [PLAIN, "python3"], [PLAIN, OURS]),
}


@every_core
@every_role
@pytest.mark.parametrize("system", quick(SYSTEMS, ["Alpine 3.20", "SLES 15", "Tumbleweed"]))
def test_python_and_packages_have_the_names_of_the_release(core: str, role: str, system: str, tmp_path: Path) -> None:
    families, version, *names = SYSTEMS[system]
    init = "openrc" if families == "alpine" else "systemd"
    expected = names[ROLES.index(role)]
    if expected is None:
        pytest.skip("the role does not support it")
    answers = {DESCRIBE: described(families=families, version=version, init=init), PYTHON: "version=3.11\n"}
    show = f"[{role}_python, {NAMES[role]}]"
    run = PrintingGuest(tmp_path, answers).run_role(role, core=core, tasks_from="requirements", show=show)
    assert result_of(run, "Show")["msg"] == expected, run.output
