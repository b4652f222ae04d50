"""What every test shares: shapes are executed, and under REQUIRE_ALL=1 nothing is skipped."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the tensors here are too small to share

import pytest
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

TORCH_MODULES = [
    "crossattn_ref.attention.dense",
    "crossattn_ref.attention.chunked",
    "crossattn_ref.attention.approximate",
    "crossattn_ref.attention.fused.op",  # its kernels are compiled from their source, and take no decorator
    "crossattn_ref.attention.multihead",
    "crossattn_ref.attention.folding",
    "crossattn_ref.decode",
    "crossattn_ref.models",
    "crossattn_ref.train.losses",
]
install_import_hook(TORCH_MODULES, "beartype.beartype")

MAY_BE_SKIPPED = {"gpu", "corpus"}


@pytest.fixture
def shapes_unchecked():
    """Switch the executed shape annotations off, for tests of the errors that a function raises itself."""
    before = jaxtyping_config.jaxtyping_disable
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", before)


def _fail_if_skipped(report, allowed: bool) -> None:
    """Turn a skip into a failure that repeats the skip's reason, where REQUIRE_ALL=1 asks for everything."""
    if not report.skipped or hasattr(report, "wasxfail") or allowed or os.environ.get("REQUIRE_ALL") != "1":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"REQUIRE_ALL=1 forbids this skip: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _fail_if_skipped(report, allowed=bool(MAY_BE_SKIPPED & set(item.keywords)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_if_skipped(report, allowed=bool(MAY_BE_SKIPPED & set(collector.keywords)))
    return report


ONE_PROCESS = ("book", "grading", "judge")  # folders whose tests share a built book, a graded class, a started sandbox


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep together, where tests run in several processes, what shares something that takes long to make."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if folder in ONE_PROCESS:
            item.add_marker(pytest.mark.xdist_group(folder))
        elif folder == "checks" and isinstance(parameters.get("name"), str):
            item.add_marker(pytest.mark.xdist_group(f"checks of {parameters['name']}"))
