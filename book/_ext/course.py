"""What the book needs of Sphinx beyond settings.

Outputs that follow the package, docstrings that are plain sentences, launch buttons that work, HTML that is valid.
"""

import hashlib
import importlib
import re
import shutil
from pathlib import Path


def setup(app):
    app.add_config_value("course_static", "", "html")  # pages are written again when it changes
    app.connect("config-inited", _follow_the_package)
    app.connect("config-inited", _follow_the_style)
    app.connect("config-inited", _know_the_fonts)
    app.connect("autodoc-process-docstring", _plain_sentences)
    app.connect("html-page-context", _launch_notebooks_only, priority=502)  # the theme adds its buttons at 501
    app.connect("html-page-context", _mend_html)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def digest_of(folder: Path) -> str:
    """Hash what a folder holds: the names and bytes of its files, compiled ones left out."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def _follow_the_package(app, config):
    """Keep the outputs of chapters under the hash of the package that made them, and drop those of another one.

    The path is a setting that Sphinx reads pages again for, so an edited package also outdates the pages it remembers.
    """
    root = Path(app.outdir).parent / ".jupyter_cache"
    current = root / digest_of(Path(app.confdir) / "crossattn_ref")
    for outdated in root.glob("*"):
        if outdated != current:
            shutil.rmtree(outdated) if outdated.is_dir() else outdated.unlink()
    config.nb_execution_cache_path = str(current)


def _follow_the_style(app, config):
    """Let an edited style sheet or script outdate the pages: Sphinx copies neither where no page has changed."""
    config.course_static = digest_of(Path(app.confdir) / "book" / "_static")


def _know_the_fonts(_app, _config):
    """Have matplotlib list the fonts here: a chapter that does it first says so on stderr, and stops the build."""
    importlib.import_module("matplotlib.font_manager")


def _plain_sentences(_app, _what, _name, _obj, _options, lines):
    """Show a docstring as it was written: no sign in it is markup, and what ends a line in the source ends it here.

    A line that breaks off inside a sentence, where the source had no room left, runs on.
    """
    text = re.sub(r"([\\*`|])", r"\\\1", "\n".join(lines)).replace("_ ", "\\_ ")
    paragraphs = [re.sub(r"(?<![.:;])\n", " ", paragraph) for paragraph in text.strip().split("\n\n")]
    lines[:] = "\n\n".join("| " + paragraph.replace("\n", "\n| ") for paragraph in paragraphs).splitlines()


def _launch_notebooks_only(app, pagename, _templatename, context, _doctree):
    """Take the launch button from chapters: Colab opens .ipynb files, and a chapter is Markdown."""
    if not str(app.env.doc2path(pagename)).endswith(".ipynb"):
        buttons = context.get("header_buttons", [])
        context["header_buttons"] = [button for button in buttons if button.get("label") != "launch-buttons"]


def _mend_html(_app, _pagename, _templatename, context, _doctree):
    """Mend what extensions write: a fold is named by its words, a list of works holds items, an id stands once."""
    mended = {
        ' aria-label="Toggle hidden content"': "",
        ' role="doc-biblioentry"': ' role="listitem"',
        ' id="exercise-content"': "",
        ' id="solution-content"': "",
    }
    for wrong, right in mended.items():
        context["body"] = context.get("body", "").replace(wrong, right)
