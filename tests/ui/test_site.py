"""The documentation in a browser, as `make docs` builds it: for narrow windows, dark themes, keyboards and readers."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ui.conftest import PATIENCE, violations

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [path.relative_to(DOCS).with_suffix("").as_posix() for path in sorted(DOCS.rglob("*.md"))]
MADE = ("genindex", "search")  # pages that Sphinx adds
WIDTHS = (390, 1280)


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the documentation, built and served; without a browser nothing is built."""
    assert browser
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html", DOCS, folder], cwd=ROOT, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()


@pytest.mark.parametrize("name", [*PAGES, *MADE])
def test_a_page_can_be_read_by_all(site: str, page: Any, name: str) -> None:
    errors: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{site}/{name}.html")
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("new Promise(requestAnimationFrame)")  # before it the page hears of its new size
            assert violations(page) == {}, (scheme, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, scheme
    assert errors == []
    assert [url for url in asked if not url.startswith((f"{site}/", "data:"))] == []


# What has the focus, and whether it is in sight.
FOCUSED = """
() => {
  const element = document.activeElement;
  if (element === document.body) { return null; }
  const {left, right} = element.getBoundingClientRect();
  const name = element.getAttribute('aria-label') || element.innerText;
  return {name, tag: element.tagName, seen: element.checkVisibility() && left >= 0 && right <= innerWidth};
}
"""


def tabbed(page: Any) -> list[dict[str, Any]]:
    """What the key Tab reaches from the top of the page to its end."""
    stops: list[dict[str, Any]] = []
    page.keyboard.press("Tab")
    while stop := page.evaluate(FOCUSED):
        stops.append(stop)
        page.keyboard.press("Tab")
    return stops


@pytest.mark.parametrize("width", WIDTHS)
def test_tab_reaches_search_theme_and_every_player(site: str, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{site}/index.html")
    if width < 800:  # the search is in a menu
        page.locator("button.nav-overlay-icon:visible").focus()
        page.keyboard.press("Enter")
        assert page.evaluate(FOCUSED)["name"] == "Distill"
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED)["name"] == "Search"
        page.keyboard.press("Escape")
        assert page.evaluate(FOCUSED)["name"] == "All pages"
        page.reload()
    stops = tabbed(page)
    assert not [stop for stop in stops if not stop["seen"]]
    names = [stop["name"] for stop in stops]
    players = page.eval_on_selector_all("audio", "players => players.map((one) => one.getAttribute('aria-label'))")
    assert len(players) == 10
    assert {*players, "All pages" if width < 800 else "Search", "Toggle Light / Dark / Auto color theme"} <= {*names}


def test_the_theme_is_switched_by_keyboard(site: str, page: Any) -> None:
    page.goto(f"{site}/index.html")
    page.locator(".theme-toggle:visible").focus()
    before = page.evaluate("document.body.dataset.theme")
    page.keyboard.press("Enter")
    assert page.evaluate("document.body.dataset.theme") != before
