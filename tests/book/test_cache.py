"""A chapter's outputs are kept while the package is the same, and only then."""

import shutil

import pytest

CHAPTER = """\
---
file_format: mystnb
kernelspec: {name: python3}
---

# A chapter

```{code-cell}
import numpy as np
from crossattn_ref.attention.reference import attention_weights

print("weights:", attention_weights(np.full((1, 4), 2.0), np.eye(2, 4)[:, ::-1] * [[1.0], [3.0]]).round(3))
```
"""
RIGHT, WRONG = "/ np.sqrt(q.shape[-1])  # (*batch, Nq, Nk)", "/ q.shape[-1]  # (*batch, Nq, Nk)"


@pytest.fixture
def small_book(root, tmp_path, monkeypatch):
    """A book of one chapter, with the real settings and a copy of the package that its cells import."""
    source = tmp_path / "course"
    for folder in ("book/_ext", "book/_static", "crossattn_ref"):
        shutil.copytree(root / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "mathjax"))
    for file in ("_config.yml", "book/references.bib"):
        shutil.copy(root / file, source / file)
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/index\n", encoding="utf-8")
    (source / "book" / "index.md").write_text(CHAPTER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(source))
    return source


def test_editing_the_package_runs_the_chapters_again(small_book, build, tmp_path):
    def built():
        result = build(small_book, tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        page = (tmp_path / "_build" / "html" / "book" / "index.html").read_text(encoding="utf-8")
        return page.split("weights:")[-1].split("</")[0], "Executing notebook" in result.stdout

    before, executed = built()
    assert executed
    (small_book / "book" / "index.md").write_text(CHAPTER + "\nOne more sentence.\n", encoding="utf-8")
    assert built() == (before, False)

    module = small_book / "crossattn_ref" / "attention" / "reference.py"
    text = module.read_text(encoding="utf-8")
    assert RIGHT in text
    module.write_text(text.replace(RIGHT, WRONG), encoding="utf-8")
    after, executed = built()
    assert executed
    assert after != before
