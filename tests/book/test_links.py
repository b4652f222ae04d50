"""Every link within the book leads somewhere, and nothing that belongs elsewhere is in it."""

import json
import re
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

EXTRA = ["search", "genindex", "py-modindex"]
COLAB = "https://colab.research.google.com/github/crossattn/course/blob/main"


@pytest.fixture(scope="module")
def parsed(built, pages):
    """Every page, parsed, by its path."""
    paths = [built / f"{name}.html" for name in [*pages, *EXTRA]]
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}


def addresses(page):
    for node in page.select("[href], [src]"):
        yield node, node.get("href") or node.get("src")


def is_elsewhere(address):
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


def test_every_link_within_the_book_leads_to_a_page_and_a_place_on_it(built, parsed):
    broken = []
    for path, page in parsed.items():
        for _, address in addresses(page):
            if is_elsewhere(address):
                continue
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target.is_file()
            if found and parts.fragment and target.suffix == ".html":
                goal = parsed.get(target) or BeautifulSoup(target.read_text(encoding="utf-8"), "html.parser")
                found = goal.find(id=unquote(parts.fragment)) is not None
            if not found:
                broken.append(f"{path.relative_to(built)}: {address}")
    assert broken == []


def test_what_a_page_loads_comes_with_the_book(parsed):
    foreign = [
        f"{path.name}: {address}"
        for path, page in parsed.items()
        for node, address in addresses(page)
        if node.name != "a" and is_elsewhere(address) and not address.startswith("data:")
    ]
    assert foreign == []


def test_links_that_leave_the_book_are_encrypted(parsed):
    plain = [address for page in parsed.values() for _, address in addresses(page) if address.startswith("http:")]
    assert plain == []


def test_solutions_are_in_neither_contents_nor_search(built, pages):
    index = (built / "searchindex.js").read_text(encoding="utf-8")
    names = json.loads(re.search(r'"docnames":\s*(\[.*?\])', index)[1])
    assert sorted(names) == sorted(pages)
    assert not [name for name in names if "solution" in name]


def test_a_notebook_opens_in_colab_and_a_chapter_does_not(built, pages, parsed):
    for name in pages:
        links = [a["href"] for a in parsed[built / f"{name}.html"].select("a[href*='colab.research']")]
        assert links == ([f"{COLAB}/{name}.ipynb"] if name.startswith("exercises/") else []), name


def test_the_first_address_leads_to_the_first_page(built, pages):
    assert f"url={pages[0]}.html" in (built / "index.html").read_text(encoding="utf-8")


def test_a_search_finds_a_chapter_by_its_words(visit):
    with visit("search", width=1280, theme="light") as opened:
        opened.page.goto(opened.page.url + "?q=softmax")
        opened.page.wait_for_selector("#search-results li a")
        found = opened.page.locator("#search-results li a").evaluate_all("links => links.map(a => a.pathname)")
        assert "/book/attention.html" in found
        assert opened.complaints == []


def test_the_theme_switch_turns_the_page_dark_and_light(visit, pages):
    with visit(pages[0], width=1280, theme="light") as opened:
        seen = set()
        for _ in range(3):
            opened.page.locator(".theme-switch-button:visible").first.click()
            seen.add(opened.page.evaluate("() => document.documentElement.dataset.theme"))
        assert seen == {"light", "dark"}


def test_a_dark_page_is_printed_in_the_light_theme(visit, pages):
    look = "getComputedStyle(document.body).backgroundColor"
    with visit(pages[0], width=1280, theme="dark") as opened:
        dark = opened.page.evaluate(look)
        opened.page.evaluate(f"() => addEventListener('beforeprint', () => {{ window.printed = {look}; }})")
        opened.page.pdf()
        assert opened.page.evaluate("() => window.printed") == "rgb(255, 255, 255)"
        assert opened.page.evaluate(look) == dark != "rgb(255, 255, 255)"
