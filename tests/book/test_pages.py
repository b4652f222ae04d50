"""Every page of the book in a browser: wide and light, narrow and dark."""

import re
from pathlib import Path

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
LEAST_LETTER = 9  # pixels on a telephone

# Every text of every figure: its size and colour as seen, and what is painted behind it, the page first.
TEXTS_OF_FIGURES = """() => {
  const visible = colour => colour !== 'none' && !colour.includes('url(') && !/, 0\\)$/.test(colour);
  const scale = svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return [...document.querySelectorAll('svg[role=img] text')].map(text => {
    const svg = text.closest('svg'), box = text.getBoundingClientRect();
    const x = box.left + box.width / 2, y = box.top + box.height / 2;
    const behind = [...svg.querySelectorAll('path')].filter(path => {
      const earlier = path.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
      if (path.closest('defs') || !earlier) return false;
      const b = path.getBoundingClientRect();
      return visible(getComputedStyle(path).fill) && b.left <= x && x <= b.right && b.top <= y && y <= b.bottom;
    });
    const style = getComputedStyle(text);
    return {
      text: text.textContent.trim(),
      size: parseFloat(style.fontSize) * scale(svg),
      colour: style.fill,
      behind: [getComputedStyle(document.body).backgroundColor, ...behind.map(path => getComputedStyle(path).fill)],
      opacities: [1, ...behind.map(path => parseFloat(getComputedStyle(path).fillOpacity))],
    };
  });
}"""

FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element), inner = element.querySelector('.toctree-toggle');
  const ring = [style, ...(inner ? [getComputedStyle(inner)] : [])];
  return {
    place: [...document.querySelectorAll('*')].indexOf(element),
    what: element.outerHTML.slice(0, 120),
    ring: ring.some(s => s.boxShadow !== 'none' || (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0)),
  };
}"""

CAN_BE_REACHED = """() => [...document.querySelectorAll('a[href], button, summary, input, select, textarea')]
  .filter(e => e.checkVisibility({visibilityProperty: true}) && e.tabIndex >= 0 && !e.disabled)
  .map(e => [[...document.querySelectorAll('*')].indexOf(e), e.outerHTML.slice(0, 120)])"""


def rgb(colour):
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def luminance(colour):
    channels = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def contrast(first, second):
    """The ratio of two colours' luminances, as WCAG 2.2 defines it: 1 to 21."""
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def painted(colours, opacities):
    """The colour that one sees where colours lie over each other."""
    seen = rgb(colours[0])
    for colour, opacity in zip(colours[1:], opacities[1:], strict=True):
        seen = [opacity * above + (1 - opacity) * below for above, below in zip(rgb(colour), seen, strict=True)]
    return seen


def too_faint(texts):
    faint = []
    for text in texts:
        ratio = contrast(rgb(text["colour"]), painted(text["behind"], text["opacities"]))
        if ratio < 4.5:
            faint.append(f"{text['text']!r}: {ratio:.2f} to 1")
    return faint


def violations(page):
    """What axe finds that keeps somebody from reading or using the page."""
    page.evaluate(AXE)
    found = page.evaluate("async () => (await axe.run({resultTypes: ['violations']})).violations")
    return [
        f"{violation['id']} ({violation['impact']}): {node['html'][:150]} {node['failureSummary'][:200]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_opening_a_page_raises_no_complaint(wide, narrow):
    assert wide.complaints + narrow.complaints == []


def test_a_page_asks_no_third_party_for_anything(wide, narrow, site):
    requests = [url for url in wide.requests + narrow.requests if not url.startswith(("data:", "blob:"))]
    assert len(requests) > 2
    assert [url for url in requests if not url.startswith(f"{site}/")] == []


def test_every_formula_is_set(wide):
    formulas = wide.page.locator(".math")
    assert wide.page.locator(".math:not(:has(mjx-container))").count() == 0
    assert wide.page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert wide.page.locator("mjx-container").count() >= formulas.count()
    assert [text for text in wide.page.locator("mjx-assistive-mml").all_text_contents() if "\\" in text] == []


def test_no_formula_is_left_as_it_was_typed(wide):
    prose = wide.page.evaluate("""() => {
      const copy = document.querySelector('article').cloneNode(true);
      copy.querySelectorAll('pre, code, script, mjx-container, .sig').forEach(node => node.remove());
      return copy.textContent;
    }""")
    assert re.findall(r".{0,30}(?:\$|\\\(|\\\[|\\frac|\\begin).{0,30}", prose) == []


def test_every_figure_says_in_words_what_it_shows(wide):
    figures = wide.page.evaluate("""() => [...document.querySelectorAll('article svg[role=img]')].map(svg =>
      ['title', 'desc'].map(tag => svg.querySelector(`:scope > ${tag}`)?.textContent.trim() ?? ''))""")
    images = wide.page.evaluate("() => [...document.images].map(image => [image.src, image.getAttribute('alt')])")
    assert [figure for figure in figures if len(figure[0]) < 10 or len(figure[1]) < 30] == []
    assert wide.page.locator("article figure.ca-figure").count() <= len(figures)
    assert [source for source, alt in images if alt is None] == []
    assert wide.page.locator("article img:not([alt]), article img[alt='']").count() == 0


def test_no_two_things_on_a_page_share_an_id(wide):
    twice = wide.page.evaluate("""() => {
      const ids = [...document.querySelectorAll('[id]')].map(node => node.id);
      return ids.filter((id, place) => ids.indexOf(id) !== place);
    }""")
    assert twice == []


def test_the_text_of_figures_stands_out_in_both_themes(wide, narrow):
    light, dark = (visited.page.evaluate(TEXTS_OF_FIGURES) for visited in (wide, narrow))
    assert len(light) == len(dark)
    assert {"light": too_faint(light), "dark": too_faint(dark)} == {"light": [], "dark": []}


def test_the_text_of_figures_can_be_read_on_a_telephone(narrow):
    texts = narrow.page.evaluate(TEXTS_OF_FIGURES)
    assert [f"{text['text']!r}: {text['size']:.1f} px" for text in texts if text["size"] < LEAST_LETTER] == []


def test_a_narrow_page_never_scrolls_sideways(narrow):
    beyond = narrow.page.evaluate("""() => {
      if (document.documentElement.scrollWidth <= 360) return [];
      return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 361)
        .map(e => e.outerHTML.slice(0, 100));
    }""")
    assert beyond == []
    assert narrow.page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_the_theme_follows_the_machine(wide, narrow):
    colours = """() => [getComputedStyle(document.body).backgroundColor,
                       getComputedStyle(document.querySelector('article p')).color]"""
    pairs = [visited.page.evaluate(colours) for visited in (wide, narrow)]
    (light, dark_text), (dark, light_text) = pairs
    assert luminance(rgb(light)) > 0.9 > 0.05 > luminance(rgb(dark))
    assert contrast(rgb(light), rgb(dark_text)) > 7
    assert contrast(rgb(dark), rgb(light_text)) > 7


def test_axe_finds_nothing_serious(wide, narrow):
    assert violations(wide.page) + violations(narrow.page) == []


def test_the_keyboard_reaches_everything_in_order_and_is_seen(wide):
    """Last, because it opens what is folded: the Tab key, from the top of the page to its end."""
    page = wide.page
    page.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    wanted = dict(page.evaluate(CAN_BE_REACHED))
    reached = {}
    for step in range(2 * len(wanted) + 50):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None or focused["place"] in reached:
            break
        if step == 0:
            assert "skip" in focused["what"].lower()
        assert focused["ring"], f"no sign of the focus on {focused['what']}"
        reached[focused["place"]] = focused["what"]
    assert [what for place, what in wanted.items() if place not in reached] == []
    assert "search" in " ".join(reached.values()).lower()
    assert "theme-switch" in " ".join(reached.values())


def test_what_is_folded_opens_and_closes_with_the_enter_key(wide):
    for summary in wide.page.locator("article summary").all():
        states = []
        summary.focus()
        for _ in range(2):
            states.append(summary.evaluate("summary => summary.parentElement.open"))
            wide.page.keyboard.press("Enter")
        assert sorted(states) == [False, True]
        assert summary.evaluate("summary => summary.parentElement.open") == states[0]
