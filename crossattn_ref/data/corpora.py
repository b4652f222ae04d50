"""Real corpora: two files with a sentence on every line, in which line n of one translates line n of the other.

A corpus is found in a folder, or fetched once (Multi30k, whose texts are not ours to pass on). Files may be packed
with gzip. Text that is not tokenised yet is lower-cased and cut at punctuation, simply.
"""

import gzip
import re
import zlib
from pathlib import Path

from crossattn_ref.data.translation import Pair

SPLITS = {"train": ("train",), "dev": ("val", "dev", "valid"), "test": ("test_2016_flickr", "test2016", "test")}
_TOKENISED = ".lc.norm.tok"
_WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")

MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/tok/"
MULTI30K_LICENCE = (
    "Multi30k: Elliott et al. (2016), texts of Flickr30k and their translations. For non-commercial research and "
    "education only; they stay on this machine, and neither they nor what is trained on them may be passed on."
)
_MULTI30K_SHA256 = {
    "train.lc.norm.tok.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "train.lc.norm.tok.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "train.lc.norm.tok.fr": "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    "val.lc.norm.tok.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "val.lc.norm.tok.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.lc.norm.tok.fr": "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
    "test_2016_flickr.lc.norm.tok.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2016_flickr.lc.norm.tok.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.lc.norm.tok.fr": "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
}


def from_folder(folder: Path, *, src: str, tgt: str) -> dict[str, list[Pair]]:
    """Read "train", "dev" and, where there is one, "test" from a folder -> pairs of words, without links.

    src and tgt are the languages as they stand at the end of the names: train.en and train.de, or train.en.gz, or,
    already tokenised, train.lc.norm.tok.en. dev may be called val, and test test_2016_flickr. Pairs with an empty side
    are left out of "train" alone.

    Raises FileNotFoundError that names what was looked for, and ValueError that names file and line for a broken
    encoding, a broken gzip, or files that are not equally long.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = {}
    for split, names in SPLITS.items():
        files = [_find(folder, names, language) for language in (src, tgt)]
        if None not in files:
            found[split] = read_pairs(*files)
        elif split != "test":
            raise FileNotFoundError(f"{folder} must hold {names[0]}.{src} and {names[0]}.{tgt} (or .gz), and does not")
    found["train"] = [pair for pair in found["train"] if pair.src and pair.tgt]
    return found


def multi30k(*, src: str = "en", tgt: str = "de", folder: Path | None = None) -> dict[str, list[Pair]]:
    """Read Multi30k, tokenised and lower-cased; without a folder it is fetched once, checked, and kept in a cache.

    Splits, errors: as from_folder. Prints the licence when it fetches. Source: Elliott et al., Multi30K (2016).
    """
    return from_folder(_fetched(src, tgt) if folder is None else folder, src=src, tgt=tgt)


def read_pairs(src: Path, tgt: Path) -> list[Pair]:
    """Read two files line by line; errors as for from_folder."""
    lines = [_lines(Path(path)) for path in (src, tgt)]
    if len(lines[0]) != len(lines[1]):
        path, n = min(zip((src, tgt), map(len, lines), strict=True), key=lambda file: file[1])
        raise ValueError(
            f"{src} has {len(lines[0])} lines and {tgt} {len(lines[1])}: they must be equally many, "
            f"and {Path(path).name} ends after line {n}"
        )
    return [Pair(tuple(one), tuple(other)) for one, other in zip(*lines, strict=True)]


def _find(folder, names, language):
    for name in names:
        for ending in (f"{_TOKENISED}.{language}", f".{language}"):
            for path in (folder / f"{name}{ending}", folder / f"{name}{ending}.gz"):
                if path.exists():
                    return path
    return None


def _lines(path):
    """Read a file -> its lines as lists of words. Only a line feed ends a line: words may hold other separators."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file: {error}") from error
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    words = str.split if _TOKENISED in path.name else lambda line: _WORD.findall(line.lower())
    return [words(_decoded(line, path, number)) for number, line in enumerate(lines, start=1)]


def _decoded(line, path, number):
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at place {error.start + 1}"
        raise ValueError(f"{path}, line {number}: not UTF-8 ({found}); save the file as UTF-8") from error


def _fetched(src, tgt):
    import pooch

    names = [f"{name}.lc.norm.tok.{language}" for language in (src, tgt) for name in
             ("train", "val", "test_2016_flickr")]  # fmt: skip
    if unknown := [name for name in names if name not in _MULTI30K_SHA256]:
        raise ValueError(f"src and tgt must be two of en, de, fr for Multi30k, got {src} and {tgt}: no {unknown[0]}")
    print(MULTI30K_LICENCE)
    cache = Path(pooch.os_cache("crossattn")) / "multi30k"
    for name in names:
        pooch.retrieve(MULTI30K + name, f"sha256:{_MULTI30K_SHA256[name]}", fname=name, path=cache)
    return cache
