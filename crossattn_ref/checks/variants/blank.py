"""Mistakes in measuring a model that is shown blank pictures, right answers, and models to measure.

A model takes images (N, Y, X, C) and questions (N, L), integers below WORDS, and returns scores (N, A); its answer is
the one with the highest score. Blank is a picture whose every pixel has the mean colour of all the pictures given.
"""

from collections.abc import Callable

import numpy as np

from crossattn_ref.checks.variants.stages import flat, pairs, staged

WORDS = 7


def _mean_colour(images):
    return np.broadcast_to(images.mean(axis=(0, 1, 2)), images.shape)


def _as_asked(questions):
    return questions


def accuracy(scores, answers):
    return float((scores.argmax(axis=-1) == answers).mean())


def _blind(model, images, blank, questions, answers, judge):
    return judge(model(blank, questions), answers)


def baseline(model, images, questions, answers, *, blank=_mean_colour, read=_as_asked, judge=accuracy, compare=_blind):
    """Measure a model that sees nothing, with any stage replaced; as it stands, the right one."""
    return compare(model, images, blank(images), read(questions), answers, judge)


def _each_its_mean(images):
    return np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)


def _mean_picture(images):
    return np.broadcast_to(images.mean(axis=0), images.shape)


def _grey(images):
    return np.full_like(images, images.mean())


def _unchanged(model, images, blank, questions, answers, judge):
    return judge(model(blank, questions), model(images, questions).argmax(axis=-1))


def _drop(model, images, blank, questions, answers, judge):
    return judge(model(images, questions), answers) - judge(model(blank, questions), answers)


def _most_frequent(model, images, blank, questions, answers, judge):
    return float(np.bincount(answers).max() / len(answers))


def _ratio(model, images, blank, questions, answers, judge):
    seeing = judge(model(images, questions), answers)
    return judge(model(blank, questions), answers) / seeing if seeing else 0.0


STAGES = staged(
    baseline,
    blank=(
        ("not blank", lambda images: images, "with the pictures as they are", "What does the model see in your run?"),
        ("black", np.zeros_like, "with black pictures",
         "Does black occur in what the model was trained on? Which colour did the exercise ask for?"),
        ("white", np.ones_like, "with white pictures",
         "Does white occur in what the model was trained on? Which colour did the exercise ask for?"),
        ("each its own mean", _each_its_mean, "with every picture in its own mean colour",
         "A dark picture and a bright one: can the model still tell them apart?"),
        ("mean picture", _mean_picture, "with the mean of all pictures, pixel by pixel",
         "Where things usually lie can still be seen in your picture. Is it blank?"),
        ("grey", _grey, "with one number for all channels: a grey",
         "How many numbers has a colour?"),
        ("another picture", lambda images: np.roll(images, 1, axis=0), "with the picture of another question",
         "A wrong picture is no blank one. What does the model see in your run?"),
        ("first picture", lambda images: np.broadcast_to(images[:1], images.shape), "with the first picture for all",
         "A wrong picture is no blank one. What does the model see in your run?"),
        ("first picture's mean", lambda images: np.broadcast_to(images[:1].mean(axis=(0, 1, 2)), images.shape),
         "with the mean colour of the first picture alone", "Over which axes is the mean of all the pictures?"),
        ("median", lambda images: np.broadcast_to(np.median(images, axis=(0, 1, 2)), images.shape),
         "with the median colour, not the mean", "Which colour did the exercise ask for?"),
    ),
    read=(
        ("question taken away", np.zeros_like, "with the questions taken away as well",
         "What should be left when the eyes are closed?"),
        ("another question", lambda questions: np.roll(questions, 1, axis=0), "with every picture's question shifted",
         "Which question belongs to answer 0?"),
    ),
    judge=(
        ("percent", lambda scores, answers: 100 * accuracy(scores, answers), "with percent in the place of a share",
         "Between which two numbers must the result lie?"),
        ("counted", lambda scores, answers: float((scores.argmax(-1) == answers).sum()), "with a number, not a share",
         "Between which two numbers must the result lie?"),
        ("wrong ones counted", lambda scores, answers: 1 - accuracy(scores, answers),
         "with the share of wrong answers", "A model that needs no picture: should it get 0 or 1?"),
        ("lowest score", lambda scores, answers: float((scores.argmin(-1) == answers).mean()),
         "with the answer of the lowest score", "Which answer does a model give?"),
        ("mean score", lambda scores, answers: float(np.take_along_axis(scores, answers[:, None], 1).mean()),
         "with the mean score of the right answer, not its place among the others",
         "Double all scores of a model: does it answer any better?"),
        ("in the best two", lambda scores, answers: float(
            (np.argsort(scores, axis=-1)[:, -2:] == answers[:, None]).any(-1).mean()),
         "when the right answer may also come second", "How many answers does a model give to a question?"),
    ),
    compare=(
        ("difference", _drop, "with what the picture adds, not with what is left without it",
         "A model that needs no picture: should it get 0 or 1?"),
        ("ratio", _ratio, "with what is left as a share of what there was",
         "Divide by what: all questions, or those that were answered right before?"),
        ("unchanged answers", _unchanged, "with the share of answers that stay the same, right or wrong",
         "A wrong answer that stays wrong: does it count?"),
        ("most frequent answer", _most_frequent, "with the most frequent answer, without asking the model",
         "Which model did you measure?"),
    ),
)  # fmt: skip
MISTAKES = flat(STAGES)


def composed():
    """Make the mistakes that two stages make together."""
    return pairs(baseline, STAGES)


def _one_by_one(model, images, questions, answers):
    colour = images.reshape(-1, images.shape[-1]).mean(axis=0)
    blank, right = np.tile(colour, (1, *images.shape[1:3], 1)), 0
    for question, answer in zip(questions, answers, strict=True):
        right += int(np.argmax(model(blank, question[None])[0])) == answer
    return right / len(answers)


def _in_halves(model, images, questions, answers):
    blank = np.zeros(images.shape) + images.mean(2).mean(1).mean(0)
    half = (len(images) + 1) // 2
    found = [
        model(blank[part], questions[part]).argmax(-1) for part in (slice(half), slice(half, None)) if len(blank[part])
    ]
    return np.mean(np.concatenate(found) == answers)


def _in_float32(model, images, questions, answers):
    blank = np.empty_like(images, dtype=np.float32)
    blank[:] = images.mean(axis=(0, 1, 2))
    return np.float32((np.argmax(model(blank, questions), axis=1) == answers).mean())


ALTERNATIVES = (_one_by_one, _in_halves, _in_float32)


def draw_model(rng: np.random.Generator, image_shape: tuple[int, ...], n_answers: int, *, eyes: str) -> Callable:
    """Draw a model that looks at nothing, at the mean "colour" of a picture, or at its "pixels", and reads questions.

    What it sees turns the meaning of every word: hardly any two pictures get the same answers to all questions.
    """
    by_word = rng.standard_normal((WORDS, 2 * n_answers))
    by_colour = 9 * rng.standard_normal((image_shape[-1], 2 * n_answers))
    by_pixel = 9 * rng.standard_normal((*image_shape, 2 * n_answers)) / np.sqrt(np.prod(image_shape[:2]))
    mixed = rng.standard_normal((2 * n_answers, n_answers))
    looks = {
        "closed": lambda images: 1.0,
        "colour": lambda images: np.sin(images.mean(axis=(1, 2)) @ by_colour),
        "pixels": lambda images: np.sin(np.tensordot(images, by_pixel, axes=3)),
    }

    def model(images, questions):
        seen = looks[eyes](np.asarray(images, np.float64))
        return (by_word[questions].mean(axis=1) * seen) @ mixed

    return model
