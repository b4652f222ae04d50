"""What was handed in under another name, elsewhere or not at all ends in a state with a reason, and nothing raises."""

import json
import os
import shutil
from pathlib import Path

import pytest

from crossattn_ref.judge.staging import releases, stage

ROOT = Path(__file__).resolve().parents[2]
SUBJECT = "attention"
NOTEBOOK = (ROOT / "exercises" / SUBJECT / f"{SUBJECT}.ipynb").read_text("utf-8")


@pytest.fixture
def folder(tmp_path):
    """Where ada has handed in nothing yet, in a course with one assignment of one notebook."""
    place = tmp_path / "exercises" / SUBJECT
    place.mkdir(parents=True)
    (place / f"{SUBJECT}.ipynb").write_text(NOTEBOOK, "utf-8")
    hers = tmp_path / "submitted" / "ada" / SUBJECT
    hers.mkdir(parents=True)
    return hers


def staged(folder):
    course = folder.parents[2]
    (found,) = stage(course, SUBJECT, "ada", releases(course, SUBJECT), course / "staged")
    return found


@pytest.mark.parametrize("name", ["attention.ipynb.txt", "attention.json", "attention.IPYNB", "attention (1).ipynb"])
def test_a_notebook_that_a_browser_has_renamed_is_found_by_its_cells(folder, name):
    (folder / name).write_text(NOTEBOOK, "utf-8")
    assert (staged(folder).state, staged(folder).remarks) == ("renamed", [f"found as {name}"])


def packed(folder):
    shutil.make_archive(str(folder / "homework"), "zip", ROOT / "exercises" / SUBJECT)


def one_folder_down(folder):
    (folder / SUBJECT).mkdir()
    (folder / SUBJECT / f"{SUBJECT}.ipynb").write_text(NOTEBOOK, "utf-8")


def as_a_script(folder):
    (folder / "attention.py").write_text("def softmax(x): ...")


@pytest.mark.parametrize("hand_in", [packed, one_folder_down, as_a_script], ids=lambda f: f.__name__)
def test_work_that_is_no_notebook_in_its_place_is_not_taken_for_nothing(folder, hand_in):
    hand_in(folder)
    found = staged(folder)
    assert found.state == "misplaced"
    assert f"no notebook in {SUBJECT}, but: {next(folder.iterdir()).name}" in found.remarks[0]


@pytest.mark.parametrize("beside", ["timestamp.txt", ".DS_Store"])
def test_nothing_is_nothing_also_beside_what_a_machine_has_left(folder, beside):
    (folder / beside).write_text("2026-11-27 22:00:00 UTC")
    assert staged(folder).state == "missing"


@pytest.mark.parametrize("content", ["{}", '{"url": "https://example.org", "doc_id": "1"}', '{"cells": []}'])
def test_what_is_no_notebook_although_it_can_be_read_is_called_unreadable(folder, content):
    (folder / f"{SUBJECT}.ipynb").write_text(content)
    found = staged(folder)
    assert found.state == "unreadable"
    assert "cells 0 are there: is it another notebook?" in found.remarks[0]


def test_so_is_a_notebook_of_another_assignment(folder):
    shutil.copy(ROOT / "exercises" / "masks" / "masks.ipynb", folder / f"{SUBJECT}.ipynb")
    assert "is it another notebook?" in staged(folder).remarks[0]
    assert staged(folder).state == "unreadable"


def test_a_notebook_without_any_of_its_texts_is_as_good_as_whole(folder):
    notebook = json.loads(NOTEBOOK)
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (folder / f"{SUBJECT}.ipynb").write_text(json.dumps(notebook))
    assert staged(folder).state == "ready"


def test_a_folder_that_may_not_be_read_is_refused_with_the_remedy(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    if os.getuid() == 0:  # whom no mode keeps out
        monkeypatch.setattr(Path, "iterdir", denied)
    folder.chmod(0)
    try:
        found = staged(folder)
    finally:
        folder.chmod(0o755)
    assert found.state == "refused"
    assert found.remarks == ["the folder cannot be read (Permission denied): give access to it"]
