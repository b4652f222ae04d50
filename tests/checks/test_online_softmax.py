"""The exercises on online softmax: their stages are the package's, and nobody carries more than the notes."""

import numpy as np
import pytest

from crossattn_ref.attention import online, reference
from crossattn_ref.checks import examine
from crossattn_ref.checks import online_softmax as exercises
from crossattn_ref.checks.variants import chunks, merging

NQ, NK, DK, DV = 5, 11, 7, 3


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in ((NQ, DK), (NK, DK), (NK, DV))]


def streamed(read, cuts, seen, q, k, v):
    notes, at = [np.full(NQ, -np.inf), np.zeros(NQ), np.zeros((NQ, DV))], 0
    for n in cuts:
        out, *notes = read(q, k[at : at + n], v[at : at + n], at, seen, *notes)
        at += n
    return out


def test_the_lines_of_stages_merge_and_read_as_the_package_does():
    q, k, v = sequences()
    parts = [online.partial(q, k[block], v[block]) for block in (slice(0, 4), slice(4, NK))]
    for ours, theirs in zip(merging.merge(*parts[0], *parts[1]), online.merge(*parts), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    seen = np.array([0, 3, 11, 5, 8])
    mask = np.arange(NK) < seen[:, None]
    for cuts in ((11,), (3, 0, 4, 4)):
        np.testing.assert_allclose(
            streamed(chunks.read_block, cuts, seen, q, k, v), reference.attention(q, k, v, mask), atol=1e-14
        )


def test_the_backward_stages_give_the_gradients_of_the_oracle():
    case = exercises._backward_case(np.random.default_rng(1), 9, np.array([6, 0, 8, 9]))
    given, seen, out, log_total = case
    parts = [
        chunks.backward(given["grad_out"], given["q"], given["k"][b], given["v"][b], b.start, seen, out, log_total)
        for b in (slice(0, 4), slice(4, 9))
    ]
    right = reference.attention_backward(*given.values(), np.arange(9) < seen[:, None])
    np.testing.assert_allclose(parts[0][0] + parts[1][0], right[0], atol=1e-14)
    for place in (1, 2):
        np.testing.assert_allclose(np.concatenate([part[place] for part in parts]), right[place], atol=1e-14)


def test_notes_that_grow_are_counted_and_refused_with_the_numbers():
    report = examine("online-softmax/chunked_attention", chunks._a_note_for_each_block)
    finding = next(f for f in report.findings if f.property.startswith("as much room"))
    assert not finding.passed
    assert "after 4 keys your notes hold 50 numbers, and there is room for 25" in finding.message
    assert report.diagnosis[0].name == "a note for each block"


def test_who_remembers_the_keys_behind_the_check_s_back_is_found_out_where_two_memories_begin_alike():
    """A hoarder keeps all keys of a stream in a global, and returns notes that are none."""
    hoard = {}

    def hoarder(q, k, v, start, seen, top, total, summed):
        keys, values = hoard.get("kv", (k[:0], v[:0]))
        if start == 0:
            keys, values = k[:0], v[:0]
        hoard["kv"] = keys, values = np.concatenate([keys, k]), np.concatenate([values, v])
        mask = np.arange(len(keys)) < seen[:, None]
        return reference.attention(q, keys, values, mask), top, total, summed

    report = examine("online-softmax/chunked_attention", hoarder)
    failed = [finding.property for finding in report.findings if not finding.passed]
    assert "two memories that begin alike, from the same notes" in failed


def test_the_check_itself_hands_over_no_more_than_a_block_at_a_time():
    largest = []

    def watcher(q, k, v, start, seen, *notes):
        largest.append(len(k))
        return chunks.read_block(q, k, v, start, seen, *notes)

    assert examine("online-softmax/chunked_attention", watcher).score == 1
    assert max(largest) <= 7
    assert len(largest) > 2 + 4 + 8 + 16


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda *_: np.zeros(3), "it returned a ndarray, where a tuple of 3 is wanted: top, total, summed"),
        (lambda *args: args[:2], "it returned a tuple of 2"),
        (lambda *args: (args[0], args[1], args[2][:, :1]), "summed has shape"),
        (lambda *args: (args[0], args[1], None), "summed: it returned None"),
    ],
)
def test_what_are_no_notes_is_answered_in_words(answer, complaint):
    assert complaint in examine("online-softmax/merge", answer).findings[0].message


def test_notes_that_say_the_same_in_other_numbers_are_as_good():
    report = examine("online-softmax/merge", merging._by_log_total)
    assert report.score == 1


@pytest.mark.parametrize("form", [lambda grads: grads[0], lambda grads: (*grads[:2], "v")])
def test_gradients_that_change_their_form_from_one_call_to_the_next_are_told(form):
    """An answer that keeps something from one call to the next may return anything at the second."""
    calls = []

    def moody(*args):
        calls.append(1)
        grads = chunks.backward(*args)
        return form(grads) if len(calls) % 2 == 0 else grads

    report = examine("online-softmax/chunked_backward", moody, seed=1)
    assert report.score == 0
    assert "asked the same for a second time" in report.text()
