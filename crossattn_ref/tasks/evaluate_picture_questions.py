"""How good answers to the questions of others are, question by question, beside three who do not look.

These are: the model itself before blank pictures; the most frequent answer to the very same words in training
(question-only); and the most frequent answer of all there (majority).

Letters: B questions.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from crossattn_ref.tasks.evaluate_captions import blank
from crossattn_ref.tasks.picture_questions import Corpus
from crossattn_ref.tasks.trained import Trained
from crossattn_ref.tasks.vqa import Numbers, scores

RIVALS = ("blank", "question-only", "majority")


def right(trained: Trained, corpus: Corpus, split: str) -> dict[str, np.ndarray]:
    """Tell of each question of a split whether the answer is right: of the "model" and each of RIVALS -> bool (B,)."""
    asked, learnt = corpus.splits[split], corpus.splits["train"]
    unseen = replace(asked, images=torch.from_numpy(blank(asked.images.numpy())))
    found = {
        "model": _answers(trained, asked),
        "blank": _answers(trained, unseen),
        "question-only": question_only(learnt, asked),
        "majority": np.full(len(asked.answers), _most_frequent(learnt.answers.tolist())),
    }
    return {name: answers == asked.answers.numpy() for name, answers in found.items()}


def question_only(learnt: Numbers, asked: Numbers) -> np.ndarray:
    """Guess from the words alone: the most frequent answer to the same ones, to any where they are new -> (B,)."""
    by_words = {}
    for words, answer in zip(map(tuple, learnt.words.tolist()), learnt.answers.tolist(), strict=True):
        by_words.setdefault(words, []).append(answer)
    usual = {words: _most_frequent(answers) for words, answers in by_words.items()}
    otherwise = _most_frequent(learnt.answers.tolist())
    return np.array([usual.get(tuple(words), otherwise) for words in asked.words.tolist()])


def _answers(trained, asked):
    asked = asked.to(next(trained.model.parameters()).device)
    return scores(trained.model, asked).argmax(dim=-1).cpu().numpy()


def _most_frequent(answers):
    return Counter(answers).most_common(1)[0][0]
