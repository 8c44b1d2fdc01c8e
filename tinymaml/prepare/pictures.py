"""One image file as an array of the size that is wanted."""

import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tinymaml.prepare.files import DATA_ERRORS


IMAGE_BYTES, PIXELS = 1 << 26, 1 << 26  # of one image; ImageNet's have a few megabytes
LONGEST = 65_535  # pixels of a side, JPEG's limit; resizing takes memory by the side
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP")
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
SIXTEEN = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # how Pillow names 16 bits of grey


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore Pillow's warnings, as of odd EXIF data, but for that of a bomb."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read(path: Path, side: int, grey: bool) -> np.ndarray:
    """Return an image uint8 (side, side), or (side, side, 3) unless `grey`.

    It is turned as its EXIF data say, laid on white where it is transparent, and resized
    without keeping its proportions. Of an animation it is the first frame.
    Raises one of DATA_ERRORS for a file that is not such an image, or too large.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        data = file.read(IMAGE_BYTES + 1)
    if len(data) > IMAGE_BYTES:
        raise ValueError(f"more than {IMAGE_BYTES} bytes")
    with quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > PIXELS or max(image.size) > LONGEST:
            raise ValueError(f"{image.width} x {image.height} pixels")
        plain = _upright(_opaque(image))
        plain = plain.convert("L" if grey else "RGB")
        return np.asarray(plain.resize((side, side), Image.Resampling.LANCZOS))


def _opaque(image: Image.Image) -> Image.Image:
    """Return the image in eight bits, laid on white."""
    if image.mode in SIXTEEN:
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return _with_exif(Image.fromarray((values / 257).round().astype(np.uint8)), image)
    if image.mode not in MODES:
        raise ValueError(f"of mode {image.mode}")
    if not image.has_transparency_data:
        image.load()
        return image
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return _with_exif(Image.alpha_composite(white, rgba), image)


def _with_exif(made: Image.Image, image: Image.Image) -> Image.Image:
    if "exif" in image.info:
        made.info["exif"] = image.info["exif"]
    return made


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DATA_ERRORS:  # EXIF data that cannot be read say nothing
        return image
