"""Messages between judge and sandbox: JSON for the structure, raw numbers for arrays, never pickle.

This file runs on both sides. What arrives is rebuilt as plain arrays and plain data, under a size cap.
An array travels as dtype, shape, order and bytes: stricter than npz, and several times as fast for small ones.
"""

import json
import socket
import struct
import time

import numpy as np

MOST = 64 * 2**20  # bytes of one message
DTYPES = {np.dtype(kind).str: np.dtype(kind) for kind in "?bhilqBHILQefdg"}  # numbers; nothing that holds objects
_HEAD = struct.Struct("!II")  # bytes of JSON, bytes of arrays
_SIZE = struct.Struct("!I")


class Broken(Exception):
    """The other side is gone, too slow, or does not keep to the form of a message."""


class Channel:
    """One end of a stream socket, speaking in messages made of plain data."""

    def __init__(self, sock: socket.socket):
        self.sock = sock

    def send(self, message: object, fds: tuple[int, ...] = ()) -> None:
        """Send plain data: None, bools, numbers, strings, bytes, arrays, and lists, tuples and dicts of these."""
        arrays = []
        text = json.dumps(_pack(message, arrays)).encode()
        blob = b"".join(part for array in arrays for part in (_SIZE.pack(len(array)), array))
        if len(text) + len(blob) > MOST:
            raise Broken(f"a message of {len(text) + len(blob)} bytes; at most {MOST} may travel")
        head = _HEAD.pack(len(text), len(blob))
        try:
            if fds:
                socket.send_fds(self.sock, [head], fds)
            else:
                self.sock.sendall(head)
            self.sock.sendall(text + blob)
        except OSError as error:
            raise Broken(f"the other side is gone ({error})") from error

    def receive(self, deadline: float | None = None) -> object:
        """Wait for a message until a moment of time.monotonic(). Raises Broken where none comes or it is malformed."""
        message, _ = self.receive_with_fds(0, deadline)
        return message

    def receive_with_fds(self, count: int, deadline: float | None = None) -> tuple[object, list[int]]:
        """As receive, with the file descriptors that came along, at most count."""
        try:
            head, fds = self._head(count, deadline)
            size, blob_size = _HEAD.unpack(head)
            if size + blob_size > MOST:
                raise Broken(f"a message of {size + blob_size} bytes; at most {MOST} may travel")
            text, blob = self._exactly(size, deadline), self._exactly(blob_size, deadline)
        except OSError as error:
            raise Broken(f"the other side is gone ({error})") from error
        try:
            return _unpack(json.loads(text), _arrays(blob)), fds
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, struct.error) as error:
            raise Broken(f"a malformed message ({type(error).__name__})") from error

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def _head(self, count, deadline):
        self._wait(deadline)
        head, fds = b"", []
        if count:
            head, fds, _, _ = socket.recv_fds(self.sock, _HEAD.size, count)
        return head + self._exactly(_HEAD.size - len(head), deadline), fds

    def _exactly(self, size, deadline):
        parts = []
        while size:
            self._wait(deadline)
            part = self.sock.recv(min(size, 2**20))
            if not part:
                raise Broken("the other side is gone")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, deadline):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise Broken("no answer in time")
        self.sock.settimeout(left)


def _pack(value, arrays):
    if isinstance(value, np.ndarray):
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        arrays.append(value.tobytes(order))
        form = [value.dtype.str, list(value.shape), order, not value.flags.writeable]
        return {"array": len(arrays) - 1, "form": form}
    if isinstance(value, np.generic):
        return {"scalar": _pack(np.asarray(value), arrays)}
    if isinstance(value, bytes):
        arrays.append(value)
        return {"bytes": len(arrays) - 1}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_pack(item, arrays) for item in value]
    if isinstance(value, dict):
        return {"dict": [[str(key), _pack(item, arrays)] for key, item in value.items()]}
    return value


def _unpack(value, arrays):
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value))
    if kind == "array":
        return _array(arrays[value["array"]], *value["form"])
    if kind == "scalar":
        return _unpack(value["scalar"], arrays)[()]
    if kind == "bytes":
        return arrays[value["bytes"]]
    if kind == "tuple":
        return tuple(_unpack(item, arrays) for item in value["tuple"])
    return {key: _unpack(item, arrays) for key, item in value["dict"]}


def _array(raw, dtype, shape, order, locked):
    array = np.frombuffer(raw, DTYPES[dtype]).reshape([int(size) for size in shape], order="F" if order == "F" else "C")
    array = array.copy(order="K")
    array.flags.writeable = not locked
    return array


def _arrays(blob):
    found, at = [], 0
    while at < len(blob):
        (size,) = _SIZE.unpack_from(blob, at)
        at += _SIZE.size
        if at + size > len(blob):
            raise ValueError("an array cut short")
        found.append(blob[at : at + size])
        at += size
    return found
