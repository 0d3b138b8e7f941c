"""Picture of the page for the documentation: `python -m docs.page_picture` makes sounds of the demo's model in Chromium."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.page import MODEL, opened

PICTURE = Path(__file__).with_name("static") / "page.png"


def main() -> None:
    """Make four sounds and take a picture of the tab Generate."""
    with TemporaryDirectory() as root:
        folder = Path(root)
        (folder / "models").mkdir()
        shutil.copy(MODEL, folder / "models")
        with opened(folder) as page:
            page.set_viewport_size({"width": 1280, "height": 1000})
            page.locator("button:has-text('More settings'):visible").first.click()
            page.locator("#seed textarea, #seed input").first.fill("3")
            page.wait_for_timeout(1000)
            page.locator("#generate-start").click()
            page.wait_for_function(
                "document.querySelectorAll('#cards img').length === 4", timeout=120_000
            )
            page.locator("button:has-text('More settings'):visible").first.click()
            page.wait_for_timeout(2000)
            page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
