"""Messages between judge and sandbox: JSON for the structure, raw numbers for arrays, never pickle.

This file runs on both sides. What arrives is rebuilt as plain arrays and plain data, under caps on its size and on the
number of its parts, and each part once: no message makes its receiver allocate much more than it weighs.
An array travels as dtype, shape, order and bytes: stricter than npz, and several times as fast for small ones.
"""

import json
import re
import socket
import struct
import time

import numpy as np

MOST = 64 * 2**20  # bytes of one message
TEXT = 3 * 2**20  # of them JSON
ITEMS = 200_000  # lists and the like in it
PARTS = 10_000  # arrays in one message
DTYPES = {dtype: np.dtype(dtype) for dtype in (np.dtype(kind).str for kind in "?bhilqBHILQefdgFDG")}  # no objects
_STRANGE = re.compile(r"[<>|]?(O|[SUV]\d{1,5}|[mM]8(\[\d{0,9}[a-zA-Z]{1,7}\])?|[biufc]\d{1,2})")  # dtypes known by name
_HEAD = struct.Struct("!II")  # bytes of JSON, bytes of arrays
_SIZE = struct.Struct("!I")
_PIECE = 2**16
KILLED = "it was ended by SIGKILL: processor time or memory ran out, or it killed itself, or something else did"
_PLAIN = frozenset((bool, int, float, str, type(None)))
_ORDERS = ("C", "F")
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Broken(Exception):
    """The other side is gone, too slow, or does not keep to the form of a message."""


class Gone(Broken):
    """The other side is gone: it has ended, or somebody has ended it."""


class Channel:
    """One end of a stream socket, speaking in messages made of plain data. received counts the bytes that came."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.received = 0
        self._came = bytearray()

    def send(self, message: object, fds: tuple[int, ...] = (), deadline: float | None = None) -> None:
        """Send plain data: None, bools, numbers, strings, bytes, arrays, and lists, tuples and dicts of these.

        Raises ValueError, before anything is sent, for what cannot travel, and Broken where the other side is gone
        or has not taken it by the deadline, a moment of time.monotonic().
        """
        data = _written(message)
        try:
            self._wait(deadline)
            sent = socket.send_fds(self.sock, [data], fds) if fds else 0
            self.sock.sendall(data[sent:] if sent else data)
        except OSError as error:
            raise _broken(error) from error

    def receive(self, deadline: float | None = None) -> object:
        """Wait for a message until a moment of time.monotonic(). Raises Broken where none comes or it is malformed."""
        message, _ = self.receive_with_fds(0, deadline)
        return message

    def receive_with_fds(self, count: int, deadline: float | None = None) -> tuple[object, list[int]]:
        """As receive, with the file descriptors that came along, at most count."""
        fds = []
        try:
            size, blob_size = _HEAD.unpack(self._exactly(_HEAD.size, deadline, count, fds))
            if size > TEXT or size + blob_size > MOST:
                raise Broken(f"a message of {size} and {blob_size} bytes; at most {TEXT} and {MOST} may travel")
            body = memoryview(self._exactly(size + blob_size, deadline))
        except OSError as error:
            raise _broken(error) from error
        try:
            return _read(body[:size], body[size:]), fds
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, struct.error) as error:
            raise Broken(f"a malformed message ({type(error).__name__})") from error

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def _exactly(self, size, deadline, count=0, fds=None):
        """Take so many bytes off the front of what came; wait where they are not there yet."""
        while len(self._came) < size:
            self._wait(deadline)
            wanted = min(max(size - len(self._came), _PIECE), 2**20)
            if count:
                piece, new, _, _ = socket.recv_fds(self.sock, wanted, count)
                fds += new
            else:
                piece = self.sock.recv(wanted)
            if not piece:
                raise Gone("the other side is gone")
            self.received += len(piece)
            self._came += piece
        taken = self._came[:size]
        del self._came[:size]
        return taken

    def _wait(self, deadline):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise Broken("no answer in time")
        self.sock.settimeout(left)


def _broken(error):
    return Broken("no answer in time") if isinstance(error, TimeoutError) else Gone(f"the other side is gone ({error})")


def _written(message):
    parts = []
    try:
        text = _encode(_pack(message, parts)).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not plain data: {error}") from error
    blob = b"".join(piece for part in parts for piece in (_SIZE.pack(len(part)), part))
    if len(text) > TEXT or len(text) + len(blob) > MOST or len(parts) > PARTS:
        raise ValueError(f"a message of {len(text)} and {len(blob)} bytes; at most {TEXT} and {MOST} may travel")
    return _HEAD.pack(len(text), len(blob)) + text + blob


def _pack(value, parts):
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray):
        return _packed_array(value, parts)
    if isinstance(value, np.generic) and not isinstance(value, str):
        packed = _packed_array(np.asarray(value), parts)
        return {"scalar": packed} if "array" in packed else packed
    if isinstance(value, bytes):
        parts.append(value)
        return {"bytes": len(parts) - 1}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, parts) for item in value]}
    if isinstance(value, list):
        return [_pack(item, parts) for item in value]
    if isinstance(value, dict):
        return {"dict": [[str(key), _pack(item, parts)] for key, item in value.items()]}
    if isinstance(value, int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot travel")


def _packed_array(array, parts):
    """Describe an array and add its bytes; of one that holds no numbers only the dtype travels."""
    if array.dtype.str not in DTYPES:
        return {"strange": array.dtype.str}
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    parts.append(array.tobytes(order))
    return {"array": [len(parts) - 1, array.dtype.str, array.shape, order, not array.flags.writeable]}


def _read(text, blob):
    text = str(text, "utf-8")
    if text.count("[") + text.count("{") > ITEMS:
        raise ValueError("too many parts")
    return _unpack(_decode(text), _parts(blob))


def _unpack(value, parts):
    if isinstance(value, str):  # a lone surrogate could not be written to any file
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_unpack(item, parts) for item in value]
    if not isinstance(value, dict):
        return value
    ((form, content),) = value.items()
    return _FORMS[form](content, parts)


def _array(content, parts):
    index, kind, shape, order, locked = content
    dtype, raw = DTYPES[kind], _part(index, parts)
    length = dtype.itemsize
    for size in shape:
        if type(size) is not int or not 0 <= size <= MOST:
            raise ValueError(f"no shape: {shape}")
        length *= size
    if len(raw) != length or order not in _ORDERS:
        raise ValueError("an array that is not what it says")
    array = np.ndarray(shape, dtype, raw, order=order)
    if locked:
        array.flags.writeable = False
    return array


def _scalar(content, parts):
    value = _unpack(content, parts)
    if not isinstance(value, np.ndarray) or value.shape != ():
        raise ValueError("no scalar")
    return value[()]


def _strange(content, parts):  # noqa: ARG001 as the other forms
    if not _STRANGE.fullmatch(content):
        raise ValueError(f"no dtype: {content}")
    return np.empty(0, np.dtype(content))


def _dict(content, parts):
    if not all(isinstance(key, str) for key, _ in content):
        raise ValueError("a key that is no string")
    return {_unpack(key, parts): _unpack(item, parts) for key, item in content}


_FORMS = {
    "array": _array,
    "scalar": _scalar,
    "strange": _strange,
    "bytes": lambda content, parts: bytes(_part(content, parts)),
    "tuple": lambda content, parts: tuple(_unpack(item, parts) for item in content),
    "dict": _dict,
}


def _part(index, parts):
    """Take a part out: no message may use one twice, and so weigh more than it did on the way."""
    if type(index) is not int or index < 0 or parts[index] is None:
        raise ValueError("no such part")
    part, parts[index] = parts[index], None
    return part


def _parts(blob):
    found, at = [], 0
    while at < len(blob):
        (size,) = _SIZE.unpack_from(blob, at)
        at += _SIZE.size
        if at + size > len(blob) or len(found) == PARTS:
            raise ValueError("an array cut short, or too many")
        found.append(blob[at : at + size])
        at += size
    return found
