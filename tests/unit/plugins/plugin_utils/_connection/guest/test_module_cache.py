"""Modules as Ansible makes them, run by Python with and without kept code: what comes of them is the same."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.guest.module_cache import Cache
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.scripts import MOST_KEPT, with_cache

pytestmark = pytest.mark.slow

PYTHON = "/usr/bin/python3"

# It tells what a module can see of how it was started, and ends in several ways.
TELLTALE = '''#!/usr/bin/python
import inspect
import os
import sys

import __main__
from ansible.module_utils.basic import AnsibleModule


class Telltale:
    """It has a module."""


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
        module=Telltale.__module__,
        file=main.__code__.co_filename,
        utils=inspect.getsourcefile(AnsibleModule),
        path=sys.path,
        open=len(os.listdir("/proc/self/fd")),
        mask=os.umask(0o22),
    )


if __name__ == "__main__":
    main()
'''


class Outcome(NamedTuple):
    status: int
    output: str
    errors: str


# A directory, and the time.
_EACH_RUNS_OWN = re.compile(r'(?<=_payload_)[a-z0-9_]{8}|(?<="start": ")[^"]*|(?<="delta": ")[^"]*|(?<="end": ")[^"]*')


class Payloads:
    """What Ansible would give to Python, by the module's name and arguments."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (directory / "library").mkdir()
        (directory / "library/telltale.py").write_text(TELLTALE)
        (directory / "library/warned.py").write_text(TELLTALE.replace("on purpose", r"\d"))
        self._made: dict[tuple[str, ...], bytes] = {}

    def __call__(self, module: str, *arguments: str) -> bytes:
        key = (module, *arguments)
        if key not in self._made:
            self._made[key] = self._make(module, *arguments)
        return self._made[key]

    def _make(self, module: str, *arguments: str) -> bytes:
        kept = self._directory / f"kept-{len(self._made)}"
        words = [str(Path(sys.executable).with_name("ansible")), "localhost", "-c", "local", "-m", module]
        subprocess.run(
            [*words, "-a", " ".join(arguments), "-e", f"ansible_python_interpreter={sys.executable}"],
            env={
                **os.environ,
                "ANSIBLE_KEEP_REMOTE_FILES": "true",
                "ANSIBLE_REMOTE_TEMP": str(kept),
                "ANSIBLE_LIBRARY": str(self._directory / "library"),
                "ANSIBLE_LOCALHOST_WARNING": "false",
            },
            capture_output=True,
            check=False,  # some are meant to fail
        )
        (payload,) = kept.glob(f"*/AnsiballZ_{module}.py")
        return payload.read_bytes()


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Payloads:
    return Payloads(tmp_path_factory.mktemp("payloads"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture(autouse=True)
def _made(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mkdir()
    # A module that is gone at once leaves what Ansible has unpacked of it.
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def cache(place: Path) -> Path:
    return place / f"qga-code-{os.geteuid()}"


def cached(data: bytes, place: Path) -> bytes:
    changed = with_cache(PYTHON, data, ("/nonesuch", str(place)))
    assert changed != data
    return changed


def run(data: bytes, python: str = sys.executable, *options: str) -> Outcome:
    # As an agent starts it, not as a test suite does, which may keep Python from writing compiled code.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, *options], input=data, capture_output=True, check=False, env=environment)
    output, errors = [_EACH_RUNS_OWN.sub("", stream.decode()) for stream in (done.stdout, done.stderr)]
    return Outcome(done.returncode, output, errors)


CALLS = {
    "one that does nothing": ("ping",),
    "one that runs a program": ("command", "/bin/sh", "-c", "'echo out; echo err >&2; exit 3'"),
    "one that fails": ("ping", "data=crash"),
    "one that looks about": ("telltale", "how=look"),
    "one that raises": ("telltale", "how=raise"),
    "one that is gone at once": ("telltale", "how=exit"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_comes_of_a_module_is_the_same(payload: Payloads, place: Path, cache: Path, call: tuple[str, ...]) -> None:
    data = payload(*call)
    plain = run(data)
    assert [run(cached(data, place)) for _time in range(2)] == [plain] * 2
    assert len(list(cache.iterdir())) > 20


def pythons() -> list[str]:
    """Also such as Ansible does not support: they say so as ever."""
    directories = [*os.get_exec_path(), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    names = ("python2.7", *(f"python3.{minor}" for minor in range(6, 20)))
    found = {name: shutil.which(name, path=os.pathsep.join(directories)) for name in names}
    return [path for path in found.values() if path is not None]


@pytest.mark.parametrize("python", pythons())
def test_it_is_so_under_all_pythons_there_are(payload: Payloads, place: Path, python: str) -> None:
    data = payload("ping")
    plain = run(data, python)
    assert [run(cached(data, place), python) for _time in range(2)] == [plain] * 2


def test_each_python_has_code_of_its_own(payload: Payloads, place: Path, cache: Path) -> None:
    data = cached(payload("ping"), place)
    run(data)
    one = set(cache.iterdir())
    run(data, sys.executable, "-O")
    assert len(set(cache.iterdir())) == 2 * len(one)


def test_lines_keep_their_numbers(payload: Payloads, place: Path) -> None:
    data = payload("ping")
    assert cached(data, place).count(b"\n") == data.count(b"\n")


def test_code_is_taken_from_where_it_is_kept(payload: Payloads, place: Path, cache: Path) -> None:
    data = cached(payload("ping"), place)
    run(data)
    before = {path: path.stat().st_ino for path in cache.iterdir()}
    run(data)
    assert {path: path.stat().st_ino for path in cache.iterdir()} == before
    # Nothing is compiled any more: it runs without the compiler, too.
    broken = b"import zipimport; zipimport._compile_source = lambda pathname, source: 1 / 0; "
    assert run(payload("ping").replace(b"_ANSIBALLZ", broken + b"_ANSIBALLZ", 1)).status != 0
    assert run(data.replace(b"exec(", broken + b"exec(", 1)).status == 0


def test_who_is_warned_is_warned_each_time(payload: Payloads, place: Path) -> None:
    data = payload("warned", "how=look")
    plain = run(data, sys.executable, "-Walways")
    assert plain.errors.count("invalid escape sequence") >= 1
    assert [run(cached(data, place), sys.executable, "-Walways") for _time in range(2)] == [plain] * 2


def test_another_module_finds_what_it_has_in_common(payload: Payloads, place: Path, cache: Path) -> None:
    run(cached(payload("ping"), place))
    of_one = len(list(cache.iterdir()))
    run(cached(payload("telltale", "how=look"), place))
    assert len(list(cache.iterdir())) - of_one <= 3


SOURCE = b"answer = 6 * 7\nprint('compiled')\n"


class Compiler:
    """Compiles as zipimport does, and counts."""

    def __init__(self) -> None:
        self.compiled = 0

    def __call__(self, pathname: str, source: bytes) -> CodeType:
        self.compiled += 1
        return compile(source, pathname, "exec", dont_inherit=True)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Compiler:
    """For a cache that is there, in a process that may write to it."""
    cache.mkdir(0o700)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys.modules["_thread"], "_count", lambda: 0)
    return Compiler()


def compile_by(compiler: Compiler, cache: Path, source: bytes = SOURCE, most: int = MOST_KEPT) -> CodeType:
    code = Cache(str(cache), most, compiler).compiled("/archive.zip/module.py", source)
    assert code.co_filename == "/archive.zip/module.py"
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)  # noqa: S102  # the test's own
    assert names["answer"] == 42
    return code


class TestWhatIsKept:
    def test_is_whole_files_for_its_user_only_and_read_the_next_time(self, compiler: Compiler, cache: Path) -> None:
        for _time in range(2):
            compile_by(compiler, cache)
        assert compiler.compiled == 1
        (kept,) = cache.iterdir()
        assert re.fullmatch("[0-9a-f]{64}", kept.name)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600

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
    def test_is_made_anew_if_it_is_damaged(
        self, compiler: Compiler, cache: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        compile_by(compiler, cache)
        (kept,) = cache.iterdir()
        whole = kept.read_bytes()
        kept.write_bytes(damage(whole))
        compile_by(compiler, cache)
        assert compiler.compiled == 2
        assert kept.read_bytes() == whole

    def test_is_not_taken_under_another_name(self, compiler: Compiler, cache: Path) -> None:
        compile_by(compiler, cache)
        (one,) = cache.iterdir()
        compile_by(compiler, cache, b"answer = 42\n")
        (other,) = set(cache.iterdir()) - {one}
        one.write_bytes(other.read_bytes())
        compile_by(compiler, cache)
        assert compiler.compiled == 3

    @pytest.mark.parametrize(("most", "files"), [(100_000, 1), (4096, 1), (4095, 0), (0, 0)])
    def test_is_bounded_by_pages(self, compiler: Compiler, cache: Path, most: int, files: int) -> None:
        compile_by(compiler, cache, most=most)
        assert len(list(cache.iterdir())) == files

    def test_is_bounded_with_all_that_is_there(self, compiler: Compiler, cache: Path) -> None:
        (cache / "much").write_bytes(b"x" * 10_000)
        compile_by(compiler, cache, most=14_000)
        assert len(list(cache.iterdir())) == 1
        one = Cache(str(cache), 10_000 + 4096, compiler)
        for number in range(3):
            one.compiled("a.py", b"answer = %d" % number)
        assert len(list(cache.iterdir())) == 2

    def test_is_nothing_if_python_is_not_to_write_any_or_another_thread_runs(
        self, compiler: Compiler, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "dont_write_bytecode", True)
            compile_by(compiler, cache)
        monkeypatch.setattr(sys.modules["_thread"], "_count", lambda: 1)
        compile_by(compiler, cache)
        assert compiler.compiled == 2
        assert list(cache.iterdir()) == []

    def test_has_nothing_of_what_the_task_was_given(self, payload: Payloads, place: Path, cache: Path) -> None:
        run(cached(payload("ping", "data=hunter2"), place))
        contents = [path.read_bytes() for path in cache.iterdir()]
        assert any(b"AnsibleModule" in content for content in contents)
        assert not any(b"hunter2" in content for content in contents)
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def _link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def _give_away(path: Path) -> None:
    os.chown(path, 12345, 12345)


def _mode(mode: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(mode)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
FOREIGN = [_link, pytest.param(_give_away, marks=needs_root)]


class TestWhatSomebodyElseMayHaveMade:
    """Code that could be another's is not run, though it is whole and right; and nothing is written there."""

    @pytest.mark.parametrize("change", [*map(_mode, (0o770, 0o707, 0o755, 0o710, 0o701)), *FOREIGN])
    def test_a_directory_is_not_used(self, compiler: Compiler, cache: Path, change: Callable[[Path], None]) -> None:
        compile_by(compiler, cache)
        change(cache)
        compile_by(compiler, cache)
        compile_by(compiler, cache, b"answer = 42\n")
        assert compiler.compiled == 3
        assert len(list(cache.iterdir())) == 1

    @pytest.mark.parametrize("change", [*map(_mode, (0o620, 0o602, 0o666)), *FOREIGN])
    def test_a_file_is_replaced(self, compiler: Compiler, cache: Path, change: Callable[[Path], None]) -> None:
        compile_by(compiler, cache)
        (kept,) = cache.iterdir()
        inode = kept.stat().st_ino
        change(kept)
        with contextlib.suppress(OSError):
            compile_by(compiler, cache)
        assert compiler.compiled == 2
        compile_by(compiler, cache)
        is_link = kept.is_symlink()
        assert is_link or (kept.stat().st_ino != inode and stat.S_IMODE(kept.stat().st_mode) == 0o600)
        assert compiler.compiled == 2 + is_link  # a link is left alone


class TestWhereItCannotBe:
    def test_without_a_place_modules_run_as_ever(self, payload: Payloads, tmp_path: Path) -> None:
        data = payload("ping")
        assert run(cached(data, tmp_path / "none")) == run(data)

    def test_a_file_in_its_place(self, payload: Payloads, place: Path, cache: Path) -> None:
        cache.write_text("mine")
        data = payload("ping")
        assert run(cached(data, place)) == run(data)
        assert cache.read_text() == "mine"


class TestWhatIsLeftAsItIs:
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
    def test_input_that_ansible_did_not_make(self, data: bytes) -> None:
        assert with_cache(PYTHON, data, ("/dev/shm",)) == data  # noqa: S108  # nothing is run

    @pytest.mark.parametrize(
        "command", ["cat", "/bin/sh", "/usr/bin/python3 -c pass", "python3 script", "mypython3", ""]
    )
    def test_input_of_what_is_no_mere_python(self, payload: Payloads, command: str) -> None:
        data = payload("ping")
        assert with_cache(command, data, ("/dev/shm",)) == data  # noqa: S108  # nothing is run

    @pytest.mark.parametrize(
        "command",
        [
            PYTHON,
            "python3.11",
            "/usr/libexec/platform-python",
            "LANG=C /usr/bin/python3",
            "sudo -H -S -n -u root /bin/sh -c 'echo BECOME-SUCCESS-x ; /usr/bin/python3'",
            "/usr/bin/env python3",
            "/bin/sh -c '/usr/bin/python3 && sleep 0'",
            """/bin/sh -c 'sudo -H -S -n -u root /bin/sh -c '"'"'echo BECOME-SUCCESS-x ; python3'"'"' && sleep 0'""",
        ],
    )
    def test_but_python_by_any_of_its_names_has_it(self, payload: Payloads, command: str) -> None:
        assert with_cache(command, payload("ping"), ("/x",)) != payload("ping")

    def test_an_old_python_runs_it_all_the_same(self, payload: Payloads, place: Path) -> None:
        """One whose zipimport is another."""
        data = cached(payload("ping"), place).replace(b"_compile_source", b"_compile_nothing")
        assert run(data) == run(payload("ping"))
        assert not any(place.iterdir())
