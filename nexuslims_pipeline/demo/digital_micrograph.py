"""Writer of Gatan DigitalMicrograph files (DM3 and DM4).

Layout as Greg Jefferis described it and RosettaSciIO reads it (https://github.com/hyperspy/rosettasciio).
`L` is 4 bytes in DM3 and 8 in DM4. Lengths, counts and type codes are big-endian, the values little-endian.

=============  ======  =======================================================================
part           bytes   meaning
=============  ======  =======================================================================
file           4       version, 3 or 4
..             L       bytes from the root group to its end
..             4       1: values are little-endian
..             ..      root group
..             8       zeros
group          L       DM4 only, not for the root: bytes that follow for this group
..             1 + 1   is sorted, is open
..             L       number of entries
..             ..      entries
entry          1       20: group, 21: value
..             2 + n   length of the name, name in Latin-1; unnamed entries form a list
..             ..      group or value
value          L       DM4 only: bytes that follow for this value
..             4       ``%%%%``
..             L       number of items of the type description
..             n × L   type description
..             ..      the value
=============  ======  =======================================================================

Type descriptions: ``[code]`` for a number; ``[20, code, length]`` for an array (text is one of UTF-16 units);
``[15, 0, fields, 0, code, 0, code ...]`` for a struct.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tags: TypeAlias = Mapping[str, Any]
"""A tag group: mappings are groups, lists are groups without names, tuples are structs, arrays are arrays."""

INT32, DOUBLE, BOOL, UINT32 = 3, 7, 8, 5
STRUCT, ARRAY = 15, 20
ARRAY_CODES = {"int16": 2, "int32": 3, "uint16": 4, "uint32": 5, "float32": 6, "float64": 7}
DATA_TYPES = {"int16": 1, "float32": 2, "int32": 7, "uint16": 10, "uint32": 11, "float64": 12}
COLOUR_DATA_TYPE = 23
"""Four bytes per pixel: blue, green, red, unused."""
RASTER_DISPLAY, LINE_PLOT_DISPLAY = 1, 3
THUMBNAIL_PIXELS = 96


class Calibration(NamedTuple):
    """One axis: the value at pixel `i` is ``(i - origin) * scale``."""

    scale: float
    units: str
    origin: float = 0.0


def digital_micrograph(
    data: NDArray[Any], axes: Sequence[Calibration], name: str, tags: Tags, *, version: Literal[3, 4]
) -> bytes:
    """Bytes of a file with one image, preceded by its thumbnail as DigitalMicrograph saves it.

    Parameters
    ----------
    data
        1-D spectrum, 2-D image ``(y, x)`` or spectrum image ``(energy, y, x)``; a dtype of `DATA_TYPES`.
    axes
        Calibrations in DigitalMicrograph's order: x, y, energy.
    name
        Title of the image.
    tags
        The image's own tags (``Microscope Info``, ``DataBar`` ...).
    version
        3 or 4.
    """
    preview = thumbnail(data)
    height, width = preview.shape
    root = {
        "ApplicationBounds": (0, 0, 1084, 1599),
        "DocumentObjectList": [
            {
                "AnnotationType": 20,
                "ImageDisplayType": LINE_PLOT_DISPLAY if data.ndim == 1 else RASTER_DISPLAY,
                "ImageSource": 0,
                "IsVisible": True,
                "UniqueID": 8,
            }
        ],
        "DocumentTags": {},
        "HasWindowPosition": True,
        "Image Behavior": {"DoIntegralZoom": False, "ViewDisplayID": 8},
        "ImageList": [
            _image(f"Image Of {name}", preview, [Calibration(1.0, "")] * 2, {}, COLOUR_DATA_TYPE),
            _image(name, data, axes, tags, DATA_TYPES[data.dtype.name]),
        ],
        "ImageSourceList": [{"ClassName": "ImageSource:Simple", "Id": [0], "ImageRef": 1}],
        "InImageMode": True,
        "MinVersionList": [{"RequiredVersion": 50659328}],
        "NextDocumentObjectID": 9,
        "SentinelList": {},
        "Thumbnails": [{"ImageIndex": 0, "SourceSize_Pixels": (height, width)}],
        "WindowPosition": (30, 8, 30 + height, 8 + width),
    }
    content = _Encoder(version).group(root)
    length = ">i" if version == 3 else ">q"
    return struct.pack(">i", version) + struct.pack(length, len(content)) + struct.pack(">i", 1) + content + bytes(8)


def thumbnail(data: NDArray[Any]) -> NDArray[np.int32]:
    """Draw `data` small and grey, as colour pixels: an image, a sum over energies, or a spectrum's plot."""
    if data.ndim == 1:
        columns = np.array([part.mean() for part in np.array_split(data, THUMBNAIL_PIXELS)])
        rows = np.linspace(1, 0, THUMBNAIL_PIXELS)[:, None]
        grey = np.where(rows <= columns / columns.max(), 96.0, 255.0)
    else:
        picture = data.sum(axis=0) if data.ndim == 3 else data
        step = max(1, -(-max(picture.shape) // THUMBNAIL_PIXELS))
        low, high = np.percentile(picture, (1, 99))
        grey = np.clip((picture[::step, ::step] - low) / max(high - low, 1e-9), 0, 1) * 255
    return np.asarray(grey, np.int32) * 0x010101


def _image(name: str, data: NDArray[Any], axes: Iterable[Calibration], tags: Tags, data_type: int) -> Tags:
    unique_id = np.frombuffer(hashlib.sha256(name.encode() + data.tobytes()).digest()[:16], "<i4")
    return {
        "ImageData": {
            "Calibrations": {
                "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
                "Dimension": [{"Origin": axis.origin, "Scale": axis.scale, "Units": axis.units} for axis in axes],
                "DisplayCalibratedUnits": True,
            },
            "Data": data.ravel(),
            "DataType": data_type,
            "Dimensions": list(data.shape[::-1]),
            "PixelDepth": data.dtype.itemsize,
        },
        "ImageTags": tags,
        "Name": name,
        "UniqueID": unique_id.tolist(),
    }


class _Encoder:
    def __init__(self, version: Literal[3, 4]) -> None:
        self._sized = version == 4
        self._length = "q" if version == 4 else "i"

    def group(self, entries: Tags | list[Any]) -> bytes:
        named = entries.items() if isinstance(entries, Mapping) else [("", entry) for entry in entries]
        body = [self._entry(name, value) for name, value in named]
        return struct.pack(f">??{self._length}", False, False, len(body)) + b"".join(body)

    def _entry(self, name: str, value: Any) -> bytes:
        is_group = isinstance(value, (Mapping, list))
        content = self.group(value) if is_group else self._value(value)
        encoded = name.encode("latin-1")
        size = struct.pack(">q", len(content)) if self._sized else b""
        return struct.pack(">BH", 20 if is_group else 21, len(encoded)) + encoded + size + content

    def _value(self, value: Any) -> bytes:
        description, content = _described(value)
        counts = struct.pack(f">{1 + len(description)}{self._length}", len(description), *description)
        return b"%%%%" + counts + content


def _described(value: Any) -> tuple[list[int], bytes]:
    """Type description of a value and its bytes."""
    match value:
        case str():
            text = value.encode("utf-16-le")
            return [ARRAY, ARRAY_CODES["uint16"], len(text) // 2], text
        case np.ndarray():
            little = value.astype(value.dtype.newbyteorder("<"), copy=False)
            return [ARRAY, ARRAY_CODES[value.dtype.name], value.size], little.tobytes()
        case tuple():
            parts = [_described(item) for item in value]
            codes = [number for code, _ in parts for number in (0, *code)]
            return [STRUCT, 0, len(value), *codes], b"".join(content for _, content in parts)
        case bool():
            return [BOOL], struct.pack("<?", value)
        case int():
            return ([INT32], struct.pack("<i", value)) if value < 2**31 else ([UINT32], struct.pack("<I", value))
        case _:
            return [DOUBLE], struct.pack("<d", value)
