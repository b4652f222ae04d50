"""The house: its files, what a bare machine needs, versions that agree, commands that exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from crossattn_ref.checks import exercises
from crossattn_ref.checks.table import ELSEWHERE

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
MADE = {".git", ".venv", "_build", "__pycache__", ".hypothesis", ".ipynb_checkpoints", "node_modules"}

REQUIRED = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "LICENSE-TEXT", "Makefile",
    "pyproject.toml", "constraints.txt", "_config.yml", "_toc.yml", "nbgrader_config.py", ".ci/run",
    ".pre-commit-config.yaml", ".editorconfig", ".gitignore", ".gitattributes", ".github/workflows/tests.yml",
    ".github/workflows/pages.yml", "book", "exercises", "solutions", "crossattn_ref", "sample_class", "tests",
]  # fmt: skip

# In two parts, so that this file does not name them either.
REGISTRIES = [f"{name}.{top}" for name, top in [
    ("pypi", "org"), ("pythonhosted", "org"), ("download.pytorch", "org"), ("anaconda", "org"),
    ("registry.npmjs", "org"), ("registry.yarnpkg", "com"), ("crates", "io"),
]]  # fmt: skip


def _files():
    """Every file of the project that is not made by a command."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in MADE and not name.endswith(("_cache", ".egg-info"))]
        yield from (Path(folder) / name for name in names)


def _text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("name", REQUIRED)
def test_the_house_has_its_parts(name):
    assert (ROOT / name).exists()


def test_no_file_names_a_package_registry():
    named = [
        (path.relative_to(ROOT).as_posix(), host) for path in _files() for host in REGISTRIES if host in _text(path)
    ]
    assert not named


# With NumPy alone.

ALONE = """
import sys
import crossattn_ref
from crossattn_ref.attention import reference as numpy_side
from crossattn_ref.checks import check, examine, exercises, misconceptions, reference

for name in sys.argv[1:]:
    assert examine(name, reference(name)).score == 1, name
    assert all(examine(name, m.wrong).score < 1 for m in misconceptions(name)[:2]), name
    assert check(name, reference(name), points=2) == 2
"""


@pytest.fixture
def numpy_alone(tmp_path):
    """Return a function that runs a program where NumPy and crossattn_ref are the only packages there are."""
    site = Path(np.__file__).parents[1]
    for package in [*site.glob("numpy"), *site.glob("numpy.libs"), ROOT / "crossattn_ref"]:
        (tmp_path / package.name).symlink_to(package, target_is_directory=True)

    def run(program, *arguments):
        start = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        command = [sys.executable, "-I", "-S", "-W", "error", "-c", start + program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def _numpy_exercises():
    """The exercises in the modules that the contract on imports lists as free of torch."""
    (contract,) = (c for c in SETTINGS["tool"]["importlinter"]["contracts"] if c["id"] == "torch-free")
    modules = [m.removeprefix("crossattn_ref.checks.") for m in contract["source_modules"] if ".checks." in m]
    return [name for name in exercises() if ELSEWHERE.get(name, name.split("/")[0]).replace("-", "_") in modules]


def test_the_numpy_side_and_its_checks_work_with_numpy_alone(numpy_alone):
    assert "attention/softmax" in _numpy_exercises()
    run = numpy_alone(ALONE, *_numpy_exercises())
    assert run.returncode == 0, run.stderr
    assert not run.stderr


@pytest.mark.parametrize("package", ["torch", "matplotlib", "pytest", "nbformat"])
def test_with_numpy_alone_nothing_else_can_be_imported(numpy_alone, package):
    run = numpy_alone(f"import {package}")
    assert "ModuleNotFoundError" in run.stderr


# Versions and pins.


def test_the_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert str(citation["version"]) == PROJECT["version"]
    assert latest.group(1) == PROJECT["version"]


def test_the_addresses_of_the_repository_agree():
    address = PROJECT["urls"]["Repository"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["repository-code"] == address
    assert f"git clone {address}\n" in (ROOT / "README.md").read_text()
    for notebook in (ROOT / "solutions").glob("*/*.ipynb"):
        assert f"git+{address}@v" in notebook.read_text()


def test_every_pin_is_exact_and_every_requirement_has_one_that_satisfies_it():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    pinned = {canonicalize_name(pin.split("==")[0]): pin.split("==")[1] for pin in pins}
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), str(requirement)


def test_the_package_itself_requires_numpy_alone():
    assert [Requirement(requirement).name for requirement in PROJECT["dependencies"]] == ["numpy"]


# Changes and commands.


def test_every_change_says_what_it_changes():
    text = (ROOT / "CHANGELOG.md").read_text()
    releases = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert releases
    for release in releases:
        heading, _, body = release.partition("\n")
        assert re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|\d{4}-\d\d-\d\d)\)", heading)
        entries = [line for line in body.splitlines() if line and not line.startswith("  ")]
        assert entries
        assert all(re.match(r"- (book|exercises|ref|grading): \S", entry) for entry in entries)


def _targets():
    makefile = (ROOT / "Makefile").read_text()
    return set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_of_the_documents_exists(page):
    named = re.findall(r"(?:^|`|&& |> |=1 )make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE)
    assert named
    assert set(named) <= _targets()


def test_make_help_names_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make (\w+)", shown, re.MULTILINE)) == _targets() - {"help", "browser"}


def test_the_tree_in_the_readme_names_what_there_is():
    tree = (ROOT / "README.md").read_text().split("## Where things are")[1].split("```")[1]
    named = [line.split()[0] for line in tree.strip().splitlines()]
    assert all((ROOT / name).exists() for name in named if name != "_build/")
    assert len(named) == 10


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_the_documents_name_exists(page):
    named = re.findall(
        r"`((?:\.\w+/)?[\w./-]+\.(?:md|toml|txt|py|yml|cff|ipynb)|LICENSE[\w-]*|\.ci/run)`", _text(ROOT / page)
    )
    made = {"grades.csv", "summary.txt", "gradebook.db"}
    assert named
    assert not [name for name in named if not (ROOT / name).exists() and Path(name).name not in made]


def test_the_workflows_run_the_same_commands_as_a_person():
    for name, command in (("tests", ".ci/run"), ("pages", "make book")):
        jobs = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"]
        steps = [step for job in jobs.values() for step in job["steps"]]
        assert command in [step.get("run") for step in steps]
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


# The script for bare machines, with commands of our own in the place of the real ones.


@pytest.fixture
def bare_machine(tmp_path):
    """Return a function that runs .ci/run where only the named programs are installed, and returns what it called."""
    for folder in ("bin", "tree/.ci"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "tree" / ".ci" / "run")
    for name in ("bash", "dirname", "env"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))

    def run(*installed, user=0):
        called = tmp_path / "called"
        called.write_text("")
        for name in (*installed, "apt-get", "make"):
            _program(tmp_path / "bin" / name, f'echo "{name} $* REQUIRE_ALL=${{REQUIRE_ALL:-}}" >> {called}')
        _program(tmp_path / "bin" / "sudo", f'echo "sudo" >> {called}; "$@"')
        _program(tmp_path / "bin" / "id", f"echo {user}")
        command = [tmp_path / "tree" / ".ci" / "run"]
        subprocess.run(command, env={"PATH": str(tmp_path / "bin")}, check=True, capture_output=True)
        return [line for line in called.read_text().splitlines() if not line.startswith("python3")]

    return run


def _program(path, line):
    path.write_text(f"#!/usr/bin/env bash\n{line}\n")
    path.chmod(0o755)


def test_a_machine_that_has_everything_only_runs_the_tests(bare_machine):
    assert bare_machine("python3", "chromium", "bwrap") == ["make test REQUIRE_ALL=1"]


def test_a_bare_machine_gets_what_is_missing_before_the_tests(bare_machine):
    update, install, test = bare_machine("python3", "bwrap")
    assert update.startswith("apt-get update")
    assert install.split()[-2:] == ["chromium", "REQUIRE_ALL="]
    assert test == "make test REQUIRE_ALL=1"


def test_a_python_without_venv_gets_it(bare_machine):
    assert "python3-venv" in bare_machine("chromium", "bwrap")[1]


def test_a_user_without_rights_asks_for_them(bare_machine):
    assert bare_machine("python3", "chromium", user=1000)[::2] == ["sudo", "sudo", "make test REQUIRE_ALL=1"]


# The hooks before a commit.


def _hooks():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    return {hook["id"]: shlex.split(hook["entry"]) for hook in repository["hooks"]}


def test_the_hook_strips_outputs_and_keeps_the_names_of_cells(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1", id="sum", execution_count=3)])
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="2")]
    path = tmp_path / "worked.ipynb"
    nbformat.write(notebook, path)
    program, *arguments = _hooks()["strip-outputs"]
    subprocess.run([Path(sys.executable).with_name(program), *arguments, path], check=True, capture_output=True)
    (cell,) = nbformat.read(path, as_version=4).cells
    assert (cell.id, cell.source, cell.outputs, cell.execution_count) == ("sum", "1 + 1", [], None)


def test_every_hook_runs_a_program_that_make_installs():
    programs = Path(sys.executable).parent
    assert all((programs / entry[0]).exists() for entry in _hooks().values())
