"""The picture of the report in the guides: python -m tests.docs.report_picture. It needs Chromium and its driver."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.collection import ROOT, make_importable
from tests.support.fleet_results import small_fleet

PICTURE = ROOT / "docs" / "docsite" / "rst" / "images" / "report.png"
WIDTH = 1280
# The page from its top to the end of the chart.
_HEIGHT = "return Math.ceil(document.querySelector('.chart').closest('section').getBoundingClientRect().bottom) + 14"


def main() -> None:
    make_importable()
    from tests.support.browser import started_browser

    with tempfile.TemporaryDirectory() as directory, started_browser(Path(directory)) as browser:
        browser.look(width=WIDTH)
        browser.open(small_fleet())
        browser.look(width=WIDTH, height=browser.run(_HEIGHT))
        browser.painted()
        browser.picture(PICTURE)


if __name__ == "__main__":
    main()
