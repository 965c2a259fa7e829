"""Modules in Ansible's wrapper have the same result with and without the cache."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.guest.module_cache import Cache
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.scripts import CACHE_LIMIT, with_cache

pytestmark = pytest.mark.slow

PYTHON = "/usr/bin/python3"
Payload = Callable[..., bytes]

# It returns how it was started, and ends in several ways.
TELLTALE = """#!/usr/bin/python
import inspect
import os
import sys

import __main__
from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(argument_spec={"how": {}})
    if module.params["how"] == "raise":
        raise RuntimeError("on purpose")
    if module.params["how"] == "exit":
        os._exit(7)
    module.exit_json(
        name=__name__,
        names=sorted(vars(__main__)),
        started=sorted(vars(sys.modules["__main__"])),
        arguments=sys.argv,
        input=sys.stdin.read(),
        source=inspect.getsource(AnsibleModule.exit_json),
        module=main.__module__,
        file=main.__code__.co_filename,
        utils=inspect.getsourcefile(AnsibleModule),
        path=sys.path,
        open=len(os.listdir("/proc/self/fd")),
        mask=os.umask(0o22),
    )


if __name__ == "__main__":
    main()
"""

# A directory, and the time.
_EACH_RUNS_OWN = re.compile(r'(?<=_payload_)[a-z0-9_]{8}|(?<="start": ")[^"]*|(?<="delta": ")[^"]*|(?<="end": ")[^"]*')

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Payload:
    """Return a function from a module's name and arguments to Ansible's input for Python."""
    directory = tmp_path_factory.mktemp("payloads")
    (directory / "library").mkdir()
    (directory / "library/telltale.py").write_text(TELLTALE)
    (directory / "library/warned.py").write_text(TELLTALE.replace("on purpose", r"\d"))

    @cache
    def make(module: str, *arguments: str) -> bytes:
        kept = tempfile.mkdtemp(dir=directory)
        words = [str(Path(sys.executable).with_name("ansible")), "localhost", "-c", "local", "-m", module]
        settings = {"KEEP_REMOTE_FILES": "true", "REMOTE_TEMP": kept, "LOCALHOST_WARNING": "false"}
        settings["LIBRARY"] = str(directory / "library")
        subprocess.run(
            [*words, "-a", " ".join(arguments), "-e", f"ansible_python_interpreter={sys.executable}"],
            env={**os.environ, **{f"ANSIBLE_{name}": value for name, value in settings.items()}},
            capture_output=True,
            check=False,  # some modules fail on purpose
        )
        (made,) = Path(kept).glob(f"*/AnsiballZ_{module}.py")
        return made.read_bytes()

    return make


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A module that exits at once leaves Ansible's unpacked files.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture
def kept(place: Path) -> Path:
    return place / f"qga-code-{os.geteuid()}"


def cached(data: bytes, place: Path) -> bytes:
    changed = with_cache(PYTHON, data, ("/nonesuch", str(place)))
    assert changed != data
    assert changed.count(b"\n") == data.count(b"\n")  # tracebacks have line numbers
    return changed


def run(data: bytes, python: str = sys.executable, *options: str) -> tuple[int, str, str]:
    # As an agent starts it: a test suite may keep Python from writing compiled code.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, *options], input=data, capture_output=True, check=False, env=environment)
    output, errors = [_EACH_RUNS_OWN.sub("", stream.decode()) for stream in (done.stdout, done.stderr)]
    return done.returncode, output, errors


CALLS = {
    "one that does nothing": ("ping",),
    "one that runs a program": ("command", "/bin/sh", "-c", "'echo out; echo err >&2; exit 3'"),
    "one that fails": ("ping", "data=crash"),
    "one that looks about": ("telltale", "how=look"),
    "one that raises": ("telltale", "how=raise"),
    "one that is gone at once": ("telltale", "how=exit"),
}


def pythons() -> list[str]:
    """Return Pythons, also unsupported ones: they must still get Ansible's error message."""
    directories = [*os.get_exec_path(), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    names = ("python2.7", *(f"python3.{minor}" for minor in range(6, 20)))
    found = {name: shutil.which(name, path=os.pathsep.join(directories)) for name in names}
    return [path for path in found.values() if path is not None]


class TestAModule:
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_has_the_same_result(self, payload: Payload, place: Path, kept: Path, call: tuple[str, ...]) -> None:
        data = payload(*call)
        assert [run(cached(data, place)) for _time in range(2)] == [run(data)] * 2
        assert len(list(kept.iterdir())) > 20

    @pytest.mark.parametrize("python", pythons())
    def test_has_the_same_result_with_all_pythons(self, payload: Payload, place: Path, python: str) -> None:
        data = payload("ping")
        assert [run(cached(data, place), python) for _time in range(2)] == [run(data, python)] * 2

    def test_gets_compiler_warnings_each_time(self, payload: Payload, place: Path) -> None:
        data = payload("warned", "how=look")
        plain = run(data, sys.executable, "-Walways")
        assert "invalid escape sequence" in plain[2]
        assert [run(cached(data, place), sys.executable, "-Walways") for _time in range(2)] == [plain] * 2

    def test_is_not_compiled_a_second_time(self, payload: Payload, place: Path, kept: Path) -> None:
        data = cached(payload("ping"), place)
        run(data)
        before = {path: path.stat().st_ino for path in kept.iterdir()}
        # It does not need the compiler.
        broken = b"import zipimport; zipimport._compile_source = lambda pathname, source: 1 / 0; "
        assert run(payload("ping").replace(b"_ANSIBALLZ", broken + b"_ANSIBALLZ", 1))[0] != 0
        assert run(data.replace(b"exec(", broken + b"exec(", 1))[0] == 0
        assert {path: path.stat().st_ino for path in kept.iterdir()} == before
        # Another module finds the common code, and another Python finds nothing.
        run(cached(payload("telltale", "how=look"), place))
        assert len(list(kept.iterdir())) - len(before) <= 3
        run(data, sys.executable, "-O")
        assert len(list(kept.iterdir())) >= 2 * len(before)

    def test_leaves_no_arguments_of_the_task(self, payload: Payload, place: Path, kept: Path) -> None:
        run(cached(payload("ping", "data=hunter2"), place))
        contents = [path.read_bytes() for path in kept.iterdir()]
        assert any(b"AnsibleModule" in content for content in contents)
        assert not any(b"hunter2" in content for content in contents)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o700

    def test_runs_without_a_usable_cache(self, payload: Payload, place: Path, kept: Path) -> None:
        plain = run(payload("ping"))
        assert run(cached(payload("ping"), place / "none")) == plain
        kept.write_text("a file in its place")
        assert run(cached(payload("ping"), place)) == plain
        assert kept.read_text() == "a file in its place"
        kept.unlink()
        # An old Python with another zipimport.
        assert run(cached(payload("ping"), place).replace(b"_compile_source", b"_compile_nothing")) == plain
        assert list(place.iterdir()) == []


class Compiler:
    """Compiles like zipimport, counts the calls, and has a writable cache."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept
        self.compiled = 0

    def __call__(self, pathname: str, source: bytes) -> CodeType:
        self.compiled += 1
        return compile(source, pathname, "exec", dont_inherit=True)

    def use(self, source: bytes = b"answer = 6 * 7\n") -> None:
        code = Cache(str(self.kept), CACHE_LIMIT, self).compiled("/archive.zip/module.py", source)
        assert code.co_filename == "/archive.zip/module.py"
        names: dict[str, object] = {}
        exec(code, names)  # noqa: S102  # the test's own
        assert names["answer"] == 42

    def files(self) -> list[Path]:
        return list(self.kept.iterdir())


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, kept: Path) -> Compiler:
    kept.mkdir(0o700)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys.modules["_thread"], "_count", lambda: 0)
    return Compiler(kept)


class TestCachedCode:
    def test_is_private_and_is_read_the_next_time(self, compiler: Compiler) -> None:
        compiler.use()
        compiler.use()
        assert compiler.compiled == 1
        (file,) = compiler.files()
        assert re.fullmatch("[0-9a-f]{64}", file.name)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "damage",
        [
            lambda _content: b"",
            lambda content: content[:20],
            lambda content: content[:-1],
            lambda content: content + b"x",
            lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
            lambda content: b"\0" * len(content),
        ],
        ids=["empty", "no code", "truncated", "longer", "another bit", "nothing but zeros"],
    )
    def test_is_compiled_again_if_it_is_damaged(self, compiler: Compiler, damage: Callable[[bytes], bytes]) -> None:
        compiler.use()
        (file,) = compiler.files()
        whole = file.read_bytes()
        file.write_bytes(damage(whole))
        compiler.use()
        assert (compiler.compiled, file.read_bytes()) == (2, whole)

    def test_is_not_used_under_another_name(self, compiler: Compiler) -> None:
        compiler.use()
        (one,) = compiler.files()
        compiler.use(b"answer = 42\n")
        (other,) = set(compiler.files()) - {one}
        one.write_bytes(other.read_bytes())
        compiler.use()
        assert compiler.compiled == 3

    @pytest.mark.parametrize(
        ("there", "most", "files"),
        [(0, 100_000, 3), (0, 4096, 1), (0, 4095, 0), (0, 0, 0), (10_000, 14_000, 0), (10_000, 14_096, 1)],
    )
    def test_is_limited_in_pages_including_other_files(
        self, compiler: Compiler, there: int, most: int, files: int
    ) -> None:
        (compiler.kept / "there").write_bytes(b"x" * there)
        one = Cache(str(compiler.kept), most, compiler)
        for number in range(3):
            one.compiled("a.py", b"answer = %d" % number)
        assert len(compiler.files()) == 1 + files

    @pytest.mark.parametrize(("writes_none", "threads"), [(True, 0), (False, 1)])
    def test_is_not_written_if_python_must_not_or_another_thread_runs(
        self, compiler: Compiler, writes_none: bool, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "dont_write_bytecode", writes_none)
        monkeypatch.setattr(sys.modules["_thread"], "_count", lambda: threads)
        compiler.use()
        assert (compiler.compiled, compiler.files()) == (1, [])


def _link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def _mode(mode: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(mode)


FOREIGN = [_link, pytest.param(lambda path: os.chown(path, 12345, 12345), marks=needs_root)]


class TestFilesOfOtherUsers:
    """Valid code that another user could have written is not run, and nothing is written there."""

    @pytest.mark.parametrize("change", [*map(_mode, (0o770, 0o707, 0o755, 0o710, 0o701)), *FOREIGN])
    def test_a_directory_is_not_used(self, compiler: Compiler, change: Callable[[Path], None]) -> None:
        compiler.use()
        change(compiler.kept)
        compiler.use()
        compiler.use(b"answer = 42\n")
        assert (compiler.compiled, len(compiler.files())) == (3, 1)

    @pytest.mark.parametrize("change", [*map(_mode, (0o620, 0o602, 0o666)), *FOREIGN])
    def test_a_file_is_replaced_and_a_link_left_alone(self, compiler: Compiler, change: Callable[[Path], None]) -> None:
        compiler.use()
        (file,) = compiler.files()
        inode = file.stat().st_ino
        change(file)
        compiler.use()
        assert compiler.compiled == 2
        compiler.use()
        is_link = file.is_symlink()
        assert compiler.compiled == 2 + is_link
        assert is_link or (file.stat().st_ino != inode and stat.S_IMODE(file.stat().st_mode) == 0o600)


class TestTheInputThatGetsACache:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"print(1)\n",
            b"import os\n_ANSIBALLZ_WRAPPER = True\n",
            b'"""text"""\n_ANSIBALLZ_WRAPPER = True\n',
            b"# _ANSIBALLZ_WRAPPER = True\n",
            b"  _ANSIBALLZ_WRAPPER = True\n",
            b"_ANSIBALLZ_WRAPPER = Truely\n",
            b"from __future__ import annotations, division\n_ANSIBALLZ_WRAPPER = True\n",
        ],
    )
    def test_other_input_is_unchanged(self, data: bytes) -> None:
        assert with_cache(PYTHON, data, ("/x",)) == data

    @pytest.mark.parametrize(
        ("command", "is_python"),
        [
            *((no, False) for no in ("cat", "/bin/sh", "/usr/bin/python3 -c pass", "python3 script", "mypython3", "")),
            *((name, True) for name in (PYTHON, "python3.11", "/usr/libexec/platform-python", "/usr/bin/env python3")),
            ("LANG=C /usr/bin/python3", True),
            ("sudo -H -S -n -u root /bin/sh -c 'echo BECOME-SUCCESS-x ; /usr/bin/python3'", True),
            ("/bin/sh -c '/usr/bin/python3 && sleep 0'", True),
            (
                """/bin/sh -c 'sudo -H -n -u root /bin/sh -c '"'"'echo BECOME-SUCCESS-x ; python3'"'"' && sleep 0'""",
                True,
            ),
        ],
    )
    def test_commands_with_any_name_of_python_get_it(self, payload: Payload, command: str, is_python: bool) -> None:
        assert (with_cache(command, payload("ping"), ("/x",)) != payload("ping")) == is_python
