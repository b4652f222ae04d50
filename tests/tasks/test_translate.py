"""The command `crossattn translate`: what comes out for every line that goes in, and what it refuses."""

import io
import json
from dataclasses import asdict

import pytest
import torch

from crossattn_ref.__main__ import main
from crossattn_ref.data.subwords import Subwords
from crossattn_ref.data.vocabulary import SPECIAL, Vocabulary
from crossattn_ref.models import stored
from crossattn_ref.models.translation import Translator, TranslatorConfig
from crossattn_ref.tasks import translation
from crossattn_ref.tasks.translate import lines

SOURCE = Vocabulary((*SPECIAL, "one", "two", "three"))
TARGET = Vocabulary((*SPECIAL, "un", "deux", "trois"))


def write_model(folder, words=(SOURCE, TARGET)):
    torch.manual_seed(3)
    config = TranslatorConfig(n_src_tokens=len(words[0]), n_tgt_tokens=len(words[1]), d_model=12, n_positions=7)
    model = Translator(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    stored.write(model, folder / "translator.safetensors", {"model": asdict(config)})
    (folder / "words.json").write_text(json.dumps([side.as_json() for side in words]), "utf-8")
    return folder


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path)


def out_of(capsys, *arguments):
    status = main(["translate", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_sentence_is_translated_as_the_model_alone_would(model, capsys):
    expected = lines(translation.load(model), [["one", "two"]])[0].target
    status, out, err = out_of(capsys, "--model", model, "one", "two")
    assert (status, out, err) == (0, " ".join(expected) + "\n", "")


def test_every_line_has_its_line_and_an_empty_one_stays_empty(model, capsys, monkeypatch):
    text = "one two\n\nthree\n   \n"
    file = model / "text"
    file.write_text(text)
    status, out, _ = out_of(capsys, "--model", model, "--file", file)
    alone = [" ".join(line.target) for line in lines(translation.load(model), [["one", "two"], ["three"]])]
    assert status == 0
    assert out.split("\n") == [alone[0], "", alone[1], "", ""]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert out_of(capsys, "--model", model)[1] == out


def test_an_unknown_word_is_named_and_the_sentence_translated_all_the_same(model, capsys):
    status, out, err = out_of(capsys, "--model", model, "one", "zwei", "zwei", "drei")
    assert status == 0
    assert err == "line 1: unknown to the model: zwei, drei\n"
    assert out.endswith("\n")


def test_links_are_shown_for_every_word_and_are_those_of_the_weights(model, capsys):
    trained = translation.load(model)
    line = lines(trained, [["one", "two", "three"]], align=True)[0]
    assert {target for _, target in line.links} == set(range(len(line.target)))
    numbers = torch.tensor([[1, *TARGET.encode(line.target)][: len(line.target)]])
    src, length = torch.tensor([SOURCE.encode(line.source)]), torch.tensor([3])
    with torch.inference_mode():
        weights = trained.model.cross_weights(numbers, trained.model.encode(src, length), length)[-1]
    best = weights[0].mean(0).argmax(-1).tolist()
    assert line.links == {(source, target) for target, source in enumerate(best[: len(line.target)])}
    _, out, _ = out_of(capsys, "--model", model, "--align", "one", "two", "three")
    rows = out.splitlines()
    assert rows[0] == " ".join(line.target)
    assert [row.split()[0] for row in rows[1:]] == list(line.target)
    assert [row.split()[-1] for row in rows[1:]] == [line.source[source] for source in best[: len(line.target)]]


def test_a_beam_may_be_asked_for(model, capsys):
    status, out, _ = out_of(capsys, "--model", model, "--beam", 3, "one", "two")
    assert (status, out.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"] * 8, "line 1 has 8 tokens, and the model reads at most 7: cut it into sentences"),
        (["--beam", "0", "one"], "width must be at least 1, got 0"),
        (["--file", "nowhere", "one"], "give words or --file, not both"),
        (["--file", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(model, capsys, arguments, message):
    status, out, err = out_of(capsys, "--model", model, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_line_that_is_not_utf_8_is_named_with_the_remedy(model, capsys):
    (model / "text").write_bytes(b"one\ntwo\nd\xe9j\xe0\n")
    status, _, err = out_of(capsys, "--model", model, "--file", model / "text")
    assert status == 2
    assert f"{model / 'text'}, line 3: not UTF-8. Convert it: iconv" in err


def test_an_unknown_model_is_refused_with_those_there_are(capsys):
    status, _, err = out_of(capsys, "--model", "nobody", "one")
    assert status == 2
    assert "--model must be a folder that `crossattn train` wrote" in err
    assert "'nobody'" in err


def test_pieces_of_words_are_translated_and_not_aligned(tmp_path, capsys):
    pieces = Subwords.learn([["one", "two", "three"]] * 3, size=30)
    folder = write_model(tmp_path, (pieces, pieces))
    assert out_of(capsys, "--model", folder, "one")[0] == 0
    status, _, err = out_of(capsys, "--model", folder, "--align", "one")
    assert (status, "needs a model of whole words" in err) == (2, True)
