"""The book, built once as it is published, served on this machine, and opened in Chromium."""

import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, sync_playwright

from crossattn_ref.checks import exercises

SUBJECTS = sorted({exercise.split("/")[0] for exercise in exercises()})
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_CHROMIUM = "no Chromium here: run `.venv/bin/playwright install chromium` (or `apt-get install chromium`)"


def pages_of_the_book() -> list[str]:
    """List the pages in the order of the contents, the root first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def below(entries):
        for entry in entries:
            if "file" in entry:
                yield entry["file"]
            for kind in ("parts", "chapters", "sections"):
                yield from below(entry.get(kind, []))

    return [toc["root"], *below([toc])]


def jupyter_book(source: Path, output: Path) -> subprocess.CompletedProcess:
    """Build a book with every warning an error; what it prints is what pytest shows when it fails."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", output]
    options = ["--warningiserror", "--nitpick", "--keep-going"]
    environment = os.environ | {"NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *options], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def pages() -> list[str]:
    return pages_of_the_book()


@pytest.fixture(scope="session")
def build():
    """Give a test the builder itself, for a small book of its own."""
    return jupyter_book


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """Build the whole book; outputs that `make book` has cached for this very package are used again."""
    output = tmp_path_factory.mktemp("book")
    with contextlib.suppress(FileNotFoundError):
        shutil.copytree(ROOT / "_build" / ".jupyter_cache", output / "_build" / ".jupyter_cache")
    result = jupyter_book(ROOT, output)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-6000:]
    return output / "_build" / "html"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def site(built):
    """Serve the book; the address without a slash at its end."""
    handler = functools.partial(_Quiet, directory=built)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Start the machine's Chromium, or Playwright's own."""
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip(NO_CHROMIUM)
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page of the book, open in the browser, and what went wrong while it was opened."""

    name: str
    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Write down errors and warnings of the console, uncaught errors, failed answers, and every request."""
        page, note = self.page, self.complaints.append
        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("requestfailed", lambda request: note(f"failed: {request.url}"))
        page.on("response", lambda answer: note(f"{answer.status}: {answer.url}") if answer.status >= 400 else None)
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture(scope="session")
def visit(browser, site):
    """Open a page at a width, in a theme, and wait until its fonts have come and its formulas are set."""

    @contextlib.contextmanager
    def opened(name: str, *, width: int, theme: str):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        visit = Visit(name, context.new_page())
        visit.listen()
        visit.page.goto(f"{site}/{name}.html")
        visit.page.wait_for_function(
            "() => !document.querySelector('script[src*=mathjax]') || MathJax.startup?.promise"
        )
        visit.page.evaluate("() => window.MathJax?.startup.promise.then(() => null)")
        visit.page.evaluate("() => document.fonts.ready.then(() => null)")
        yield visit
        context.close()

    return opened


@pytest.fixture(scope="session", params=pages_of_the_book())
def name(request):
    """One page after the other, by its name in the contents."""
    return request.param


@pytest.fixture(params=[name for name in SUBJECTS if f"book/{name}" in pages_of_the_book()])
def subject(request):
    """One subject after the other that has both graded exercises and a chapter in the book."""
    return request.param


@pytest.fixture(scope="session")
def wide(visit, name):
    with visit(name, width=1280, theme="light") as page:
        yield page


@pytest.fixture(scope="session")
def narrow(visit, name):
    with visit(name, width=360, theme="dark") as page:
        yield page
