"""A real browser for tests of the report, which it opens from a file."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Fleet as Report
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Header, Settings, read_fleet
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.fleet_results import SECOND_NS, TOLERANCE_NS, Fleet

WIDTHS = (1280, 390)  # of a desktop and of a phone

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


HEADER: dict[str, Any] = {
    "title": "Clocks of the fleet",
    "made_ns": 1_795_406_706 * SECOND_NS,
    "started_ns": 1_795_406_689 * SECOND_NS,
    "play": "Resync the clocks of all guests",
    "collection": "qemu.guest_agent",
    "version": "1.0.0",
    "core": "2.19.3",
    "controller": "controller.example.org",
    "inventory": ("/etc/ansible/hypervisors.yml",),
}


@dataclass(frozen=True)
class Browser:
    """One Chromium, and the directory of the pages that it opens."""

    driver: webdriver.Chrome
    directory: Path

    def write(
        self, fleet: Fleet, *, tolerance_ns: int | None = TOLERANCE_NS, check_mode: bool = False, **other: Any
    ) -> str:
        report = Report.of(read_fleet(fleet), Settings(tolerance_ns, check_mode))
        path = self.directory / "report.html"
        path.write_text(render(report, Header(**{**HEADER, **other})), encoding="utf-8")
        return path.as_uri()

    def open(self, fleet: Fleet, **other: Any) -> float:
        """Open the fleet's report, and return the seconds until it was painted."""
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

    def picture(self, path: Path) -> None:
        """Save the window as a PNG."""
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def look(self, scheme: str = "light", width: int = WIDTHS[0], height: int = 900) -> None:
        """Show the next pages in that color scheme and in a window of that size."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def requests(self) -> list[str]:
        """Return the addresses that were requested since the last call."""
        messages = (json.loads(line["message"])["message"] for line in self.driver.get_log("performance"))
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def console(self) -> list[str]:
        """Return the messages of the console, with those on violations of the page's security policy."""
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
    """Start a browser with its profile in that directory, and end it."""
    profile = directory / "profile"
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Otherwise Selenium would search for a driver, and download one.
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
        # A browser that hangs does not end with its driver.
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
