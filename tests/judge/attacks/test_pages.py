"""Pages: what a learner wrote runs on stock nbgrader's feedback, and is only text on ours."""

import functools
from pathlib import Path

import nbconvert
import nbformat
import nbgrader
import pytest
from bs4 import BeautifulSoup
from nbgrader.converters import GenerateFeedback
from nbgrader.coursedir import CourseDirectory
from nbgrader.server_extensions.formgrader.formgrader import FormgradeExtension
from traitlets.config import Config

import crossattn_ref.judge
from crossattn_ref.judge import plugins
from crossattn_ref.judge.plugins import Quiet
from crossattn_ref.judge.verdict import Ran, Verdict

PAYLOADS = {
    "a script": "<script>alert(1)</script>",
    "an image that fails": "<img src=x onerror=alert(1)>",
    "an SVG that loads": "<svg onload=alert(1)></svg>",
    "a frame": '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    "a style that hides marks": "<style>body { display: none }</style>",
    "a style that asks a third party": "<style>@import url(http://127.0.0.1/a.css);</style>",
    "a link that is code": "[the solution](javascript:alert(1))",
    "a link tag": '<link rel="stylesheet" href="http://127.0.0.1/a.css">',
    "a page that goes elsewhere": '<meta http-equiv="refresh" content="0; url=http://127.0.0.1/">',
    "an object": '<object data="data:text/html,<script>alert(1)</script>"></object>',
    "a form": '<form action="http://127.0.0.1/"><input name="password"></form>',
    "a picture that counts who looks": "![](http://127.0.0.1/seen.png)",
    "a base for all links": '<base href="http://127.0.0.1/">',
}
STOCK = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"
ROOT = Path(crossattn_ref.judge.__file__).parents[2]
OURS = Path(crossattn_ref.judge.__file__).parent / "templates"


def page(payload, template, folder, quiet=lambda notebook: notebook):
    """Render a notebook with a payload wherever a learner can write."""
    config = Config()
    config.HTMLExporter.template_name = template
    config.HTMLExporter.extra_template_basedirs = [str(folder)]
    config.HTMLExporter.extra_template_paths = [
        str(STOCK.parent / "static" / "node_modules" / "bootstrap" / "dist" / "css")
    ]
    new = nbformat.v4
    code = new.new_code_cell(f"# {payload}", id="code")
    code.outputs = [
        new.new_output("stream", text=payload, name="stdout"),
        new.new_output("error", ename="E", evalue=payload, traceback=[payload]),
        new.new_output("display_data", {"text/html": payload, "image/svg+xml": payload, "text/markdown": payload}),
        new.new_output("display_data", {"text/plain": payload, "image/png": '"><script>alert(1)</script>'}),
    ]
    notebook = new.new_notebook(cells=[new.new_markdown_cell(payload, id="words"), code])
    about = {"notebook": payload, "score": 0, "max_score": 2, "late_penalty": 0}
    resources = {"nbgrader": about, "metadata": {"name": payload}}
    resources |= dict.fromkeys(("base_url", "notebook_path", "last_name", "first_name", "student"), "x")
    resources |= {"notebook_id": "x", "assignment_id": "x", "submission_id": "x", "index": 0, "total": 1}
    return nbconvert.HTMLExporter(config=config).from_notebook_node(quiet(notebook), resources)[0]


def active(html, payload=""):
    """Find what of a page would do something: scripts, handlers, frames, forms, links to code or to elsewhere."""
    soup = BeautifulSoup(html, "html.parser")
    found = soup.find_all(["script", "iframe", "object", "embed", "form", "link", "base", "svg"])
    found += [tag for tag in soup.find_all("meta") if tag.get("http-equiv", "").lower() == "refresh"]
    found += [tag for tag in soup.find_all("style") if payload and payload in str(tag)]
    for tag in soup.find_all(True):
        if any(name.startswith("on") for name in tag.attrs):
            found.append(tag)
        goes = [str(tag.get(name, "")) for name in ("href", "src", "action", "data", "srcdoc")]
        loads = () if tag.name == "a" else ("http:", "https:", "//")  # a link waits for a click
        found += [tag for to in goes if to.startswith(("javascript:", "data:text", *loads))]
    return [str(tag) for tag in found]


@functools.cache
def _nothing(template):
    """Find what is active on a page of stock nbgrader's as it comes."""
    return set(active(page("nothing", template, STOCK)))


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_what_a_learner_wrote_is_only_text_on_a_page_of_feedback(payload):
    nothing = _nothing("feedback")
    assert set(active(page(payload, "feedback", STOCK), payload)) - nothing
    assert active(page(payload, "course-feedback", OURS), payload) == []


def _judged(notebook, payload):
    """Write the outputs as the judge does, where a cell printed a payload and raised it."""
    verdict = Verdict(cells={"code": Ran(said=payload, error=f"ValueError: {payload}")})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            plugins._write(cell, verdict)
    return _quiet(notebook)


def _quiet(notebook):
    return Quiet().preprocess(notebook, {})[0]


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_what_a_learner_wrote_does_nothing_on_the_page_that_is_marked(payload):
    """The formgrader renders Markdown with all its HTML, on the origin that holds the gradebook."""
    nothing = _nothing("formgrade")
    assert set(active(page(payload, "formgrade", STOCK), payload)) - nothing
    found = page(payload, "formgrade", STOCK, lambda notebook: _judged(notebook, payload))
    assert set(active(found, payload)) - nothing == set()


@pytest.mark.parametrize(
    "text", ["a < b and $x<y$", "*no* **more**", "`a[0]` and [a]", "- one\n- two", "d <5", "f[i] (x)"]
)
def test_words_and_formulas_stay_as_they_are(text):
    cell = nbformat.v4.new_markdown_cell(text)
    assert _quiet(nbformat.v4.new_notebook(cells=[cell])).cells[0].source.replace("\u200b", "") == text
    given = nbformat.v4.new_markdown_cell("[a](b)", metadata={"nbgrader": {"locked": True}})
    assert _quiet(nbformat.v4.new_notebook(cells=[given])).cells[0].source == "[a](b)"


def test_feedback_has_our_template_and_the_formgrader_keeps_its_own():
    """Both read the course's configuration; on a page of feedback nobody could enter a mark."""
    formgrader = FormgradeExtension()
    formgrader.root_dir = str(ROOT)
    formgrader.initialize([], root=str(ROOT))
    assert nbconvert.HTMLExporter(config=formgrader.config).template_name == "formgrade"
    course = CourseDirectory(root=str(ROOT))
    feedback = GenerateFeedback(coursedir=course, config=formgrader.config)
    exporter = nbconvert.HTMLExporter(parent=feedback, config=feedback.config)
    assert exporter.template_name == "course-feedback"
    assert str(OURS) in exporter.extra_template_basedirs
