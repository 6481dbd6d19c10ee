"""Chromium for tests that look at pages."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@dataclass
class Watched:
    """What went wrong in a page while a test used it."""

    errors: list[str] = field(default_factory=list)
    """What its console complained of, and exceptions that nothing caught."""
    addresses: list[str] = field(default_factory=list)
    """All that it asked for."""

    def watch(self, page: Page) -> None:
        """Listen from now on."""
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.addresses.append(request.url))


Opened = Callable[..., tuple[Page, Watched]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of a module of tests; not longer, for Playwright keeps an event loop running in this thread."""
    if PROGRAM is None:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Opened]:
    """Opens an address in a tab with a profile of its own; its options are Playwright's ``new_context``."""
    contexts = []

    def open_address(address: str, **options: Any) -> tuple[Page, Watched]:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page, watched = context.new_page(), Watched()
        page.set_default_timeout(10_000)
        watched.watch(page)
        page.goto(address)
        return page, watched

    yield open_address
    for context in contexts:
        context.close()


def grave_faults(page: Page) -> list[str]:
    """Serious and critical faults of accessibility, each with the first element that has it."""
    found = Axe().run(page).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    return [f"{fault['id']}: {fault['help']} {fault['nodes'][0]['html'][:300]}" for fault in grave]
