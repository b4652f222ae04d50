"""Who may import whom: the contracts hold on the tree, and each breaks when it is violated."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = [
    contract["id"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]

# Each violation is what it adds to the package: module -> lines.
VIOLATIONS = [
    ("layers", {"attention/reference.py": "import crossattn_ref.checks"}),
    ("layers", {"attention/dense.py": "import crossattn_ref.attention.reference"}),
    ("layers", {"attention/multihead.py": "", "attention/dense.py": "import crossattn_ref.attention.multihead"}),
    ("layers", {"bench.py": "", "plot/maps.py": "import crossattn_ref.bench"}),
    ("layers", {"models/blocks.py": "import crossattn_ref.data", "data/__init__.py": ""}),
    ("layers", {"records.py": "import crossattn_ref.attention.reference"}),
    ("layers", {"a_module_without_a_place.py": "import crossattn_ref.attention.reference"}),
    ("matplotlib", {"attention/reference.py": "import matplotlib.pyplot"}),
    ("matplotlib", {"checks/__init__.py": "from matplotlib import cm"}),
    ("triton", {"attention/multihead.py": "import triton"}),
    ("triton", {"bench.py": "import triton.language"}),
    ("torch-free", {"attention/reference.py": "import torch"}),
    (
        "torch-free",
        {"attention/dense.py": "import torch", "checks/__init__.py": "import crossattn_ref.attention.dense"},
    ),
    ("torch-free", {"data/__init__.py": "", "data/translation.py": "from torch import Tensor"}),
    ("torch-free", {"interpret/deletion.py": "import torch"}),
    ("torch-free", {"checks/tensors.py": "import torch", "checks/draw.py": "import crossattn_ref.checks.tensors"}),
]


def broken(root: Path, contract: str) -> tuple[bool, str]:
    """Hold the package under root against one contract; return whether that broke it, and the report."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    command += ["--config", ROOT / "pyproject.toml", "--contract", contract]
    # The command looks into its working folder first, so a copy there is linted and not the installed package.
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert "Contracts:" in run.stdout, run.stdout + run.stderr
    return run.returncode != 0, run.stdout


def copy_package(folder: Path, additions: dict[str, str]) -> None:
    package = folder / "crossattn_ref"
    shutil.copytree(ROOT / "crossattn_ref", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, lines in additions.items():
        module = package / name
        if not module.parent.exists():
            module.parent.mkdir()
            (module.parent / "__init__.py").touch()
        with module.open("a") as file:
            file.write(f"\n{lines}\n")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_package_keeps_the_contract(contract):
    broke, report = broken(ROOT, contract)
    assert not broke, report


@pytest.mark.parametrize(("contract", "additions"), VIOLATIONS)
def test_a_planted_violation_breaks_the_contract(contract, additions, tmp_path):
    copy_package(tmp_path, additions)
    broke, report = broken(tmp_path, contract)
    assert broke, f"{additions} should break the contract '{contract}'\n{report}"


def test_modules_that_keep_their_place_break_nothing(tmp_path):
    allowed = {
        "attention/fused/forward.py": "import triton",
        "plot/maps.py": "import matplotlib",
        "bench.py": "import crossattn_ref.checks",
        "data/translation.py": "import numpy",
    }
    copy_package(tmp_path, allowed)
    for contract in CONTRACTS:
        broke, report = broken(tmp_path, contract)
        assert not broke, report


def test_every_contract_has_a_violation_to_prove_it():
    assert {contract for contract, _ in VIOLATIONS} == set(CONTRACTS)
