"""Programs of others that tests run, and the rule that such tests may not be skipped in continuous integration.

Where a program or a package is missing, its tests are skipped, and the reason says that it is not installed. With the
environment variable TESTS_NEED_EVERYTHING=1, as in `.ci/run` and in `make peers`, such a test fails instead. Tests that
are skipped for other reasons (no GPU, another operating system) stay skipped.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

NODE, CURL = shutil.which("node"), shutil.which("curl")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PEERS = Path(__file__).parent.parent / ".peers" / "bin"  # `make peers` installs them

needs_javascript = pytest.mark.skipif(not (NODE or CHROMIUM), reason="neither node nor chromium is installed")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
needs_browser = pytest.mark.skipif(
    not CHROMIUM or importlib.util.find_spec("playwright") is None, reason="chromium or playwright is not installed"
)
needs_nginx = pytest.mark.skipif(not NGINX or not CURL, reason="nginx or curl is not installed")
needs_curl = pytest.mark.skipif(not CURL, reason="curl is not installed")
needs_lm_eval = pytest.mark.skipif(not (PEERS / "lm_eval").exists(), reason="lm_eval is not installed in .peers")
needs_llm = pytest.mark.skipif(not (PEERS / "llm").exists(), reason="llm is not installed in .peers")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Let a file fail that is skipped because something is not installed."""
    return _fail_if_not_installed((yield))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Let a test fail that is skipped because something is not installed."""
    return _fail_if_not_installed((yield))


def _fail_if_not_installed(report: Any) -> Any:
    if report.skipped and os.environ.get("TESTS_NEED_EVERYTHING") == "1" and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "not installed" in reason or "could not import" in reason:
            report.outcome = "failed"
            report.longrepr = f"{reason} (TESTS_NEED_EVERYTHING=1 allows no such test to be skipped)"
    return report
