"""A real browser for the tests of pages: Chromium of the system, without a window.

Decides in one place what happens where there is none; it tests nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Commands that start one; the first is Debian's."""


def require_browser() -> str:
    """Return the command that starts a browser; without one skip the test, or in CI fail it."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    reason = f"no browser: none of {', '.join(NAMES)} (on Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(f"CI must run a browser: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start one for the tests of a module, which must not use `asyncio.run`: playwright does."""
    from playwright.sync_api import sync_playwright  # which takes a while, and is rarely needed

    path = require_browser()
    with sync_playwright() as playwright:
        # Root, which CI is, cannot have the sandbox; the pages come from the tests themselves.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()
