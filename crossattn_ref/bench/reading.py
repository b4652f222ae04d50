"""Files of records that somebody may have edited or cut off: a line is whole and of the right types, or refused.

Stricter than records.read, which trusts what this package wrote. Whatever a line holds, it ends in a record or in a
ValueError that says what is wrong.
"""

import datetime
import json
import re
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from crossattn_ref.records import Record

REMEDY = "restore it from git, or delete it, and what is in it is measured anew"


def read(path: Path) -> list[Record]:
    """Read the records of a file, none where it is not there.

    Raises ValueError with file, line and remedy where a line is damaged.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"{path} must be a file that can be read ({error}): {REMEDY}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(record(line.decode("utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, must be a record ({error}): {REMEDY}") from error
    return found


def record(line: str) -> Record:
    """Read one line; ValueError for what is no JSON, lacks an entry, or holds what cannot be measured."""
    content = _object(line)
    for name, (rule, holds) in RULES.items():
        if name in content and not holds(content[name]):
            raise ValueError(f"{name} must be {rule}, got {reprlib.repr(content[name])}")
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8")
        return Record(**content)
    except UnicodeEncodeError:
        raise ValueError("a record must hold whole characters, got half of a surrogate pair") from None
    except TypeError as error:
        raise ValueError(str(error).replace("Record.__init__() ", "a record ")) from None


def is_number(value: object) -> bool:
    """Tell whether something is a number that is finite as a float."""
    most = sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def _object(line):
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        whole = line.rstrip().endswith("}") and error.pos < len(line.rstrip()) - 1
        where = "not JSON" if whole else "cut off"
        raise ValueError(f"{where} at character {error.pos} of {len(line)}") from None
    except (ValueError, RecursionError) as error:  # an integer of too many digits, lists in lists without end
        raise ValueError(f"not JSON that can be read: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"a record is an object with named entries, got {line[:40]!r}")
    return content


def _list_of(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(holds(one) for one in value)


def _named(*types: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(type(one) in types for one in value.values())


def _is_seed(value):
    return type(value) is int and 0 <= value < 2**64


def _are_files(value):
    return isinstance(value, list) and bool(value) and all(_is_inside(one) for one in value)


def _is_inside(value):
    """Tell whether a path stays in the project: an audit opens what a record names."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def _is_sha256(value):
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_more(value):
    return isinstance(value, dict) and type(value.get("lines", 0)) is int


def _is_date(value):
    try:
        return bool(datetime.datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return False


RULES = {
    "value": ("a finite number", is_number),
    "samples": ("a list of finite numbers", _list_of(is_number)),
    "seeds": ("a list of integers from 0 to 2**64 - 1", _list_of(_is_seed)),
    "files": ("a list of files of the project, relative to its root", _are_files),
    "code": ("a sha256 of 64 hexadecimal digits", _is_sha256),
    "versions": ("an object of texts", _named(str)),
    "hardware": ("an object of texts and integers", _named(str, int)),
    "date": ("a date in ISO 8601", _is_date),
    "more": ("an object with named entries, of which lines is an integer", _is_more),
}
