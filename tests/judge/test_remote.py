"""An answer behind a channel: it is asked as one in this process is, and nothing that its side says does harm."""

import contextlib
import socket
import threading
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn_ref.checks import examine, misconceptions, reference
from crossattn_ref.checks.compare import Violation
from crossattn_ref.checks.exercise import Exercise, Property
from crossattn_ref.checks.exercise import examine as examine_subject
from crossattn_ref.checks.subject import Foreign, LocalSubject, Outcome
from crossattn_ref.checks.table import find
from crossattn_ref.judge import remote
from crossattn_ref.judge.channel import Broken, Channel
from crossattn_ref.judge.remote import RemoteSubject, bounded, by_lot

READY = {"callable": True, "shown": "f"}


def plain(value=None, error=None, said=""):
    return {"value": value, "error": error, "said": said}


@contextlib.contextmanager
def talking_to(worker, seconds=5.0, tensors=False):
    """Put a worker, a function of its end of the channel, on the other side of a RemoteSubject."""
    ours, theirs = socket.socketpair()

    def work():
        with theirs, contextlib.suppress(Broken, OSError):
            worker(Channel(theirs))

    thread = threading.Thread(target=work)
    thread.start()
    with ours:
        yield RemoteSubject(Channel(ours), "f", tensors=tensors, deadline=time.monotonic() + seconds)
    thread.join()


def answering(*replies):
    """Make a worker that gives these replies, whatever it is asked, and goes."""

    def worker(channel):
        channel.receive()
        channel.send(READY)
        for reply in replies:
            channel.receive()
            channel.send(reply)

    return worker


# What comes back.


@pytest.mark.parametrize(
    "value",
    [None, True, 2, 1.5, "text", np.eye(2), np.float32(2), (np.eye(2), (1, "two")), np.zeros(0)],
    ids=lambda value: type(value).__name__,
)
def test_a_plain_value_becomes_the_outcome(value):
    with talking_to(answering(plain(value))) as subject:
        outcome = subject.call(1)
    assert outcome.error is None
    assert repr(outcome.value) == repr(value)


def test_an_error_becomes_the_outcome_with_its_line():
    error = {"kind": "ValueError", "message": "no", "line": "raise ValueError('no')"}
    with talking_to(answering(plain(None, error, "warned"))) as subject:
        outcome = subject.call(1)
    assert (outcome.error.kind, outcome.error.message, outcome.error.line) == tuple(error.values())
    assert (outcome.value, outcome.said) == (None, "warned")


def test_a_dict_comes_back_as_one_and_what_it_holds_is_checked():
    with talking_to(answering(plain({"named": {"a": 1.5, "b": {"foreign": "a list"}}}))) as subject:
        assert subject.call(1).value == {"a": 1.5, "b": Foreign("a list")}
    with talking_to(answering(plain({"named": [1]}))) as subject:
        assert subject.call(1).error.kind == "Stopped"


def test_an_answer_is_handed_a_function_and_arrays():
    def worker(channel):
        channel.receive()
        channel.send(READY)
        message = channel.receive()
        channel.send({"ask": (message["args"][1],)})
        channel.send(plain(float(channel.receive()["value"].sum())))

    with talking_to(worker) as subject:
        assert subject.probe(lambda x: 2 * x, 0, np.eye(2)).value == 4


def test_what_is_not_data_is_known_by_its_kind_also_inside_a_tuple():
    with talking_to(answering(plain((1, {"foreign": "a list"})))) as subject:
        assert subject.call(1).value == (1, Foreign("a list"))


def test_long_texts_are_cut():
    error = {"kind": "E" * 10**5, "message": "m" * 10**5, "line": "l" * 10**5}
    with talking_to(answering(plain("v" * 10**5, None, "s" * 10**5), plain(None, error))) as subject:
        outcomes = [subject.call(1), subject.call(1)]
    assert len(outcomes[0].value) == len(outcomes[0].said) == len(outcomes[1].error.message) == 4000


@pytest.mark.parametrize(
    ("introduction", "problem"),
    [
        ({"callable": False, "shown": None}, "f is not defined at this point of your notebook"),
        ({"callable": False, "shown": "5"}, "your answer is 5, not a function or a class"),
        ({"callable": False, "shown": "5" * 1000}, "your answer is " + "5" * 80 + ", not a function"),
        ({"callable": "yes", "shown": [1]}, "your answer is [1], not a function"),
    ],
)
def test_an_answer_that_is_none_is_told_so(introduction, problem):
    with talking_to(lambda channel: (channel.receive(), channel.send(introduction))) as subject:
        assert problem in subject.problem


# What breaks it off.

GARBAGE = {
    "silence": lambda channel: time.sleep(0.3),
    "a reply of another form": answering({"value": 1}),
    "a list": answering([1, 2]),
    "a number": answering(7),
    "nothing": answering(None),
    "a value that is a list": answering(plain([1])),
    "a value that is a dict": answering(plain({"plain": 1})),
    "a value that is bytes": answering(plain(b"\x80\x04")),
    "a kind that is a number": answering(plain({"foreign": 1})),
    "an error that is text": answering(plain(None, "ValueError")),
    "an error without a line": answering(plain(None, {"kind": "E", "message": "m"})),
    "an error of numbers": answering(plain(None, {"kind": 1, "message": 2, "line": 3})),
    "said that is an array": answering(plain(1, None, np.eye(2))),
    "a question back that nobody may ask": answering({"ask": (np.eye(2),)}),
    "raw bytes": lambda channel: (channel.receive(), channel.send(READY), channel.sock.sendall(b"\xff" * 1000)),
    "half a message": lambda channel: (channel.receive(), channel.send(READY), channel.sock.sendall(b"\0\0\0\5")),
    "a broken introduction": lambda channel: (channel.receive(), channel.send([])),
    "gone at once": lambda channel: None,
    "one array too many": answering(plain(np.zeros(remote.ANSWERED // 8 + 1))),
}


@pytest.mark.parametrize("worker", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_the_conversation_and_every_later_question_gets_the_reason(worker):
    with talking_to(worker, seconds=0.2 if worker is GARBAGE["silence"] else 5) as subject:
        outcomes = [subject.call(1), subject.call(1), subject.probe(len, 0), subject.construct({})]
    assert subject.broken
    assert {outcome.error.kind for outcome in outcomes} == {"Stopped"}
    assert all(subject.broken in outcome.error.message for outcome in outcomes)


@pytest.mark.parametrize(
    ("operation", "args", "wrong"),
    [
        ("construct", ({},), 1),
        ("load_state", ({},), np.eye(2)),
        ("backward", (np.eye(2),), np.eye(2)),
        ("backward", (np.eye(2),), (np.eye(2),)),
        ("backward", (np.eye(2),), (np.eye(2), 1.0)),
        ("get", ("weight.grad",), "text"),
    ],
)
def test_a_reply_that_its_operation_never_gives_ends_the_conversation(operation, args, wrong):
    """After a forward with two floating arrays, backward gives two gradients."""
    with talking_to(answering(plain(np.eye(2)), plain(wrong)), tensors=True) as subject:
        subject.forward(np.eye(2), np.eye(3), np.eye(2) > 0, 5)
        assert getattr(subject, operation)(*args).error.kind == "Stopped"


def test_answers_that_are_large_together_end_the_conversation():
    large = plain(np.zeros(remote.ANSWERED // 40))
    with talking_to(answering(*[large] * 10)) as subject:
        kinds = [subject.call(1).error is None for _ in range(10)]
    assert kinds == [True] * 4 + [False] * 6


def test_rows_without_a_number_are_counted_as_if_they_had_one():
    """They weigh nothing on the way, and a gigabyte where they are written out."""
    rows = remote.ANSWERED // 3
    replies = [
        plain(np.zeros((rows, 0))),
        plain({"named": {"a": np.zeros((rows, 0))}}),
        plain((np.zeros((rows, 0, 3)), 1)),
    ]
    with talking_to(answering(*replies, plain(1.0))) as subject:
        first, second, third = (subject.call(1) for _ in replies)
        assert first.value.shape == second.value["a"].shape == (rows, 0)
        assert "came to more than" in third.error.message


def test_one_who_never_reads_does_not_hold_the_judge_up():
    with talking_to(lambda channel: (channel.receive(), channel.send(READY), time.sleep(1)), seconds=0.3) as subject:
        began = time.monotonic()
        assert subject.call(np.zeros(10**6)).error.kind == "Stopped"
        assert time.monotonic() - began < 5


@settings(deadline=None, max_examples=100)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.sampled_from(["value", "error", "said", "ask", "foreign", "kind", "message", "line"]), inner),
    max_leaves=10,
))  # fmt: skip
def test_random_replies_end_in_an_outcome_and_never_in_an_error(reply):
    with talking_to(answering(reply, reply, reply)) as subject:
        assert isinstance(subject.call(1), Outcome)
        assert isinstance(subject.probe(lambda x: x, 1), Outcome)


# A learner's test asks back.


def asking(*questions):
    """Make a worker that asks back, and then gives what it was told, as text."""

    def worker(channel):
        channel.receive()
        channel.send(READY)
        channel.receive()
        told = []
        for question in questions:
            channel.send({"ask": question})
            told.append(channel.receive())
        channel.send(plain(str([sorted(answer) for answer in told])))
        channel.receive()
        channel.send(plain(tuple(str(answer.get("error", answer.get("value"))) for answer in told)))

    return worker


def test_what_a_test_asks_is_computed_on_this_side_with_copies():
    seen = []

    def target(x, y):
        seen.append((x, y))
        x += 1
        return x @ y

    with talking_to(asking((np.eye(2), np.ones((2, 3))))) as subject:
        subject.probe(target, 0)
        (told,) = subject.call(1).value
    assert told == str(np.eye(2) @ np.ones((2, 3)) + 2 * np.ones((2, 3)) - np.eye(2) @ np.zeros((2, 3))).replace(
        "3.", "3."
    )
    assert seen[0][0].shape == (2, 2)


def test_its_errors_come_back_by_their_kind_and_never_in_words_that_name_it():
    def first_key_favoured(x):
        raise IndexError("first_key_favoured went out of range")

    with talking_to(asking((np.eye(2),), (np.eye(2), np.eye(2), np.eye(2)))) as subject:
        subject.probe(first_key_favoured, 0)
        raised, misfit = subject.call(1).value
    assert "IndexError" in raised
    assert "TypeError" in misfit
    assert "favoured" not in raised + misfit


@pytest.mark.parametrize(
    "question",
    [
        (np.zeros(remote.ELEMENTS + 1),),
        (np.zeros((10**7, 0)),),  # holds nothing, and a loop over its rows would never end
        (np.zeros((0, 10**7)), np.zeros((0, 10**7))),
        (np.zeros((200, 1, 101)),),
        ([0.0] * (remote.ELEMENTS + 1),),
        ([np.zeros((100, 100))] * 3,),
        ([[[{"a": 1}]]],),
        ({"a": 1},),
        [np.eye(2)],
        "text",
        5,
        None,
    ],
    ids=repr,
)
def test_arguments_that_nothing_of_ours_should_be_called_with_are_refused(question):
    called = []
    with talking_to(asking(question)) as subject:
        subject.probe(lambda *args: called.append(args), 0)
        (told,) = subject.call(1).value
    assert "ValueError" in told
    assert not called


@pytest.mark.parametrize("named", [{"x": np.zeros(remote.ELEMENTS + 1)}, {"x": {"y": 1}}, [np.eye(2)], None], ids=repr)
def test_nor_are_they_by_name(named):
    def worker(channel):
        channel.receive()
        channel.send(READY)
        channel.receive()
        channel.send({"ask": (), "named": named})
        channel.send(plain(str(channel.receive()["error"])))

    called = []
    with talking_to(worker) as subject:
        assert "ValueError" in subject.probe(lambda **named: called.append(named), 0).value
    assert not called


def test_arguments_may_be_lists_and_have_names_as_in_a_notebook():
    def worker(channel):
        channel.receive()
        channel.send(READY)
        channel.receive()
        channel.send({"ask": ([[1, 2], [3, 4]],), "named": {"columns": [0, np.int64(1)], "times": 5}})
        channel.send(plain(channel.receive()["value"]))

    def target(rows, *, times, columns):
        return times * np.asarray(rows)[:, columns[::-1]]

    with talking_to(worker) as subject:
        np.testing.assert_array_equal(subject.probe(target, 0).value, [[10, 5], [20, 15]])


def test_shapes_that_need_gigabytes_are_a_memory_error_for_the_test_alone():
    """Every argument is small; together they broadcast to 10^13 numbers."""
    n = remote.ELEMENTS
    question = (np.zeros((n, 1, 1)), np.zeros((1, n, 1)), np.zeros((1, 1, n)))
    with talking_to(asking(question, (np.eye(2), np.eye(2), np.eye(2)))) as subject, bounded():
        subject.probe(lambda x, y, z: x + y + z, 0)
        first, second = subject.call(1).value
    assert "Memory" in first
    assert "3." in second


def test_a_test_that_never_stops_asking_is_broken_off():
    def worker(channel):
        channel.receive()
        channel.send(READY)
        while True:
            channel.receive()
            channel.send({"ask": (1,)})

    with talking_to(worker, seconds=60) as subject:
        assert "more than 2000 times" in subject.probe(lambda x: x, 0).error.message


def test_what_the_target_warns_of_is_heard_where_it_was_called():
    def worker(channel):
        channel.receive()
        channel.send(READY)
        channel.receive()
        channel.send({"ask": (np.zeros(2),)})
        channel.send(plain(channel.receive()["said"]))

    with talking_to(worker) as subject:
        assert "RuntimeWarning: invalid value" in subject.probe(lambda x: x / x, 0).value


def test_a_target_of_tensors_is_given_tensors_and_gives_arrays():
    torch = pytest.importorskip("torch")

    def target(x):
        assert isinstance(x, torch.Tensor)
        return x.requires_grad_() * 2

    with talking_to(asking((np.eye(2),)), tensors=True) as subject:
        subject.probe(target, 0)
        assert subject.call(1).value == (str(2 * np.eye(2)),)


def test_the_judge_grows_no_further_than_its_bound_and_can_grow_again_afterwards():
    with bounded(), pytest.raises(MemoryError):
        np.zeros(remote.GROWTH // 8 + 2**26)
    np.zeros(remote.GROWTH // 8 + 2**26)


# In an order drawn by lot.


class Told:
    """A subject that answers every probe rightly and writes down the order of the targets."""

    def __init__(self, right):
        self._right = right
        self.order = []
        self.known = {}

    def probe(self, target, seed):
        if (id(target), seed) not in self.known:
            self.order.append(target)
            self.known[id(target), seed] = Outcome(target in self._right)
        return self.known[id(target), seed]


PROBING = ("attention/symmetry_test", "masks/leak_test", "cross-attention/source_swap_test")


def _targets(name):
    """The targets of a check, in its own order."""
    told = Told(())
    examine_subject(name, replace(find(name), misconceptions=(), compositions=tuple), told, 0)
    return told.order


@pytest.mark.parametrize("name", PROBING)
def test_the_probes_of_a_check_come_in_an_order_that_its_seed_draws(name):
    orders, targets = [], _targets(name)
    for seed in (1, 1, 2, 3):
        told = Told(())
        by_lot(name, find(name), told, seed)
        assert len(told.order) == len(targets)
        orders.append([targets.index(target) for target in told.order])
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) for order in orders)


@pytest.mark.parametrize("name", PROBING)
def test_afterwards_the_check_asks_nothing_new(name):
    told = Told(())
    exercise = replace(find(name), misconceptions=(), compositions=tuple)
    by_lot(name, exercise, told, 7)
    asked = len(told.order)
    examine_subject(name, exercise, told, 7)
    assert len(told.order) == asked


def test_a_check_without_probes_asks_nothing_in_rehearsal():
    by_lot("attention/softmax", find("attention/softmax"), object(), 0)


def counting():
    """Make a test that looks at nothing and counts: the first ones are right, the others wrong."""
    calls = []

    def test(attend, rng):
        calls.append(1)
        return len(calls) <= 8

    return test


def test_a_test_that_counts_its_calls_passes_in_the_checks_own_order_and_not_by_lot():
    name = "attention/symmetry_test"
    assert examine(name, counting()).score == 1  # in a notebook, for its own eyes

    class Remembering(LocalSubject):
        known = None

        def probe(self, target, seed):
            self.known = self.known or {}
            if (id(target), seed) not in self.known:
                self.known[id(target), seed] = super().probe(target, seed)
            return self.known[id(target), seed]

    scores = []
    for seed in range(20):
        subject = Remembering(counting())
        by_lot(name, find(name), subject, seed)
        scores.append(examine_subject(name, find(name), subject, seed).score)
    assert max(scores) == 0
    honest = Remembering(reference(name))
    by_lot(name, find(name), honest, 0)
    assert examine_subject(name, find(name), honest, 0).score == 1
    assert misconceptions(name)


def test_targets_that_a_check_makes_anew_each_time_are_asked_as_they_come():
    """Such a target may count its calls for the check: it must be the one that the check made."""
    made = []

    def test(ask, rng):
        calls = []

        def counted(x):
            calls.append(x)
            return x

        made.append(calls)
        ask.verdict(counted, rng)
        if len(calls) != 3:
            raise Violation("ask three times")

    exercise = Exercise(reference=lambda f, rng: f(f(f(1))) == 1, properties=(Property("counts", 1, test),))
    subject = LocalSubject(exercise.reference)
    by_lot("made/up", exercise, subject, 0)
    assert examine_subject("made/up", exercise, subject, 0).score == 1


def test_memory_stays_flat_over_many_conversations():
    def converse():
        with talking_to(answering(*[plain(np.zeros(10**5))] * 3)) as subject:
            for _ in range(3):
                subject.call(np.zeros(10**5))

    converse()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        converse()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10**5
