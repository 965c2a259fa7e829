from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.collection import ROOT
from tests.support.extended_agent import module

options = module("options")


def read(*arguments: str, default_file: str = "/nonexistent/default") -> object:
    return options.read(arguments, {}, default_file)[0]


def test_without_options_it_uses_the_stock_agents_channel() -> None:
    assert read() == options.Options(path="/dev/virtio-ports/org.qemu.guest_agent.0")
    assert read("--method=isa-serial").path == "/dev/ttyS0"


def test_the_command_line_overrides_the_file_and_lists_are_combined(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text(
        "# a comment\n[general]\ndaemon=false\nverbose = true\nmethod=unix-listen\npath=/a\n"
        "block-rpcs=guest-a, guest-b\n"
    )
    assert read("-p", "/b", "-b", "guest-c", "-b", "guest-d", default_file=str(file)) == options.Options(
        method="unix-listen", path="/b", verbose=True, block_rpcs=frozenset(f"guest-{letter}" for letter in "abcd")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[general]\nnonsense=1\n", "line 2: unknown option 'nonsense'"),
        ("[general]\nverbose=yes\n", "line 2: verbose expects true or false, not 'yes'"),
        ("[general]\nmethod=x\n", "line 2: method expects one of"),
        ("verbose=true\n", "line 1: expected 'key=value' in the group [general]"),
        ("[other]\nverbose=true\n", "line 2: expected"),
        ("[general]\nverbose\n", "line 2: expected"),
        ("[general]\ndaemon=true\n", "line 2: unknown option 'daemon'"),
        ("\udcff\udcfe", "cannot be read"),
        (
            "[general]\nblock-rpcs=g,u,e,guest-ping\n",
            "line 2: block-rpcs expects command names, such as guest-exec, not 'e', 'g', 'u'",
        ),
        (
            "[general]\nverbose=true\nallow-rpcs=guest-exec guest-ping\n",
            "line 3: allow-rpcs expects command names, such as guest-exec, not 'guest-exec guest-ping'",
        ),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "conf").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(options.OptionError) as caught:
        read("-c", str(tmp_path / "conf"))
    assert message in str(caught.value)


# As qemu-ga 10.0.13 does; each was tried.
ALLOWED: dict[str, tuple[tuple[str, ...], str, frozenset[str] | None]] = {
    "no list": ((), "", None),
    "other options": (("-m", "vsock-listen", "-p", "3:1024", "-r", "-l", "/log", "--user", "a"), "", None),
    "block lists without names": (("-b", "", "-b", ","), "block-rpcs=,\n", None),
    "an empty string": (("-a", ""), "", None),
    "two empty strings": (("-a", "", "-a", ""), "", None),
    "an empty string in the file": ((), "allow-rpcs=\n", None),
    "a blank string in the file": ((), "allow-rpcs=  \n", None),
    "a separator": (("-a", ","), "", frozenset()),
    "a separator in the file": ((), "allow-rpcs=,\n", frozenset()),
    "a blank string": (("-a", " "), "", frozenset()),
    "an empty string after a list": (("-a", ""), "allow-rpcs=guest-ping\n", frozenset(("guest-ping",))),
    "an empty string before a list": (("-a", "", "-a", "guest-ping"), "", frozenset(("guest-ping",))),
    "a list after an empty string in the file": (("-a", "guest-ping"), "allow-rpcs=\n", frozenset(("guest-ping",))),
    "separators around a name": (("-a", ",,guest-ping,"), "", frozenset(("guest-ping",))),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_list_without_names_allows_nothing_an_empty_string_is_not_a_list_and_dumps_can_be_read(
    tmp_path: Path, case: str
) -> None:
    arguments, lines, allowed = ALLOWED[case]
    file = tmp_path / "conf"
    file.write_text(f"[general]\n{lines}")
    chosen = read(*arguments, default_file=str(file))
    assert chosen.allow_rpcs == allowed
    assert chosen.block_rpcs == frozenset()
    file.write_text(options.dump(chosen))
    assert read("-c", str(file)) == chosen


def test_a_dump_of_the_stock_agent_can_be_read(tmp_path: Path) -> None:
    # The output of qemu-ga 10.0.13 with -D and no other option.
    (tmp_path / "conf").write_text(
        "[general]\ndaemon=false\nmethod=virtio-serial\npath=/dev/virtio-ports/org.qemu.guest_agent.0\n"
        "pidfile=/var/run/qemu-ga.pid\nstatedir=/var/run\nverbose=false\nretry-path=false\nblock-rpcs=\nallow-rpcs=\n"
    )
    assert read("-c", str(tmp_path / "conf")) == read("-f", "/var/run/qemu-ga.pid", "-t", "/var/run")


@pytest.mark.parametrize("option", ["--block-rpcs", "--allow-rpcs"])
@pytest.mark.parametrize("name", ["g", "7", "-", "guest-exec;guest-ping", "guest-\u00e9xec", "guest exec"])
def test_a_name_that_cannot_be_a_command_is_an_error(option: str, name: str) -> None:
    with pytest.raises(options.OptionError) as caught:
        read(f"{option}=guest-ping,{name}")
    assert str(caught.value) == f"{option} expects command names, such as guest-exec, not {name!r}"


@pytest.mark.parametrize(
    "name", ["guest-of-another-version", "__com.redhat_guest-exec", "x-guest-exec", "guest_EXEC", "ok"]
)
def test_commands_of_any_version_are_accepted(name: str) -> None:
    assert read("-b", f"guest-ping, {name},").block_rpcs == {"guest-ping", name}


def test_the_role_refuses_the_same_names() -> None:
    variables = yaml.safe_load((ROOT / "roles/extended_agent/vars/main.yml").read_text())
    assert variables["extended_agent_command"] == f"(?i){options._COMMAND.pattern}$"


def test_help_lists_this_agents_own_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("-b", "help")
    assert caught.value.code == 0
    assert "guest-update-time\n" in capsys.readouterr().out
