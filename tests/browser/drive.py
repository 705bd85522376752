"""Chromium, driven: what the checks of pages have in common. Run by itself it says whether all that
they need is there."""

import shutil
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

# Nothing that Chromium does by itself may ask the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium():
    """A browser without a window."""
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("expected chromium in PATH; scripts/install-browser installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page(browser, path, width=1280, scheme="light", scripts=True, touched=None):
    """A page that is open, in a context of its own. What goes wrong is appended to `touched`: errors,
    messages of the console, and requests for anything but the page itself."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    opened = context.new_page()
    wrong = touched if touched is not None else []
    opened.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    opened.on("console", lambda message: wrong.append(f"console: {message.text}"))

    def request(request):
        if request.url != f"file://{path}" and not request.url.startswith("data:"):
            wrong.append(f"request: {request.url}")

    opened.on("request", request)
    opened.goto(f"file://{path}")
    try:
        yield opened
    finally:
        context.close()


def violations(opened):
    """What axe-core has against a page."""
    found = Axe().run(opened).response["violations"]
    return [
        f"axe: {v['id']} ({v['help']}): {len(v['nodes'])} times, as in {v['nodes'][0]['html'][:200]}"
        for v in found
    ]


if __name__ == "__main__":
    with chromium() as browser:
        print("chromium", browser.version)
