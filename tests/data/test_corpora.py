"""Corpora in files that we write here: names, packing, encodings, and lines that do not match."""

import gzip
import re
import sys
import types

import pytest

from crossattn_ref.data import corpora

TRAIN = ("A dog , two cats .\nzwei\n", "Ein Hund , zwei Katzen .\ntwo\n")


def write(folder, name, text, encoding="utf-8"):
    content = text.encode(encoding)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val", "test_2016_flickr"):
        for language, text in zip(("en", "de"), TRAIN, strict=True):
            write(tmp_path, f"{split}.lc.norm.tok.{language}", text)
    return tmp_path


def test_tokenised_files_are_read_word_by_word_as_they_stand(folder):
    splits = corpora.from_folder(folder, src="en", tgt="de")
    assert list(splits) == ["train", "dev", "test"]
    for pairs in splits.values():
        assert [pair.src for pair in pairs] == [("A", "dog", ",", "two", "cats", "."), ("zwei",)]
        assert pairs[0].tgt == ("Ein", "Hund", ",", "zwei", "Katzen", ".")
        assert not pairs[0].possible
    assert corpora.multi30k(folder=folder) == splits
    assert corpora.from_folder(folder, src="de", tgt="en")["dev"][1].src == ("two",)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_other_text_is_lower_cased_and_cut_at_punctuation(tmp_path, ending):
    for name in ("train", "valid"):
        write(tmp_path, f"{name}.en{ending}", "Two dogs, it's late.\n")
        write(tmp_path, f"{name}.de{ending}", "ZWEI Hunde: spät!")
    (pair,) = corpora.from_folder(tmp_path, src="en", tgt="de")["dev"]
    assert pair.src == ("two", "dogs", ",", "it's", "late", ".")
    assert pair.tgt == ("zwei", "hunde", ":", "spät", "!")


def test_pairs_with_an_empty_side_are_left_out_of_training_alone(folder):
    for split in ("train", "val"):
        write(folder, f"{split}.lc.norm.tok.en", "a\n\nb\n")
        write(folder, f"{split}.lc.norm.tok.de", "x\ny\n\n")
    splits = corpora.from_folder(folder, src="en", tgt="de")
    assert [pair.src for pair in splits["train"]] == [("a",)]
    assert [pair.src for pair in splits["dev"]] == [("a",), (), ("b",)]


def test_only_a_line_feed_ends_a_line_and_a_mark_of_byte_order_is_no_word(folder):
    for split in ("train", "val", "test_2016_flickr"):
        write(folder, f"{split}.lc.norm.tok.en", "a\u2028b\x0bc\r\nd\n", "utf-8-sig")
    assert [len(pair.src) for pair in corpora.from_folder(folder, src="en", tgt="de")["dev"]] == [3, 1]
    assert corpora.from_folder(folder, src="en", tgt="de")["dev"][0].src[0] == "a"


def test_files_of_differing_lengths_are_named_with_the_line_where_one_ends(folder):
    write(folder, "val.lc.norm.tok.de", "eins\nzwei\ndrei\n")
    with pytest.raises(ValueError, match=r"val\.lc\.norm\.tok\.en has 2 lines .*de 3: .*tok\.en ends after line 2"):
        corpora.from_folder(folder, src="en", tgt="de")


def test_a_broken_encoding_is_named_with_file_and_line(folder):
    write(folder, "train.lc.norm.tok.de", "gut\nschön\n", "latin-1")
    with pytest.raises(ValueError, match=r"train\.lc\.norm\.tok\.de, line 2: not UTF-8 \(byte 0xf6 at place 4\)"):
        corpora.from_folder(folder, src="en", tgt="de")


def test_a_cut_off_gzip_is_named(tmp_path):
    for language in ("en", "de"):
        write(tmp_path, f"train.{language}.gz", "a\n" * 99)
    (tmp_path / "train.de.gz").write_bytes((tmp_path / "train.de.gz").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"train\.de\.gz is no whole gzip file"):
        corpora.from_folder(tmp_path, src="en", tgt="de")


def test_what_is_missing_is_said(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("must hold train.en and train.fr")):
        corpora.from_folder(folder, src="en", tgt="fr")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        corpora.from_folder(tmp_path / "nowhere", src="en", tgt="de")
    for path in folder.glob("test*"):
        path.unlink()
    assert list(corpora.from_folder(folder, src="en", tgt="de")) == ["train", "dev"]


def test_multi30k_is_fetched_with_checksums_and_its_licence_is_shown(folder, monkeypatch, capsys):
    """With a stand-in for pooch: nothing is fetched here."""
    asked = []

    def retrieve(url, known_hash, *, fname, path):
        asked.append((url, known_hash, fname))
        assert path == folder / "multi30k"

    (folder / "multi30k").mkdir()
    for path in folder.glob("*.tok.*"):
        path.rename(folder / "multi30k" / path.name)
    pooch = types.SimpleNamespace(os_cache=lambda name: str(folder), retrieve=retrieve)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    assert len(corpora.multi30k()["train"]) == 2
    assert "non-commercial research" in capsys.readouterr().out
    assert sorted(name for _, _, name in asked) == sorted(path.name for path in (folder / "multi30k").iterdir())
    assert all(url == corpora.MULTI30K + name for url, _, name in asked)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", known) for _, known, _ in asked)
    assert len({known for _, known, _ in asked}) == 6
    with pytest.raises(ValueError, match=r"must be two of en, de, fr for Multi30k, got en and cs"):
        corpora.multi30k(tgt="cs")
