"""The common reader of image files: which files count as images, and how they are converted to RGB."""

import math
import os
import stat
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from nfrepro.errors import InputError

# Extensions of image files, in upper or lower case; files with other extensions are left out and counted.
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# Formats that are decoded, whatever the name says: Pillow would hand a PostScript file to Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: it has one of `ENDINGS` and is not hidden."""
    return not name.startswith(".") and name.lower().endswith(ENDINGS)


def read_rgb(path: Path) -> Image.Image:
    """Reads an image as RGB, like torchvision's folder data sets.

    Grey, palette and CMYK images are converted, transparency is dropped, and the EXIF orientation is not applied.
    Raises InputError, naming the file, if it is not a JPEG, PNG, WebP or BMP file, cannot be decoded, has more than 8
    bits per channel, is absurdly large, or is not a regular file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path}: not a regular file: replace it by an image")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError(f"{image.width:,}×{image.height:,}")
            if _has_deep_channels(image):
                raise InputError(f"{path}: more than 8 bits a channel ({image.mode}): save it with 8")
            return image.convert("RGB")
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: too many pixels for an image: make it smaller") from None
    except UnidentifiedImageError:
        kinds = "JPEG, PNG, WebP or BMP"
        raise InputError(f"{path}: not a readable image (no {kinds} file): delete or replace it") from None
    except Exception as error:  # the decoders raise errors of many classes
        raise InputError(f"{path}: not a readable image ({type(error).__name__}): delete or replace it") from None


def _has_deep_channels(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits. Pillow opens such colour PNGs as 8-bit ones and drops the other bits."""
    return image.mode[0] in "IF" or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
