"""Messages between judge and sandbox: plain data comes through unchanged, and nothing malformed does harm."""

import contextlib
import json
import math
import os
import socket
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from crossattn_ref.judge import channel as wire
from crossattn_ref.judge.channel import DTYPES, MOST, PARTS, TEXT, Broken, Channel

SOON = 5.0  # seconds: for what must not wait at all


@pytest.fixture
def ends():
    a, b = socket.socketpair()
    with a, b:
        yield Channel(a), Channel(b)


@contextlib.contextmanager
def pair():
    a, b = socket.socketpair()
    with a, b:
        yield Channel(a), Channel(b)


def carried(message):
    """Send a message and receive it."""
    with pair() as (here, there):
        sender = threading.Thread(target=here.send, args=(message,), kwargs={"deadline": time.monotonic() + SOON})
        sender.start()
        received = there.receive(time.monotonic() + SOON)
        sender.join()
        return received


def frame(text, *parts, blob=None):
    """Write a message by hand: any text, any parts."""
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    blob = b"".join(struct.pack("!I", len(part)) + part for part in parts) if blob is None else blob
    return struct.pack("!II", len(text), len(blob)) + text + blob


def given_bytes(data):
    """Receive bytes that somebody else wrote, who then closed."""
    with pair() as (here, there):
        sender = threading.Thread(target=_write, args=(here.sock, data))
        sender.start()
        try:
            return there.receive(time.monotonic() + SOON)
        finally:
            there.sock.close()
            sender.join()


def _write(sock, data):
    with contextlib.suppress(OSError):
        sock.sendall(data)
    sock.close()


def same(a, b):
    if isinstance(a, np.ndarray):
        return (
            type(b) is np.ndarray
            and (a.dtype, a.shape, a.flags.writeable) == (b.dtype, b.shape, b.flags.writeable)
            and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        )
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and (a == b or a != a)


# What comes through.


PLAIN = [
    None, True, False, 0, -(10**40), 1.5, math.inf, math.nan, "", "text", "a 'quote' \"and\" \\ \n\0", "größer 🙂", b"", b"\0\xff",
    [], (), {}, [1, [2, (3, {"a": None})]], {"plain": {"dict": 1}, "array": [1]}, {"tuple": ({"scalar": 2},)},
    np.float64(0.1), np.float32(0.1), np.int8(-3), np.bool_(True), np.longdouble(2), np.complex64(1j),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_plain_data_comes_through_unchanged(value):
    assert same(carried(value), value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (2, 3, 5, 7)], ids=str)
def test_arrays_of_every_dtype_and_shape_come_through_unchanged(dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    assert same(carried(array), array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("locked", [False, True])
def test_order_and_lock_of_an_array_come_through(order, locked):
    array = np.asarray(np.arange(30.0).reshape(2, 3, 5), order=order)
    array.flags.writeable = not locked
    received = carried(array)
    assert received.flags.c_contiguous == (order == "C")
    assert same(received, array)


def test_views_come_through_as_what_they_show():
    whole = np.arange(24.0).reshape(4, 6)
    for view in (whole[::2, ::-1], whole.T, np.broadcast_to(whole[0], (5, 6)), whole[:, None]):
        received = carried(view)
        np.testing.assert_array_equal(received, view)


def test_what_arrives_can_be_written_and_shares_nothing():
    first, second = carried((np.zeros(3), np.zeros(3)))
    first += 1
    np.testing.assert_array_equal(second, 0)


def test_subclasses_of_arrays_arrive_as_plain_ones():
    received = carried(np.arange(6.0).reshape(2, 3).view(np.matrix))
    assert type(received) is np.ndarray


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, "x"]),
        np.array(["abc"]),
        np.array([b"abc"]),
        np.zeros(2, "M8[D]"),
        np.zeros(2, ">f8"),
        np.zeros(3, "V5"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_of_an_array_without_plain_numbers_only_the_dtype_arrives(array):
    received = carried(array)
    assert type(received) is np.ndarray
    assert received.dtype == array.dtype
    assert received.size == 0


def test_lone_surrogates_arrive_as_question_marks_so_that_any_file_can_hold_them():
    assert carried({"\ud800key": ["a\udfffb", "ok 🙂"]}) == {"?key": ["a?b", "ok 🙂"]}


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")) | st.binary()
        | npst.arrays(st.sampled_from([np.float32, np.float64, np.int64, np.bool_]), npst.array_shapes(min_dims=0, min_side=0)),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_nesting_of_plain_data_comes_through_unchanged(value):
    assert same(carried(value), value)


def test_messages_keep_their_order_however_they_are_cut():
    with pair() as (here, there):
        data = b"".join(wire._written(number) for number in range(50)) + wire._written("end")

        def dribble():
            for at in range(0, len(data), 7):
                here.sock.sendall(data[at : at + 7])

        sender = threading.Thread(target=dribble)
        sender.start()
        assert [there.receive(time.monotonic() + SOON) for _ in range(51)] == [*range(50), "end"]
        sender.join()
        assert there.received == len(data)


def test_file_descriptors_come_along(ends):
    here, there = ends
    out, into = os.pipe()
    here.send({"do": "check"}, (into,))
    os.close(into)
    message, fds = there.receive_with_fds(1)
    assert message == {"do": "check"}
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(out, 100) == b"through"
    os.close(out)


def test_file_descriptors_that_nobody_asked_for_are_closed(ends):
    here, there = ends
    before = len(os.listdir("/proc/self/fd"))
    out, into = os.pipe()
    here.send("with a present", (out, into))
    os.close(out)
    os.close(into)
    assert there.receive() == "with a present"
    assert len(os.listdir("/proc/self/fd")) == before


# What cannot travel.


class Stranger:
    def __repr__(self):
        return "a stranger"


@pytest.mark.parametrize("value", [Stranger(), {1, 2}, len, [Stranger()], (1, object), 1j, range(3)], ids=repr)
def test_what_is_not_plain_data_is_refused_before_anything_is_sent(ends, value):
    here, there = ends
    with pytest.raises(ValueError, match="cannot travel"):
        here.send(value)
    here.send("still in order")
    assert there.receive() == "still in order"


@pytest.mark.parametrize(
    "value", [b"\0" * (MOST + 1), "x" * (TEXT + 1), [b""] * (PARTS + 1)], ids=["bytes", "text", "parts"]
)
def test_a_message_beyond_the_caps_is_refused_before_anything_is_sent(ends, value):
    here, there = ends
    with pytest.raises(ValueError, match="at most"):
        here.send(value)
    here.send("still in order")
    assert there.receive() == "still in order"


def test_nesting_without_end_is_refused(ends):
    here, _ = ends
    nested = ()
    for _ in range(100_000):
        nested = (nested,)
    with pytest.raises(ValueError, match="not plain data"):
        here.send(nested)


# What is malformed: always Broken.


def array(index=0, dtype="<f8", shape=(2,), order="C", locked=False):
    return {"array": [index, dtype, shape, order, locked]}


TWO = b"\0" * 16  # two float64
MALFORMED = {
    "nothing": b"",
    "half a head": b"\0\0\0",
    "a head alone": struct.pack("!II", 5, 0),
    "cut short": frame([1, 2, 3])[:-1],
    "no JSON": frame(b"{not json"),
    "no text": frame(b"\xff\xfe[]"),
    "empty": frame(b""),
    "two values": frame(b"[] []"),
    "a bare dict": frame({}),
    "an unknown form": frame({"pickle": "gASVHwAAAA=="}),
    "two forms": frame({"tuple": [], "dict": []}),
    "a number of 5,000 digits": frame(b"1" * 5000),
    "a dict of no pairs": frame({"dict": [1]}),
    "a dict of triples": frame({"dict": [["a", 1, 2]]}),
    "a key that is a list": frame({"dict": [[["a"], 1]]}),
    "a key that is a number": frame({"dict": [[1, 1]]}),
    "no such array": frame(array()),
    "an index from behind": frame(array(-1), TWO),
    "an index that is a bool": frame(array(False), TWO),
    "an index that is text": frame(array("0"), TWO),
    "an index that is huge": frame(array(10**30), TWO),
    "a part used twice": frame([array(), array()], TWO),
    "bytes used twice": frame([{"bytes": 0}, {"bytes": 0}], TWO),
    "too few bytes": frame(array(), TWO[:-1]),
    "too many bytes": frame(array(), TWO + b"\0"),
    "negative shape": frame(array(shape=[-1]), TWO),
    "negative shapes that multiply well": frame(array(shape=[-2, -1]), TWO),
    "a shape of bools": frame(array(shape=[True, 2]), TWO),
    "a shape of floats": frame(array(shape=[2.0]), TWO),
    "a shape of infinity": frame(b'{"array": [0, "<f8", [Infinity], "C", false]}', TWO),
    "a shape of text": frame(array(shape="2"), TWO),
    "a shape that is a number": frame(array(shape=2), TWO),
    "a shape that overflows": frame(array(shape=[2**62, 2**62, 4]), TWO),
    "an empty shape that overflows": frame(array(shape=[0, 2**62]), b""),
    "an empty shape that overflows in steps": frame(array(shape=[0, *[MOST] * 9]), b""),
    "a shape of 100 axes": frame(array(shape=[1] * 99 + [2]), TWO),
    "a dtype of objects": frame(array(dtype="|O"), TWO),
    "a dtype of text": frame(array(dtype="<U2"), TWO),
    "a dtype of fields": frame(array(dtype=[["a", "<f8"]]), TWO),
    "a dtype in the other byte order": frame(array(dtype=">f8"), TWO),
    "no dtype": frame(array(dtype=None), TWO),
    "an unknown order": frame(array(order="K"), TWO),
    "an order that is a list": frame(array(order=["C"]), TWO),
    "a form of four": frame({"array": [0, "<f8", [2], "C"]}, TWO),
    "a form that is a dict": frame({"array": {"dict": []}}, TWO),
    "a scalar with an axis": frame({"scalar": array()}, TWO),
    "a scalar that is a list": frame({"scalar": [1]}),
    "a scalar of a scalar": frame({"scalar": {"scalar": 1}}),
    "a strange dtype that is a command": frame({"strange": "f8, (1000000,1000000)f8"}),
    "a strange dtype that is huge": frame({"strange": "S999999999"}),
    "a strange dtype that is a list": frame({"strange": ["f8"]}),
    "a tuple that is a number": frame({"tuple": 5}),
    "a part that reaches beyond the end": frame(array(), blob=struct.pack("!I", 2**31) + TWO),
    "half a part": frame(array(), blob=b"\0\0"),
    "a text beyond the cap": struct.pack("!II", TEXT + 1, 0) + b" " * 100,
    "a length of 8 GiB": struct.pack("!II", 2**32 - 1, 2**32 - 1),
    "a blob beyond the cap": struct.pack("!II", 2, MOST) + b"[]",
    "a hundred thousand nested lists": frame(b"[" * 100_000 + b"]" * 100_000),
    "a hundred thousand nested tuples": frame(b'{"tuple":[' * 100_000 + b"]}" * 100_000),
    "a million empty lists": frame(b"[" + b"[]," * 10**6 + b"[]]"),
    "ten million empty parts": frame(b"[]", blob=b"\0" * (4 * 10**7)),
}  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_message_is_broken_and_allocates_nothing_to_speak_of(data):
    tracemalloc.start()
    try:
        with pytest.raises(Broken):
            given_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 6 * len(data) + 2 * 2**20
    finally:
        tracemalloc.stop()


def test_the_most_lists_allowed_cost_their_reader_a_bounded_amount_of_memory():
    worst = frame(b"[" + b"[]," * (wire.ITEMS - 2) + b"0]")
    tracemalloc.start()
    try:
        given_bytes(worst)
        assert tracemalloc.get_traced_memory()[1] < 150 * wire.ITEMS
    finally:
        tracemalloc.stop()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_broken_or_plain_data(data):
    with contextlib.suppress(Broken):
        given_bytes(data)


@settings(deadline=None, max_examples=300)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.sampled_from(["<f8", "C", "F"]),
        lambda inner: (
            st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from([*wire._FORMS, "other"]), inner, max_size=2)
        ),
        max_leaves=12,
    ),
    st.lists(st.binary(max_size=20), max_size=3),
)
def test_random_structures_are_broken_or_plain_data(structure, parts):
    with contextlib.suppress(Broken):
        given_bytes(frame(structure, *parts))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_sound_message_with_a_changed_byte_is_broken_or_plain_data(data):
    sound = wire._written({"value": (np.arange(6.0).reshape(2, 3), 1, "text"), "error": None, "said": b"bytes"})
    at = data.draw(st.integers(8, len(sound) - 1))
    changed = bytearray(sound)
    changed[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Broken):
        given_bytes(bytes(changed))


# What takes too long.


def test_silence_is_broken_when_the_time_is_up(ends):
    with pytest.raises(Broken, match="no answer in time"):
        ends[1].receive(time.monotonic() + 0.05)


def test_a_message_that_dribbles_in_is_broken_when_the_time_is_up(ends):
    here, there = ends
    here.sock.sendall(frame("hello")[:-1])
    with pytest.raises(Broken, match="no answer in time"):
        there.receive(time.monotonic() + 0.05)


def test_a_moment_that_has_passed_is_broken_at_once(ends):
    with pytest.raises(Broken, match="no answer in time"):
        ends[1].receive(time.monotonic() - 1)


@pytest.mark.parametrize("size", [2**20, 2**25])
def test_sending_to_one_who_never_reads_ends_when_the_time_is_up(ends, size):
    with pytest.raises(Broken, match="no answer in time"):
        ends[0].send(b"\0" * size, deadline=time.monotonic() + 0.05)


def test_the_other_side_gone_is_broken(ends):
    here, there = ends
    there.close()
    with pytest.raises(Broken, match="gone"):
        here.receive(time.monotonic() + SOON)
    with pytest.raises(Broken, match="gone"):
        here.send("hello")
