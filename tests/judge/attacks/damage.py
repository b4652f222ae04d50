"""Section B, what is handed in: files, folders and notebooks in a form that stops a grader, or earns by it."""

import copy
import json
import os

from tests.judge.attacks.attack import Outcome, attack


def _cell(notebook: dict, name: str) -> dict:
    return next(cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("grade_id") == name)


def _about(notebook: dict, name: str = "check-softmax") -> dict:
    return _cell(notebook, name)["metadata"]["nbgrader"]


def ungraded(outcome: Outcome) -> bool:
    """One who handed in a notebook was not graded, or others were not."""
    return not outcome.ended or bool(outcome.lost)


def _copied(notebook, folder):
    notebook["cells"].append(copy.deepcopy(_cell(notebook, "check-softmax")))


def _every_cell_twice(notebook, folder):
    notebook["cells"] += copy.deepcopy(notebook["cells"])


def _schema(version):
    return lambda notebook, folder: _about(notebook).update(schema_version=version)


def _not_graded(notebook, folder):
    _about(notebook)["grade"] = False


def _stripped(notebook, folder):
    for cell in notebook["cells"]:
        cell["metadata"] = {}


def _deleted(notebook, folder):
    notebook["cells"].remove(_cell(notebook, "check-softmax"))


def _manual(notebook, folder):
    _about(notebook).update(solution=True, locked=False, points=1000)
    _cell(notebook, "check-softmax")["source"] = "2.0"


def _claimed(notebook, folder):
    cell = _cell(notebook, "check-softmax")
    cell["outputs"] = [
        {"output_type": "execute_result", "data": {"text/plain": "2.0"}, "metadata": {}, "execution_count": 1}
    ]
    cell["source"] = "2.0"


def _markdown(notebook, folder):
    cell = _cell(notebook, "check-softmax")
    cell["cell_type"] = "markdown"
    cell.pop("outputs", None)
    cell.pop("execution_count", None)


def _another_kernel(notebook, folder):
    notebook["metadata"]["kernelspec"] = {"name": "../../bin/sh", "display_name": "sh", "language": "sh"}


def _file(name, content):
    return lambda notebook, folder: (folder / name).write_bytes(content)


def _raw(content):
    """Hand something else in as the notebook."""
    return _file("attention.ipynb", content)


def _sparse(name, size):
    def hand_in(notebook, folder):
        (folder / name).touch()
        os.truncate(folder / name, size)

    return hand_in


def _link(target):
    def hand_in(notebook, folder):
        (folder / "attention.ipynb").symlink_to(target)

    return hand_in


def _fifo(notebook, folder):
    os.mkfifo(folder / "attention.ipynb")


def _folder(notebook, folder):
    (folder / "attention.ipynb").mkdir()


def _nested(key):
    """A list in a list in a list ..., as deep as Python's JSON goes, where a name belongs."""

    def hand_in(notebook, folder):
        deep = "[" * 900 + "]" * 900
        text = json.dumps(notebook)
        (folder / "attention.ipynb").write_text(
            text.replace('"cell_type": "code"', f'"{key}": {deep}, "cell_type": "code"')
        )

    return hand_in


def _huge_number(notebook, folder):
    (folder / "attention.ipynb").write_text(json.dumps(notebook).replace('"nbformat": 4', '"nbformat": 4' + "0" * 5000))


def _format(major):
    def hand_in(notebook, folder):
        notebook["nbformat"] = major

    return hand_in


def _half_characters(notebook, folder):
    notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "id": "odd", "source": "half: \ud800"})


def _flood_of_cells(notebook, folder):
    cell = {"cell_type": "code", "metadata": {}, "source": "x = 1", "outputs": [], "execution_count": None}
    notebook["cells"] += [{**cell, "id": f"c{number}"} for number in range(3000)]


def _parts(notebook, folder):
    """Twenty megabytes of empty lists: each takes thirty times as much memory as it takes to write it."""
    (folder / "attention.ipynb").write_text('{"cells": [' + "[]," * 600_000 + "[]]}")


DAMAGED = (
    attack("a test cell copied, as happens innocently", "B", "nobody after is graded", damage=_copied, evidence=ungraded),
    attack("every cell twice", "B", "nobody after is graded", damage=_every_cell_twice, evidence=ungraded),
    attack("schema_version 1", "B", "nobody after is graded", damage=_schema(1), evidence=ungraded),
    attack("schema_version 99", "B", "nobody after is graded", damage=_schema(99), evidence=ungraded),
    attack("schema_version that is a text", "own", "that student ungraded", damage=_schema("x"), evidence=ungraded),
    attack("grade: false on a test cell", "B", "that student ungraded", damage=_not_graded, evidence=ungraded),
    attack("metadata stripped from all cells", "B", "no row of the gradebook is filled", damage=_stripped, evidence=ungraded),
    attack("a test cell deleted", "B", "its row is never filled", damage=_deleted, evidence=ungraded),
    attack("a test cell made into one that is marked by hand", "own", "an answer of one's own as the test", damage=_manual,
           evidence=ungraded),
    attack("nbformat 3 said of a notebook in format 4", "own", "that student ungraded", damage=_format(3), evidence=ungraded),
    attack("nbformat 99", "own", "that student ungraded", damage=_format(99), evidence=ungraded),
    attack("nbformat of five thousand digits", "own", "that student ungraded", damage=_huge_number, evidence=ungraded, human=True),
    attack("JSON cut short", "B", "that student ungraded", damage=_raw(b'{"cells": ['), evidence=ungraded, human=True),
    attack("NUL bytes for a notebook", "own", "that student ungraded", damage=_raw(bytes(1000)), evidence=ungraded, human=True),
    attack("worksheets of another form", "own", "the class stops", damage=_raw(b'{"worksheets": [{"cells": 5}]}'), evidence=ungraded),
    attack("a list in place of a notebook", "own", "that student ungraded", damage=_raw(b"[1, 2]"), evidence=ungraded),
    attack("lists nested where an id belongs", "own", "the class stops", damage=_nested("ident"), evidence=ungraded),
    attack("half a character in a cell", "own", "no file can hold it", damage=_half_characters, evidence=ungraded),
    attack("a fifo in place of the notebook", "own", "whoever opens it waits for ever", damage=_fifo, evidence=ungraded),
    attack("a folder in place of the notebook", "own", "that student ungraded", damage=_folder, evidence=ungraded),
    attack("a time stamp that is none", "A", "that student ungraded", damage=_file("timestamp.txt", b"soon"), evidence=ungraded),
    attack("a time stamp of two gigabytes", "own", "the grader's memory", damage=_sparse("timestamp.txt", 2**31), evidence=ungraded),
)  # fmt: skip
