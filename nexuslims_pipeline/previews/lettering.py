"""Text in pictures: the fonts, and strings from files made fit to be drawn."""

import re
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from unicodedata import name, normalize

from PIL import ImageFont

ELLIPSIS = "…"
_SYLLABLE = re.compile(r"(?:HIRAGANA LETTER|KATAKANA LETTER|HANGUL SYLLABLE) (?:SMALL )?([A-Z]+)")
_ABSENT = "\uffff"
"""No font has a glyph for this code point."""


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
    clean = latin(clean)
    return clean if len(clean) <= most else clean[: most - 1] + ELLIPSIS


def latin(text: str) -> str:
    """Write what the fonts lack in letters that they have.

    Kana and Hangul become their syllables as Unicode names them; of Chinese characters, which have no reading of
    their own, the code points are shown: ``‹8A66 6599›``. No installed package brings a font that has them.
    """
    if text.isascii():
        return text
    parts = []
    for is_drawn, run in groupby(text, _is_drawn):
        characters = "".join(run)
        parts.append(characters if is_drawn else _spelt(characters))
    return "".join(parts)


@cache
def _is_drawn(character: str) -> bool:
    """Whether the font has a glyph of its own for the character, not the box that stands for all it lacks."""
    glyphs = [font(16).getmask(each) for each in (character, _ABSENT)]
    return glyphs[0].size != glyphs[1].size or bytes(glyphs[0]) != bytes(glyphs[1])


def _spelt(characters: str) -> str:
    spelt: list[str] = []
    codes: list[str] = []
    for character in normalize("NFKC", characters):
        syllable = _SYLLABLE.fullmatch(name(character, ""))
        readable = character if _is_drawn(character) else syllable[1].lower() if syllable else ""
        if readable:
            spelt += [_codes(codes), readable]
            codes = []
        else:
            codes.append(f"{ord(character):04X}")
    return "".join((*spelt, _codes(codes)))


def _codes(codes: list[str]) -> str:
    return f"‹{' '.join(codes)}›" if codes else ""


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
