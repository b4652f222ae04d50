"""Pictures from files: whatever their size and mode, as arrays that a model reads."""

import warnings
from pathlib import Path

import numpy as np

WRITTEN = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff")  # endings of pictures that are written
LARGEST = 64_000_000  # pixels of a picture that is read at all


def read_picture(path: str | Path, *, side: int) -> np.ndarray:
    """Read a picture file and fit it into a square -> uint8 (side, side, 3).

    Grey, palette, CMYK and 16-bit pictures become RGB, what is transparent becomes white, a photograph is turned as its
    camera was held, and the longer sides are cut off at both ends alike.

    Raises FileNotFoundError for a file that is not there, and ValueError for one that is no whole picture, for a
    picture of more than 64 million pixels or of numbers without a known white, and for a side below 1.
    """
    Image = _pillow()
    from PIL import ImageOps

    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"path must name a picture file, got {str(path)!r}")
    rule = f"a picture may have at most {LARGEST} pixels, and {path} has"
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as image,
        ):
            if image.width * image.height > LARGEST:
                raise ValueError(f"{rule} {image.width} x {image.height}: make it smaller")
            if image.mode == "F":  # some write 0 to 1 so, others 0 to 255
                raise ValueError(f"{path} holds numbers whose black and white nobody knows: save it with 8 or 16 bits")
            picture = _in_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{rule} far more ({error}): make it smaller") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} is not a picture that can be read ({error}): is it whole, and a PNG or JPEG?"
        ) from error
    return np.array(ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR))


def size_of(path: str | Path) -> tuple[int, int]:
    """Look up the width and height of a picture file that read_picture can read, in pixels."""
    with _pillow().open(path) as image:
        return image.size


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write a picture, uint8 (Y, X, 3), into a file; its ending says of which kind.

    Raises ValueError for an ending that is none of WRITTEN, and FileNotFoundError where the file's folder is not there.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN or path.is_dir():
        raise ValueError(f"a picture must be written into a file that ends in {', '.join(WRITTEN)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path.parent} is no folder that is there: make it first, or write {path.name} elsewhere"
        )
    _pillow().fromarray(image).save(path)


def _pillow():
    """Import what reads and writes pictures; ModuleNotFoundError names the extra that brings it."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'pictures need pillow ({error}): pip install "crossattn-ref[images]"') from error
    return Image


def _in_rgb(image):
    Image = _pillow()
    if image.mode.startswith("I"):  # 16 bits of grey, which a plain conversion would cut off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
