"""What is handed out: generated from the solutions byte for byte, without an answer in it, and fairly graded."""

import ast
import textwrap
import tomllib

import nbformat
import pytest

from crossattn_ref.checks import exercises
from crossattn_ref.judge.assignment import IMPORTABLE
from sample_class import grade

SOLUTIONS = grade.ROOT / "solutions"
EXERCISES = grade.ROOT / "exercises"
ASSIGNMENTS = sorted(path.name for path in SOLUTIONS.iterdir() if path.is_dir())
NOTEBOOKS = sorted(path.relative_to(SOLUTIONS).as_posix() for path in SOLUTIONS.glob("*/*.ipynb"))
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def _cells(folder, notebook):
    return nbformat.read(folder / notebook, as_version=4).cells


def _solution_lines(source):
    """The lines inside the solution regions, and those outside."""
    inside, outside, within = set(), set(), False
    for line in map(str.strip, source.splitlines()):
        if line in (BEGIN, END):
            within = line == BEGIN
        elif line:
            (inside if within else outside).add(line)
    return inside, outside


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_release_is_what_the_solutions_generate_byte_for_byte(graded, assignment):
    generated = _files(graded(assignment).folder / "exercises" / assignment)
    committed = _files(EXERCISES / assignment)
    assert set(committed) == set(generated)
    changed = [str(path) for path in generated if generated[path] != committed[path]]
    assert not changed, f"run 'make exercises': {changed}"


def test_every_released_assignment_has_its_source():
    assert sorted(path.name for path in EXERCISES.iterdir()) == ASSIGNMENTS


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_line_of_a_solution_is_released(notebook):
    split = [_solution_lines(cell.source) for cell in _cells(SOLUTIONS, notebook)]
    inside, outside = (set().union(*lines) for lines in zip(*split, strict=True))
    released = {line.strip() for cell in _cells(EXERCISES, notebook) for line in cell.source.splitlines()}
    assert inside, "a notebook without a solution region"
    assert not (inside - outside) & released
    text = (EXERCISES / notebook).read_text()
    assert not [line for line in inside - outside if len(line) > 20 and line in text]
    assert "SOLUTION" not in text


def test_a_file_beside_the_solutions_is_not_released(tmp_path):
    course = tmp_path / "course"
    grade.prepare(course, "attention")
    before = _files(course / "exercises")
    for name in ("answers.py", "notes.md"):
        (course / "solutions" / "attention" / name).write_text("the answer")
    grade.nbgrader(course, "generate_assignment", "attention", "--force")
    assert _files(course / "exercises") == before


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_solutions_hold_no_outputs_and_their_cells_are_named(notebook):
    for cell in _cells(SOLUTIONS, notebook):
        assert cell.id == cell.metadata.nbgrader.grade_id
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def _imported(source):
    """The modules that a cell imports, magics left out."""
    code = "\n".join("pass" if line.lstrip().startswith("%") else line for line in source.splitlines())
    for node in ast.walk(ast.parse(textwrap.dedent(code))):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_solution_imports_its_answer(notebook):
    code = [cell.source for cell in _cells(SOLUTIONS, notebook) if cell.cell_type == "code"]
    given = {"crossattn_ref.checks"} | {
        f"crossattn_ref.{file.removesuffix('.py').replace('/', '.')}"
        for file in IMPORTABLE.get(notebook.split("/")[0], ())
    }
    ours = {module for source in code for module in _imported(source) if module.startswith("crossattn_ref")}
    assert ours <= given
    inside = set().union(*(_solution_lines(source)[0] for source in code))
    assert not [line for line in inside if "crossattn_ref" in line or "import_module" in line]


def _check_call(cell):
    """The arguments of the one call that a graded cell makes: name, answer, points."""
    statement = ast.parse(cell.source).body[-1]
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert statement.value.func.id == "check"
    name, answer = statement.value.args
    (points,) = statement.value.keywords
    return name.value, answer.id, points.value.value


def _graded_cells(notebook):
    return [cell for cell in _cells(SOLUTIONS, notebook) if cell.metadata.nbgrader.grade]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_check_shows_the_points_that_the_gradebook_gives(notebook):
    automatic = [cell for cell in _graded_cells(notebook) if cell.cell_type == "code"]
    assert automatic
    for cell in automatic:
        name, answer, points = _check_call(cell)
        assert cell.metadata.nbgrader.locked
        assert points == cell.metadata.nbgrader.points
        assert name == f"{notebook.split('/')[0]}/{answer}"
        assert name in exercises()
        assert cell.id == f"check-{answer}"


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_the_core_of_an_assignment_totals_ten_automatic_points_and_asks_at_most_one_question(assignment):
    core = [name for name in NOTEBOOKS if name.startswith(f"{assignment}/") and not name.endswith("/stretch.ipynb")]
    graded_cells = [cell for notebook in core for cell in _graded_cells(notebook)]
    assert sum(cell.metadata.nbgrader.points for cell in graded_cells if cell.cell_type == "code") == 10
    assert sum(cell.cell_type == "markdown" for cell in graded_cells) <= 1


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_setup_cell_names_the_release_of_the_package(notebook):
    setup = next(cell for cell in _cells(SOLUTIONS, notebook) if cell.id == "setup")
    version = tomllib.loads((grade.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f'RELEASE = "{version}"' in setup.source


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_a_solution_earns_every_automatic_point(graded, assignment):
    result = graded(assignment).results["the-solutions"]
    possible = {
        cell.id: cell.metadata.nbgrader.points
        for notebook in NOTEBOOKS
        if notebook.startswith(f"{assignment}/")
        for cell in _graded_cells(notebook)
        if cell.cell_type == "code"
    }
    assert {**result.core, **result.stretch} == possible
    assert not result.reasons


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_what_is_handed_out_earns_nothing_and_is_told_so(graded, assignment):
    result = graded(assignment).results["as-handed-out"]
    earned = {**result.core, **result.stretch}
    assert set(earned.values()) == {0}
    assert set(result.reasons) == set(earned)
    assert all("not written yet" in reason for reason in result.reasons.values()), result.reasons
