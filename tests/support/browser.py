"""A real browser for the report's tests, and what it shows of a page that is a file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.fleet_results import SECOND_NS, TOLERANCE_NS, Fleet

WIDTHS = (1280, 390)  # a desk's and a telephone's

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass(frozen=True)
class Browser:
    """One Chromium, and the directory of the pages that it opens."""

    driver: webdriver.Chrome
    directory: Path

    def write(self, fleet: Fleet, **other: Any) -> str:
        arguments = {"title": "Clocks of the fleet", "play": "Give the guests their time back", "check_mode": False}
        arguments |= {"made_at": 1_795_406_706 * SECOND_NS, "tolerance_ns": TOLERANCE_NS, **other}
        path = self.directory / "report.html"
        path.write_text(render(fleet, **arguments), encoding="utf-8")
        return path.as_uri()

    def open(self, fleet: Fleet, **other: Any) -> float:
        """Open the fleet's report; how many seconds it took until it was painted."""
        address = self.write(fleet, **other)
        self.requests()
        begun = time.monotonic()
        self.driver.get(address)
        self.painted()
        return time.monotonic() - begun

    def painted(self) -> None:
        twice = "requestAnimationFrame(() => requestAnimationFrame(() => done()));"
        self.driver.execute_async_script(f"const done = arguments[0]; {twice}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def look(self, scheme: str = "light", width: int = WIDTHS[0], height: int = 900) -> None:
        """See the next pages in that color scheme and a window of that size."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        messages = (json.loads(line["message"])["message"] for line in self.driver.get_log("performance"))
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def complaints(self) -> list[str]:
        """What the console has to say; violations of the page's security policy, too."""
        return [line["message"] for line in self.driver.get_log("browser")]

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        script = "return Array.from(document.querySelectorAll(arguments[0]), (found) => found.textContent)"
        return list(self.run(script, selector))

    def column(self, number: int) -> list[str]:
        return self.texts(f".guests tbody tr:not([hidden]) > :nth-child({number + 1})")

    def headings(self) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, ".guests thead th")

    def until(self, happened: Callable[[], bool]) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _driver: happened())


@contextmanager
def started_browser(directory: Path) -> Iterator[Browser]:
    """Start a browser that keeps all it has below that directory, and end it."""
    profile = directory / "profile"
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver named, Selenium looks for none and downloads none.
    service = Service("/usr/bin/chromedriver")
    try:
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.set_page_load_timeout(60)
            yield Browser(driver, directory)
        finally:
            driver.quit()
    finally:
        service.stop()
        # A browser that hangs does not heed its driver.
        deadline = time.monotonic() + 10
        while (processes := _processes_of(profile)) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process in processes:
            os.kill(process, signal.SIGKILL)


def _processes_of(profile: Path) -> list[int]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"--user-data-dir={profile}".encode() in (directory / "cmdline").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return found
