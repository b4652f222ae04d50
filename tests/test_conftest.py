"""The rule that under REQUIRE_ALL=1 a skip fails, the executed shapes, and what runs in one process."""

import textwrap
from pathlib import Path

import pytest

SKIPS = """
    import pytest

    def test_that_runs():
        pass

    @pytest.mark.skip(reason="no browser: install one with this command")
    def test_with_a_skip_mark():
        pass

    def test_that_skips_itself():
        pytest.skip("no browser: install one with this command")

    @pytest.fixture
    def browser():
        pytest.skip("no browser: install one with this command")

    def test_whose_fixture_skips(browser):
        pass

    @pytest.mark.gpu
    def test_that_needs_a_gpu():
        pytest.skip("no GPU")

    @pytest.mark.corpus
    def test_that_needs_a_corpus():
        pytest.skip("no corpus")

    @pytest.mark.xfail
    def test_of_a_known_fault():
        assert False
"""


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    pytester.makeini("[pytest]\nmarkers =\n    gpu\n    corpus\n")
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    return pytester


def test_a_skip_is_a_skip_where_not_everything_is_required(project):
    project.makepyfile(SKIPS)
    project.runpytest_subprocess().assert_outcomes(passed=1, skipped=5, xfailed=1)


def test_a_skip_fails_where_everything_is_required_but_for_gpu_and_corpora(project, monkeypatch):
    monkeypatch.setenv("REQUIRE_ALL", "1")
    project.makepyfile(SKIPS)
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1, errors=2, skipped=2, xfailed=1)
    result.stdout.fnmatch_lines(["*REQUIRE_ALL=1 forbids this skip:*install one with this command*"])


def test_a_module_that_skips_itself_fails_where_everything_is_required(project, monkeypatch):
    module = "import pytest\npytest.importorskip('a_package_that_nobody_has')\n"
    project.makepyfile(module)
    assert project.runpytest_subprocess().parseoutcomes() == {"skipped": 1}
    monkeypatch.setenv("REQUIRE_ALL", "1")
    assert project.runpytest_subprocess().ret != pytest.ExitCode.OK


def test_shapes_of_torch_modules_are_executed_unless_a_test_asks_for_none(project):
    package = project.mkpydir("crossattn_ref")
    (package / "models.py").write_text("def double(n: int) -> int:\n    return n * 2\n")
    project.makepyfile("""
        import pytest
        from crossattn_ref.models import double

        def test_a_wrong_type_is_refused():
            with pytest.raises(Exception, match="Type-check error"):
                double("2")

        def test_a_wrong_type_reaches_the_function(shapes_unchecked):
            assert double("2") == "22"
    """)
    project.runpytest_subprocess().assert_outcomes(passed=2)


GROUPED = """
    import os

    import pytest

    @pytest.mark.parametrize("number", range(8))
    def test_in_some_process(number):
        with open("processes", "a") as file:
            print(os.getpid(), file=file)
"""


def _processes(project, folder):
    """Say how many processes ran the tests of a folder, where two were at hand."""
    project.mkdir(folder).joinpath("test_something.py").write_text(textwrap.dedent(GROUPED))
    project.runpytest_subprocess("-n", "2", "--dist", "loadgroup").assert_outcomes(passed=8)
    return len(set((project.path / "processes").read_text().splitlines()))


def test_what_shares_a_built_book_or_a_graded_class_runs_in_one_process(project):
    assert _processes(project, "book") == 1


def test_what_shares_nothing_runs_in_all_processes(project):
    assert _processes(project, "plot") == 2
