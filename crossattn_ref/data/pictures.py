"""Pictures from files: whatever their size and mode, as arrays that a model reads."""

from pathlib import Path

import numpy as np

LARGEST = 64_000_000  # pixels of a picture that is read at all


def read_picture(path: str | Path, *, side: int) -> np.ndarray:
    """Read a picture file and fit it into a square -> uint8 (side, side, 3).

    Grey, palette, CMYK and 16-bit pictures become RGB, what is transparent becomes white, a photograph is turned as its
    camera was held, and the longer sides are cut off at both ends alike.

    Raises FileNotFoundError for a file that is not there, and ValueError for one that is no whole picture, for a
    picture of more than 64 million pixels, and for a side below 1.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"path must name a picture file, got {str(path)!r}")
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST:
                size = f"{image.width} x {image.height}"
                raise ValueError(f"a picture may have at most {LARGEST} pixels, and {path} has {size}: make it smaller")
            picture = _in_rgb(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not a picture that can be read ({error}): is it whole, and a PNG or JPEG?"
        ) from error
    return np.array(ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR))


def size_of(path: str | Path) -> tuple[int, int]:
    """Look up the width and height of a picture file that read_picture can read, in pixels."""
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write a picture, uint8 (Y, X, 3), into a file; the ending says of which kind, ValueError for an unknown one."""
    from PIL import Image

    Image.fromarray(image).save(path)


def _in_rgb(image):
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which a plain conversion would cut off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
