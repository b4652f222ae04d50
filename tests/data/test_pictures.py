"""Picture files of every mode and size, and those that are none."""

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from crossattn_ref.data import pictures
from crossattn_ref.data.pictures import read_picture, size_of, write_picture

COLOUR = (200, 100, 40)


def saved(tmp_path, image, name="picture.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("size", [(20, 20), (40, 20), (7, 31), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_a_plain_picture_of_any_size_and_mode_keeps_its_colour(tmp_path, mode, size):
    name = "picture.tif" if mode == "CMYK" else "picture.png"
    plain = Image.new("RGB", size, COLOUR)
    plain = plain.quantize(4) if mode == "P" else plain.convert(mode)
    image = read_picture(saved(tmp_path, plain, name), side=13)
    assert image.shape == (13, 13, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - COLOUR).max() <= 2


@pytest.mark.parametrize(
    ("mode", "value", "grey"),
    [("L", 100, 100), ("LA", (100, 255), 100), ("I;16", 100 * 257, 100), ("I;16", 254 * 257, 254), ("1", 255, 255)],
)
def test_grey_in_8_and_in_16_bits_becomes_three_equal_channels(tmp_path, mode, value, grey):
    assert (read_picture(saved(tmp_path, Image.new(mode, (9, 9), value)), side=9) == grey).all()


def test_what_is_transparent_becomes_white_and_what_is_half_so_is_mixed(tmp_path):
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[0, 0, 3], picture[1, 1, 3] = 255, 128
    image = read_picture(saved(tmp_path, Image.fromarray(picture)), side=2)
    assert image[..., 0].tolist() == [[0, 255], [255, 127]]


def test_the_middle_of_a_longer_side_is_kept(tmp_path):
    picture = np.zeros((4, 12, 3), np.uint8)
    picture[:, 4:8] = 255
    assert (read_picture(saved(tmp_path, Image.fromarray(picture)), side=4) == 255).all()


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path):
    picture = np.zeros((6, 6, 3), np.uint8)
    picture[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image = read_picture(saved(tmp_path, Image.fromarray(picture), exif=exif), side=6)
    assert (image[5] == 255).all()
    assert not image[:5].any()


def test_a_corrupt_file_is_named(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.random.default_rng(0).integers(256, size=(50, 50, 3), dtype=np.uint8)))
    whole = path.read_bytes()
    for content in (b"", b"no picture at all", whole[: len(whole) // 2], whole[:60]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"picture.png is not a picture that can be read .*PNG or JPEG"):
            read_picture(path, side=9)


def test_a_picture_that_is_damaged_between_its_parts_is_named(tmp_path):
    rows, path = zlib.compress(bytes(9 * (1 + 3 * 9))), tmp_path / "picture.png"
    header = part(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
    start, end = b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", rows[:7]), part(b"IEND", b"")
    path.write_bytes(start + part(b"IDAT", rows[7:]) + end)
    assert not read_picture(path, side=9).any()
    path.write_bytes(start + part(b"\0\0\0\0", rows[7:]) + end)
    with pytest.raises(ValueError, match=r"picture.png is not a picture that can be read .*PNG or JPEG"):
        read_picture(path, side=9)


def part(name, content):
    """Write a part of a PNG file: its length, its name, what it holds, and their checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_missing_file_a_folder_and_a_side_of_nothing_are_refused(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(FileNotFoundError, match="path must name a picture file"):
            read_picture(path, side=9)
    with pytest.raises(ValueError, match="side must be at least 1, got 0"):
        read_picture(tmp_path, side=0)


def test_a_picture_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (10, 10)))
    monkeypatch.setattr(pictures, "LARGEST", 100)
    assert read_picture(path, side=9).shape == (9, 9, 3)
    monkeypatch.setattr(pictures, "LARGEST", 99)
    with pytest.raises(ValueError, match="10 x 10: make it smaller"):
        read_picture(path, side=9)


@pytest.mark.parametrize(("side", "told"), [(100_000, "far more"), (10_000, "10000 x 10000")])
def test_a_header_that_promises_a_huge_picture_is_told_so(tmp_path, side, told):
    path = saved(tmp_path, Image.new("RGB", (5, 5)))
    start = path.read_bytes()
    path.write_bytes(start[:8] + part(b"IHDR", struct.pack(">II", side, side) + start[24:29]) + start[33:])
    with pytest.raises(ValueError, match=rf"may have at most 64000000 pixels, .*has {told}.*: make it smaller"):
        read_picture(path, side=9)


def test_numbers_without_a_known_white_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.full((7, 7), 0.5, np.float32)), "picture.tif")
    with pytest.raises(
        ValueError, match=r"picture.tif holds numbers whose black and white nobody knows: save it with 8"
    ):
        read_picture(path, side=7)


def test_where_pillow_is_not_installed_its_extra_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (5, 5)))
    monkeypatch.setitem(sys.modules, "PIL", None)
    image = np.zeros((5, 5, 3), np.uint8)
    for use in (lambda: read_picture(path, side=5), lambda: size_of(path), lambda: write_picture(path, image)):
        with pytest.raises(ModuleNotFoundError, match=r"pip install \"crossattn-ref\[images\]\""):
            use()


def test_a_picture_is_written_only_where_its_kind_and_its_folder_are_known(tmp_path):
    image = np.zeros((5, 5, 3), np.uint8)
    (tmp_path / "folder.png").mkdir()
    for name in ("picture.banana", "picture", ".", "folder.png"):
        with pytest.raises(ValueError, match=r"a file that ends in \.bmp, .*\.png, .*, got "):
            write_picture(tmp_path / name, image)
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder that is there: make it first"):
        write_picture(tmp_path / "nowhere" / "picture.png", image)
    for ending in pictures.WRITTEN:
        write_picture(tmp_path / f"picture{ending.upper()}", image)
        assert size_of(tmp_path / f"picture{ending.upper()}") == (5, 5)


def test_what_is_written_is_read_again_and_has_its_size(tmp_path):
    image = np.random.default_rng(0).integers(256, size=(7, 7, 3), dtype=np.uint8)
    write_picture(tmp_path / "picture.png", image)
    assert (read_picture(tmp_path / "picture.png", side=7) == image).all()
    write_picture(tmp_path / "wide.png", image[:5])
    assert size_of(tmp_path / "wide.png") == (7, 5)


def test_a_picture_that_was_read_may_be_written_into(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (5, 5), COLOUR))
    assert read_picture(path, side=5).flags.writeable
