"""Records of measurements: one line of JSON for each case and metric of a suite, read and replaced here alone.

book/measurements/<suite>.jsonl holds the current line of each case and metric; git keeps the history.
Standard library only, so that a record can be read, audited and found stale anywhere.
"""

import ast
import dataclasses
import hashlib
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crossattn_ref.files import write_whole

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
FOLDER = ROOT / "book" / "measurements"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One figure and what is needed to doubt it.

    value is the median of samples, which hold one number per seed or per repetition, in unit.
    code is the sha256 over files, the project files that the case imports, relative to the project's root.
    date is in ISO 8601. more holds what a suite wants to add.

    Raises ValueError for a name that is empty, a number that is not finite, or a value that is not the median.
    """

    suite: str
    case: str
    metric: str
    value: float
    samples: list[float]
    unit: str
    seeds: list[int]
    command: str
    files: list[str]
    code: str
    versions: dict[str, str]
    hardware: dict[str, str | int]
    date: str
    more: dict = field(default_factory=dict)

    def __post_init__(self):
        """Refuse what could not have been measured."""
        for name in ("suite", "case", "metric", "unit", "command", "code", "date"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} must be a text that is not empty, got {getattr(self, name)!r}")
        for number in (self.value, *self.samples):
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise ValueError(f"value and samples must be finite numbers, got {number!r}")
        if not self.samples or not math.isclose(self.value, statistics.median(self.samples), rel_tol=1e-9):
            raise ValueError(f"value must be the median of the samples, got {self.value} for {self.samples}")


def read(suite: str, folder: Path = FOLDER) -> list[Record]:
    """Read the records of a suite, none where it was never run; ValueError names the file and line of a bad one."""
    path = _path(suite, folder)
    if not path.exists():
        return []
    return [_parsed(line, path, number) for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)]


def find(suite: str, case: str, metric: str, folder: Path = FOLDER) -> Record:
    """Return the record of one case and metric; ValueError, with the command that makes it, where there is none."""
    for record in read(suite, folder):
        if (record.case, record.metric) == (case, metric):
            return record
    raise ValueError(f"suite {suite!r} must hold {case!r}, {metric!r}: run crossattn bench {suite}")


def replace(records: Iterable[Record], folder: Path = FOLDER, *, whole: bool = False) -> None:
    """Put records in the place of those with the same suite, case and metric; with whole, drop the suite's others.

    A file is replaced in one step: who reads meanwhile sees the old or the new one, never a part.
    """
    records = list(records)
    for suite in sorted({record.suite for record in records}):
        kept = [] if whole else read(suite, folder)
        current = {(record.case, record.metric): record for record in kept}
        current |= {(record.case, record.metric): record for record in records if record.suite == suite}
        lines = [json.dumps(dataclasses.asdict(record), ensure_ascii=False) for record in current.values()]
        write_whole(_path(suite, folder), "\n".join(lines) + "\n")


def files_of(*modules: str, root: Path = ROOT) -> list[str]:
    """List the project files that modules import, whatever imports what, relative to the project's root."""
    found, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        for path in _files(module, root):
            if path not in found:
                found.add(path)
                waiting += _imports(path)
    return sorted(path.relative_to(root).as_posix() for path in found)


def code_of(files: Iterable[str], root: Path = ROOT) -> str:
    """Compute the sha256 over the names and contents of project files."""
    digest = hashlib.sha256()
    for name in sorted(files):
        content = (root / name).read_bytes()
        digest.update(f"{name}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def is_stale(record: Record, root: Path = ROOT) -> bool:
    """Tell whether the code that a record was measured with has changed or gone since."""
    try:
        return code_of(record.files, root) != record.code
    except FileNotFoundError:
        return True


def _path(suite, folder):
    return Path(folder) / f"{suite}.jsonl"


def _parsed(line, path, number):
    try:
        return Record(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name}, line {number}: {error}") from error


def _files(module, root):
    """Find the files that importing a module runs: the package's __init__.py files above it, and its own."""
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return []
    stems = [root.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    candidates = [stem / "__init__.py" for stem in stems] + [stems[-1].with_suffix(".py")]
    return [path for path in candidates if path.is_file()]


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
