import copy
import json
import random
import secrets
from pathlib import Path

import nbformat
import pytest

from crossattn_ref.judge.repair import repaired

ROOT = Path(__file__).resolve().parents[2]
RELEASE = nbformat.read(ROOT / "exercises" / "attention" / "attention.ipynb", as_version=4)
ANSWER = "def softmax(x):\n    return 'mine'"


def handed_in():
    """The release with softmax answered, as parsed JSON."""
    notebook = json.loads(nbformat.writes(RELEASE))
    _cell(notebook, "softmax")["source"] = ANSWER
    return notebook


def _cell(notebook, name):
    return next(c for c in notebook["cells"] if c.get("metadata", {}).get("nbgrader", {}).get("grade_id") == name)


def answer(result, name="softmax"):
    return next(c.source for c in result.notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name)


def test_a_sound_submission_comes_through_without_a_remark():
    result = repaired(handed_in(), RELEASE)
    assert result.remarks == []
    assert answer(result) == ANSWER
    assert [cell.id for cell in result.notebook.cells] == [cell.id for cell in RELEASE.cells]


def duplicate_check(notebook):
    notebook["cells"].append(copy.deepcopy(_cell(notebook, "check-softmax")))


def duplicate_answer(notebook):
    twin = copy.deepcopy(_cell(notebook, "softmax"))
    _cell(notebook, "softmax")["source"] = "def softmax(x):\n    return 'an older one'"
    notebook["cells"].append(twin)


def rename(notebook):
    _cell(notebook, "softmax")["metadata"]["nbgrader"]["grade_id"] = "my-softmax"


def retype_answer(notebook):
    _cell(notebook, "softmax")["cell_type"] = "markdown"


def retype_check(notebook):
    _cell(notebook, "check-softmax")["cell_type"] = "raw"


def delete_check(notebook):
    notebook["cells"].remove(_cell(notebook, "check-softmax"))


def strip_metadata(notebook):
    for cell in notebook["cells"]:
        cell["metadata"] = {}


def strip_ids(notebook):
    strip_metadata(notebook)
    for cell in notebook["cells"]:
        del cell["id"]


def old_schema(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].get("nbgrader", {})["schema_version"] = 1


def new_schema(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].get("nbgrader", {})["schema_version"] = 99


def not_graded(notebook):
    _cell(notebook, "check-softmax")["metadata"]["nbgrader"]["grade"] = False


def thousand_points(notebook):
    _cell(notebook, "check-softmax")["metadata"]["nbgrader"]["points"] = 1000


def edit_check(notebook):
    _cell(notebook, "check-softmax")["source"] = "2.0"


def unlock(notebook):
    for cell in notebook["cells"]:
        cell["metadata"].get("nbgrader", {})["locked"] = False


def source_as_text(notebook):
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])


def junk_cells(notebook):
    notebook["cells"][2:2] = [None, 3, "text", {}, {"cell_type": "code"}, {"source": 7}, {"metadata": []}]


def lone_surrogate(notebook):
    notebook["cells"].append({"cell_type": "code", "source": "'\ud800'", "metadata": {}})


def old_worksheets(notebook):
    notebook["worksheets"] = [{"cells": notebook.pop("cells")}]


MENDED = [
    duplicate_check, duplicate_answer, rename, retype_answer, retype_check, delete_check, strip_metadata, strip_ids,
    old_schema, new_schema, not_graded, thousand_points, edit_check, unlock, source_as_text, junk_cells,
    lone_surrogate, old_worksheets,
]  # fmt: skip


@pytest.mark.parametrize("damage", MENDED, ids=lambda f: f.__name__)
def test_whatever_happened_to_the_cells_the_answer_is_found_and_the_rest_is_as_released(damage):
    notebook = handed_in()
    damage(notebook)
    result = repaired(notebook, RELEASE)
    nbformat.validate(result.notebook)
    assert answer(result) == ANSWER
    skeleton = [cell for cell in result.notebook.cells if "nbgrader" in cell.metadata]
    assert [c.metadata.nbgrader for c in skeleton] == [c.metadata.nbgrader for c in RELEASE.cells]
    locked = {c.id: c.source for c in RELEASE.cells if c.metadata.nbgrader.locked}
    assert {c.id: c.source for c in skeleton if c.id in locked} == locked
    json.dumps(nbformat.writes(result.notebook)).encode("utf-8")


def test_every_mended_answer_leaves_a_remark():
    for damage in (duplicate_answer, rename, retype_answer, delete_check, strip_ids):
        notebook = handed_in()
        damage(notebook)
        assert repaired(notebook, RELEASE).remarks, damage.__name__


def test_a_learners_own_cells_stay_behind_the_cell_that_they_followed():
    notebook = handed_in()
    at = notebook["cells"].index(_cell(notebook, "softmax"))
    notebook["cells"].insert(at, {"cell_type": "code", "source": "helper = 1", "metadata": {}, "id": "h"})
    cells = [c.source for c in repaired(notebook, RELEASE).notebook.cells]
    assert cells.index("helper = 1") == cells.index(ANSWER) - 1


def test_all_pieces_of_a_cell_that_was_split_run_in_their_order():
    """JupyterLab gives the metadata of the whole to each piece, and the last piece may hold no answer at all."""
    notebook = handed_in()
    whole = _cell(notebook, "softmax")
    pieces = ["def shifted(x):\n    return x - x.max(-1, keepdims=True)", ANSWER, "softmax(np.ones(3))"]
    at = notebook["cells"].index(whole)
    notebook["cells"][at : at + 1] = [{**copy.deepcopy(whole), "source": source} for source in pieces]
    result = repaired(notebook, RELEASE)
    sources = [cell.source for cell in result.notebook.cells]
    at = sources.index(pieces[0])
    assert sources[at : at + 4] == [*pieces, answer(result, "check-softmax")]
    assert sum(ANSWER in source for source in sources) == 1
    nbformat.validate(result.notebook)


def test_what_a_learner_imports_in_a_locked_cell_is_imported_and_the_rest_of_it_is_as_released():
    notebook = handed_in()
    _cell(notebook, "setup")["source"] = [*_cell(notebook, "setup")["source"], "\nimport math\n", "check = print\n"]
    cells = repaired(notebook, RELEASE).notebook.cells
    at = next(i for i, cell in enumerate(cells) if cell.id == "setup")
    assert cells[at].source == next(cell.source for cell in RELEASE.cells if cell.id == "setup")
    assert cells[at + 1].source == "import math"
    assert not any("check = print" in cell.source for cell in cells)


def test_it_is_told_how_many_cells_of_the_release_were_found():
    whole = repaired(handed_in(), RELEASE)
    assert whole.found == whole.of == len(RELEASE.cells)
    assert (repaired({"cells": []}, RELEASE).found, repaired(None, RELEASE).found) == (0, 0)


def test_an_answer_that_was_left_out_is_the_stub_and_is_told():
    notebook = handed_in()
    notebook["cells"].remove(_cell(notebook, "softmax"))
    result = repaired(notebook, RELEASE)
    assert "NotImplementedError" in answer(result)
    assert "cell softmax: missing" in result.remarks


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        [],
        3,
        "x",
        {},
        {"cells": {}},
        {"cells": None},
        {"worksheets": [3]},
        {"worksheets": [{"cells": 5}]},
        {"cells": None, "worksheets": [{"cells": None}]},
        {"worksheets": {}},
    ],
    ids=str,
)
def test_what_is_no_notebook_gives_the_release_as_it_was(nothing):
    result = repaired(nothing, RELEASE)
    assert [c.source for c in result.notebook.cells] == [c.source for c in RELEASE.cells]
    assert result.remarks


@pytest.mark.parametrize("name", [5, ["softmax"], {"softmax": 1}, None, True], ids=str)
def test_a_name_of_another_form_names_nothing(name):
    notebook = handed_in()
    for cell in notebook["cells"]:
        cell["id"] = name
        cell["metadata"]["nbgrader"] = {"grade_id": name}
    result = repaired(notebook, RELEASE)
    assert answer(result) == ANSWER  # found by the function that it defines
    nbformat.validate(result.notebook)


def test_no_parser_meets_a_strangers_code(monkeypatch):
    monkeypatch.setattr("builtins.compile", None)  # what ast.parse calls
    notebook = handed_in()
    cell = _cell(notebook, "softmax")
    cell["metadata"], cell["id"] = {}, "other"
    assert answer(repaired(notebook, RELEASE)) == ANSWER


def test_a_flood_of_cells_and_of_text_is_cut():
    notebook = handed_in()
    notebook["cells"] += [{"cell_type": "code", "source": "x = 1", "metadata": {}}] * 5000
    notebook["cells"].insert(0, {"cell_type": "code", "source": "#" * 10_000_000, "metadata": {}})
    result = repaired(notebook, RELEASE)
    assert len(result.notebook.cells) < 600
    assert sum(len(c.source) for c in result.notebook.cells) < 3_000_000
    assert answer(result) == ANSWER


def test_random_damage_never_raises_and_always_gives_a_valid_notebook():
    seed = secrets.randbelow(2**32)  # shown with a failure, as every local name is
    rng = random.Random(seed)
    for _ in range(60):
        notebook = handed_in()
        for _ in range(rng.randrange(1, 6)):
            _scramble(notebook, rng)
        nbformat.validate(repaired(notebook, RELEASE).notebook)


def _scramble(node, rng):
    """Replace a random part of a JSON tree by something else."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if not keys:
            return
        key = rng.choice(keys)
        if rng.random() < 0.4 or not isinstance(node[key], dict | list):
            node[key] = rng.choice([None, 0, "", "x", [], {}, True, {"source": []}, [[]]])
            return
        node = node[key]
