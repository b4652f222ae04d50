"""Telephone keys as sound: an ear that knows nothing but the standard hears each key in its frames."""

import numpy as np
import pytest

from crossattn_ref.data import tones

# Keys by their pair of tones in hertz, as in ITU-T recommendation Q.23.
STANDARD = {
    "1": (697, 1209), "2": (697, 1336), "3": (697, 1477), "4": (770, 1209), "5": (770, 1336), "6": (770, 1477),
    "7": (852, 1209), "8": (852, 1336), "9": (852, 1477), "0": (941, 1336),
}  # fmt: skip


def power(samples, frequency):
    """How strongly a frequency sounds, by a sum of its own: no Fourier transform."""
    time = np.arange(len(samples)) / tones.RATE
    return abs(np.sum(samples * np.exp(-2j * np.pi * frequency * time))) / len(samples)


def test_the_keys_are_those_of_the_standard():
    assert tones.KEYS == STANDARD


def test_an_ear_for_single_frequencies_hears_every_key_where_it_was_pressed():
    keys, spans = "4079", np.array([[2, 6], [7, 10], [13, 19], [20, 23]])
    heard = tones.sound(keys, spans, n_frames=29)
    for key, (first, behind) in zip(keys, spans, strict=True):
        samples = heard[first * tones.FRAME : behind * tones.FRAME]
        loudest = [max(group, key=lambda f, s=samples: power(s, f)) for group in (tones.LOW, tones.HIGH)]
        assert tuple(loudest) == STANDARD[key]
    silent = np.concatenate([heard[: 2 * tones.FRAME], heard[23 * tones.FRAME :]])
    assert not silent.any()


def test_a_spectrogram_is_loudest_at_the_tones_of_the_key():
    heard = tones.spectrogram(tones.sound("8", [(3, 7)], n_frames=11))
    assert heard.shape == (tones.N_FREQUENCIES, 11)
    assert heard.dtype == np.float32
    hertz = (20 + np.arange(tones.N_FREQUENCIES)) * tones.RATE / tones.FRAME
    for frame in range(3, 7):
        low, high = hertz < 1075, hertz > 1075
        assert abs(hertz[low][heard[low, frame].argmax()] - 852) < 20
        assert abs(hertz[high][heard[high, frame].argmax()] - 1336) < 20
    assert heard[:, [0, 1, 2, 7, 8, 9, 10]].max() == 0


def test_keys_follow_each_other_with_pauses_and_end_in_time():
    drawn = tones.calls(np.random.default_rng(3), 200, n_keys=5, n_frames=47)
    first, behind = drawn.spans[..., 0], drawn.spans[..., 1]
    assert set(np.unique(behind - first)) == {3, 4, 5, 6}
    assert set(np.unique(first[:, 1:] - behind[:, :-1])) == {1, 2, 3}
    assert first.min() == 1
    assert behind.max() <= 47
    assert set(np.unique(drawn.keys)) == set(range(10))
    assert len(drawn) == 200


def test_in_noise_the_frames_of_a_key_are_still_louder_than_the_pauses():
    drawn = tones.calls(np.random.default_rng(5), 30)
    loud = drawn.spectrograms.max(axis=1)  # (B, T)
    inside = np.zeros(loud.shape, dtype=bool)
    for row, spans in zip(inside, drawn.spans, strict=True):
        for first, behind in spans:
            row[first:behind] = True
    assert loud[inside].mean() > loud[~inside].mean() + 1
    assert loud[~inside].min() > 0
    silent = tones.calls(np.random.default_rng(5), 30, noise=0.0).spectrograms.max(axis=1)
    assert silent[:, 0].max() == 0


def test_the_same_seed_gives_the_same_calls_and_another_one_others():
    one, same, other = (tones.calls(np.random.default_rng(seed), 3) for seed in (3, 3, 7))
    assert np.array_equal(one.spectrograms, same.spectrograms)
    assert not np.array_equal(one.keys, other.keys)


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match=r"n_frames \(53\) must be at least 9 for each of n_keys \(6\)"):
        tones.calls(np.random.default_rng(3), 2, n_frames=53)
