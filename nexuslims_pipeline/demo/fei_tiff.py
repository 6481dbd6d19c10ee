"""Writer of the TIFF files that FEI scanning electron microscopes save.

=====  ==========  ================================================================
tag    type        meaning
=====  ==========  ================================================================
256 …              baseline greyscale TIFF, one row per strip, uncompressed
34682  text        sections ``[Name]`` of ``Key=value`` lines, CR LF, in SI units
=====  ==========  ================================================================

The picture's rows are followed by the rows of the data bar, whose number is ``[PrivateFei] DatabarHeight``.
Source of the tag's number: the FEI_HELIOS tag of https://github.com/cgohlke/tifffile.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FEI_TAG: Final = 34682
Sections = Mapping[str, Mapping[str, object]]


def fei_tiff(picture: NDArray[np.uint8], sections: Sections) -> bytes:
    """Bytes of an 8-bit FEI TIFF.

    Parameters
    ----------
    picture
        Shape ``(rows, columns)``, data bar included.
    sections
        Sections of the tag; values are written as text.
    """
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(
        file,
        picture,
        photometric="minisblack",
        rowsperstrip=1,
        metadata=None,
        software=False,
        extratags=[(FEI_TAG, "s", 0, sections_text(sections), True)],
    )
    return file.getvalue()


def sections_text(sections: Sections) -> str:
    """Text of the tag."""
    return "".join(
        f"[{name}]\r\n" + "".join(f"{key}={value}\r\n" for key, value in keys.items()) + "\r\n"
        for name, keys in sections.items()
    )


def data_bar(width: int, height: int, entries: Sequence[tuple[str, str]], field_width_um: float) -> NDArray[np.uint8]:
    """Draw the black strip below a picture: named values and a micron bar.

    Parameters
    ----------
    width, height
        Pixels.
    entries
        Caption and value of each box.
    field_width_um
        Field width of the picture above, for the length of the bar.
    """
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(strip)
    font: Any = ImageFont.load_default(size=height * 0.36)
    bar_um = round_length(field_width_um / 4)
    bar_pixels = round(bar_um / field_width_um * width)
    room = width - bar_pixels - height
    for place, (caption, value) in enumerate(entries):
        left = 8 + room * place // len(entries)
        draw.text((left, height * 0.04), caption, 255, font)
        draw.text((left, height * 0.50), value, 255, font)
    left = width - bar_pixels - height // 3
    label = f"{bar_um:g} um" if bar_um >= 1 else f"{bar_um * 1000:g} nm"
    draw.text((left + bar_pixels / 2, height * 0.28), label, 255, font, anchor="mm")
    draw.line([(left, height * 0.72), (left + bar_pixels, height * 0.72)], 255, 2)
    for end in (left, left + bar_pixels):
        draw.line([(end, height * 0.60), (end, height * 0.84)], 255, 2)
    return np.asarray(strip)


def round_length(length: float) -> float:
    """Round down to the largest of 1, 2, 5 × 10ⁿ that is not above `length`."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * max(step for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))
