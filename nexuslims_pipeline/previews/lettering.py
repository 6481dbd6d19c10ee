"""Text in pictures: the fonts, and strings from files made fit to be drawn."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

ELLIPSIS = "…"


@cache
def font(size: int, family: str = "DejaVuSans") -> ImageFont.FreeTypeFont:
    """Load a font of `size` pixels.

    The files come with Matplotlib, which is only located and not imported: its import looks for a folder to
    write to. The basic layout draws the same pixels with and without the optional shaping library.
    """
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The previews need the fonts of matplotlib")
    path = Path(spec.origin).with_name("mpl-data") / "fonts" / "ttf" / f"{family}.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def printable(text: str, most: int) -> str:
    """Return at most `most` characters of `text`, each of which can be drawn on a line."""
    clean = "".join(char if char.isprintable() else " " for char in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + ELLIPSIS


def shortened(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    """Leave out the middle of `text` if it is wider than `width` pixels: file names differ at the end."""
    text = " ".join(printable(text, 400).split())
    if face.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 0:
        head = (keep + 1) // 2
        short = text[:head].rstrip() + ELLIPSIS + text[len(text) - keep + head :].lstrip()
        if face.getlength(short) <= width:
            return short
        keep -= 1
    return ELLIPSIS
