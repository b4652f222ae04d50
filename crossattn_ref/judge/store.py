"""Verdicts kept by the content of what was graded: a second run finds them, and a changed answer does not."""

import base64
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import secrets
import tempfile
from pathlib import Path

from crossattn_ref.checks.report import Finding, Misconception, Report
from crossattn_ref.judge.assignment import Notebook
from crossattn_ref.judge.verdict import Ran, Verdict

FORM = 1  # of what is stored; another form is computed anew
PACKAGE = Path(__file__).resolve().parents[1]


def content(cells: list[tuple[str, str]]) -> bytes:
    """Write down what a submission says, (id, source) of its code cells in order: the same text, the same bytes."""
    return json.dumps(cells, ensure_ascii=True, separators=(",", ":")).encode()


def fingerprint() -> dict[str, str]:
    """Say what a verdict depends on beside the submission: the checks and the judge, and the libraries."""
    code = hashlib.sha256()
    for path in sorted([*PACKAGE.glob("checks/**/*.py"), *PACKAGE.glob("judge/*.py"), *PACKAGE.glob("attention/*.py")]):
        code.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    versions = {}
    for name in ("numpy", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "none"
    return {"code": code.hexdigest(), **versions}


def course_key(path: Path) -> bytes:
    """Read the secret that decides a course's inputs; make it where there is none yet, for its owner's eyes only."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        key = secrets.token_hex(32).encode()
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
        except FileExistsError:  # another process was faster
            return path.read_bytes()
        return key


class Store:
    """A folder of verdicts. A file is written whole or not at all; one that cannot be read is as good as absent."""

    def __init__(self, folder: Path, key: bytes, isolation: str):
        self._folder = folder
        self._salt = hashlib.sha256(key).hexdigest()
        self._isolation = isolation
        self._environment = fingerprint()

    def name(self, submission: bytes, assignment: Notebook) -> str:
        """Name the verdict of a submission: by its content and by everything else that decides it."""
        parts = [submission.decode(), repr(assignment), self._salt, self._isolation, self._environment]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def get(self, name: str) -> Verdict | None:
        """Find a verdict; None where there is none, or none that can be read."""
        try:
            stored = json.loads(self._path(name).read_text())
            return _verdict(stored["verdict"]) if stored["form"] == FORM else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, name: str, verdict: Verdict, seeds: dict[str, int]) -> None:
        """Keep a verdict, with what it depended on, so that it can be explained and repeated later."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = {"form": FORM, "environment": self._environment, "seeds": seeds, "verdict": _plain(verdict)}
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(stored, file)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def _path(self, name):
        return self._folder / name[:2] / f"{name}.json"


def _plain(verdict):
    plain = dataclasses.asdict(dataclasses.replace(verdict, reports={}, cells={}))
    plain["reports"] = {name: _report(report) for name, report in verdict.reports.items()}
    plain["cells"] = {
        name: {**vars(ran), "pictures": [base64.b64encode(picture).decode() for picture in ran.pictures]}
        for name, ran in verdict.cells.items()
    }
    return plain


def _report(report):
    findings = [vars(finding) for finding in report.findings]
    diagnosis = [{"name": m.name, "symptom": m.symptom, "hint": m.hint} for m in report.diagnosis]
    return {**vars(report), "findings": findings, "diagnosis": diagnosis, "remarks": list(report.remarks)}


def _verdict(plain):
    reports = {
        name: Report(
            report["exercise"],
            report["score"],
            tuple(Finding(**finding) for finding in report["findings"]),
            tuple(Misconception(m["name"], None, m["symptom"], m["hint"]) for m in report["diagnosis"]),
            tuple(report["remarks"]),
            report["seed"],
        )
        for name, report in plain["reports"].items()
    }
    cells = {
        name: Ran(ran["said"], ran["error"], [base64.b64decode(picture) for picture in ran["pictures"]])
        for name, ran in plain["cells"].items()
    }
    return Verdict(**{**plain, "reports": reports, "cells": cells})
