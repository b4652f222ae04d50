"""The code that a page shows fits beside the contents at 1,280 pixels: a longer line would have to be scrolled."""

import re

import pytest

WIDEST = 77
HIDDEN = {"hide-input", "remove-input", "hide-cell", "remove-cell"}
FENCE = re.compile(
    r"^ *(?P<marks>`{3,})(?:\{code-(?:cell|block)\}|\w)[^\n]*\n"
    r"(?P<options>---\n.*?^---\n|(?::[^\n]*\n)*)"
    r"(?P<code>.*?)^ *(?P=marks)`*\s*$",
    re.DOTALL | re.MULTILINE,
)


def too_wide(text: str) -> list[tuple[int, int]]:
    """(line number, length) of each line of a page's visible code that is too long."""
    found = []
    for fence in FENCE.finditer(text):
        if not HIDDEN & set(re.findall(r"[\w-]+", fence["options"])):
            first = text.count("\n", 0, fence.start("code")) + 1
            lengths = enumerate(map(len, fence["code"].split("\n")), start=first)
            found += [(number, length) for number, length in lengths if length > WIDEST]
    return found


def test_no_line_of_code_on_a_page_has_to_be_scrolled(root):
    pages = sorted((root / "book").glob("*.md"))
    found = [
        f"book/{page.name}, line {number}: {length} characters"
        for page in pages
        for number, length in too_wide(page.read_text(encoding="utf-8"))
    ]
    assert pages
    assert not found, f"over {WIDEST} characters:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "kind", ["{code-cell}", "{code-cell} ipython3", "{code-block} python", "python", "bash", "text"]
)
def test_a_line_that_is_too_long_would_be_noticed(kind):
    page = f"Some words.\n\n```{kind}\n{WIDEST * '1'}\n{WIDEST * '1'}2\n```\n"
    assert too_wide(page) == [(5, WIDEST + 1)]


@pytest.mark.parametrize("options", [":tags: [TAG]\n", ":tags: [wide, TAG]\n", "---\ntags:\n- TAG\n---\n"])
def test_only_cells_whose_input_is_hidden_may_be_wider(options):
    page = f"```{{code-cell}}\n{options}{100 * '1'}\n```\n"
    assert [too_wide(page.replace("TAG", tag)) for tag in HIDDEN] == len(HIDDEN) * [[]]
    assert too_wide(page.replace("TAG", "hide-output")) == [(options.count("\n") + 2, 100)]


def test_prose_and_the_options_of_a_cell_may_be_long():
    exercise = "```{exercise} A test\n" + 100 * "words " + "\n```\n"
    cell = f"```{{code-cell}}\n:caption: {100 * 'x'}\n1 + 1\n```\n"
    assert too_wide(100 * "words " + "\n\n" + exercise + cell) == []
