"""Build the documentation site into build/docs/html, and check it: python -m tests.docs.

Run by the interpreter of .venvs/docs, whose programs are used. Every warning is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.links import broken
from tests.support.collection import BUILD, PACKAGE, ROOT, install

COLLECTION = "qemu.guest_agent"
SITE = Path(__file__).with_name("site")
WORK = BUILD / "docs"
HTML = WORK / "html"
IMAGES = ROOT / "docs" / "docsite" / "rst" / "images"


def main() -> int:
    collections_path = str(install())
    shutil.rmtree(WORK, ignore_errors=True)
    rst = WORK / "rst"
    rst.mkdir(parents=True, mode=0o755)  # antsibull-docs refuses a directory that others can write to
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections_path, "PATH": programs}
    common = ["--config-file", str(SITE / "antsibull-docs.cfg")]
    try:
        collection = Path(collections_path) / PACKAGE
        _run(environment, "antsibull-docs", *common, "lint-collection-docs", "--plugin-docs", str(collection))
        _run(
            environment,
            "antsibull-docs",
            *(*common, "collection", "--use-current", "--squash-hierarchy", "--no-indexes", "--fail-on-error"),
            *("--no-add-antsibull-docs-version", "--dest-dir", str(rst), COLLECTION),
        )
        # antsibull-docs copies the text of the guides, but not their images.
        shutil.copy2(SITE / "index.rst", rst)
        shutil.copytree(IMAGES, rst / "docsite" / "images")
        _run(
            environment,
            "sphinx-build",
            *("-b", "html", "-j", "auto", "-q", "-W", "--keep-going", "-n"),
            *("-c", str(SITE), "-d", str(WORK / "doctrees"), str(rst), str(HTML)),
        )
    except subprocess.CalledProcessError as error:
        print(f"{Path(error.cmd[0]).name} failed with status {error.returncode}", file=sys.stderr)
        return 1
    found = broken(HTML, ROOT)
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        return 1
    print(f"The site is in {HTML.relative_to(ROOT)}/index.html")
    return 0


def _run(environment: dict[str, str], program: str, *arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).parent / program), *arguments], env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
