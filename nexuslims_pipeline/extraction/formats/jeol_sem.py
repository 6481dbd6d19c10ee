"""Images of JEOL scanning microscopes, which are plain TIFF, BMP or JPEG with a ``.txt`` of the same name.

Each line of the text is a key, with one or two ``$`` before it, a blank and the value; units are not written::

    $CM_FORMAT JEOL-SEM
    $CM_ACCEL_VOLT 1.00                       kV
    $CM_MAG 1000
    $$SM_WD 3.78                              mm
    $CM_STAGE_POS -3.120 -3.559 4.6 0.0 0.0 0 mm: X Y Z; the angles after them stand in an order that differs
    $CM_STAGE_POSITION X=37.1, Y=44.9, R=354.9, Z=16.9, T=0.0      newer: mm and degrees
    $CM_FULL_SIZE 1280 960                    pixels of the picture; rows below them are the data bar
    $$SM_MICRON_BAR 106                       pixels that ``$$SM_MICRON_MARKER 10um`` are long
    $CM_FIELD_OF_VIEW 128.0µm 96.0µm          newer

The layout is known from files and from those who read them, such as https://github.com/FAIRmat-NFDI/pynxtools-em and
https://gitlab.misasa.okayama-u.ac.jp/gems/multi_stage.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry, metres
from nexuslims_pipeline.extraction.layouts.raster import ImageFile, read_image
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.vendor_text import describing, read_text
from nexuslims_pipeline.signals import Signal, Source

IMAGES: Final = frozenset({".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".png"})
MARK: Final = re.compile(r"^\$CM_(?:FORMAT\s+JEOL|ACCEL_VOLT|MAG\s|SIGNAL|FULL_SIZE\s)", re.MULTILINE)
LINE: Final = re.compile(r"\${1,2}([A-Z][A-Z0-9_%]*)[ \t]*(.*)")
LENGTH: Final = re.compile(r"[\d.]+\s*(?:[nµμu]m|mm)?")
COUNT: Final = re.compile(r"[1-9]\d{0,5}\b")
SIZE: Final = re.compile(r"([1-9]\d{0,5})\s+([1-9]\d{0,5})\b")
AXES: Final = {"X": "stage_x", "Y": "stage_y", "Z": "stage_z", "R": "stage_rotation", "T": "stage_tilt"}

ENTRIES: Final = (
    entry("acceleration_voltage", "kV", "CM_ACCEL_VOLT CM_ACCEL_VOLTAGE", never_zero=True),
    entry("magnification", "", "CM_MAG", never_zero=True),
    entry("working_distance", "mm", "SM_WD CM_WD", never_zero=True),
    entry("emission_current", "µA", "SM_EMI_CURRENT CM_EMISSION", never_zero=True),
    entry("scan_rotation", "deg", "SM_SCAN_ROTATION"),
    entry("chamber_pressure", "Pa", "SM_PRESSURE_AT_LOW_VACUUM SM_PENNING_VAC", never_zero=True),
    entry("frames", "", "SM_INTEG_NO CM_SCAN_AVERAGE", never_zero=True),
    entry("detector_type", None, "CM_DETECTOR CM_DETECTOR_NAME FE_DETECTOR_NAME CM_SIGNAL CM_SIGNAL_NAME"),
    entry("operator", None, "CM_OPERATOR"),
    entry("Signal", None, "CM_SIGNAL CM_SIGNAL_NAME"),
    entry("Comment", None, "CM_COMMENT"),
    entry("Label", None, "CM_LABEL"),
    entry("Column Mode", None, "SM_COLUMN_MODE"),
    entry("Display Mode", None, "SM_DISPLAY_MODE"),
    entry("Objective Aperture Number", "", "SM_OL_APERTURE"),
    entry("Probe Number", "", "SM_PROBE_NO"),
    entry("Probe Current Setting", None, "CM_PROBE_CURRENT"),
    entry("Scan Speed", "", "CM_SCAN_SPEED"),
    entry("Bias Voltage", "kV", "SM_GB_BIAS_VOLT", never_zero=True),
    entry("Micron Bar", None, "SM_MICRON_MARKER"),
    entry("Contrast", "", "CM_CONTRAST", "Detector Settings"),
    entry("Brightness", "", "CM_BRIGHTNESS", "Detector Settings"),
)
"""Places are keys without their ``$``."""


class JeolSem(Extractor):
    """Images of JEOL scanning microscopes, and their texts where those are alone."""

    name: ClassVar[str] = "jeol_sem"
    format_name: ClassVar[str] = "JEOL SEM"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = IMAGES | {".txt"}

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002 - the text says it
        """Whether it has such a text beside it, or is one."""
        return describing(source, ".txt", MARK) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image, or the text alone.

        Raises
        ------
        ExtractionError
            If it is no readable image.
        """
        path = describing(source, ".txt", MARK)
        text = read_text(path) if path else ""
        values = parse_lines(text)
        facts = Facts()
        facts.add_entries(ENTRIES, lambda key: values.get(key, ""))
        model = values.get("CM_INSTRUMENT", "")
        facts.add("microscope", model if not model or "jeol" in model.lower() else f"JEOL {model}")
        _add_stage(values, facts)
        signal = Signal(
            "Image",
            "SEM_Imaging",
            name=values.get("CM_TITLE", ""),
            acquired=facts.clock_time(values.get("CM_DATE", ""), values.get("CM_TIME") or "0:00", source.modified),
            native=bounded({"JEOL-SEM": values}),
        )
        image = read_image(source.path) if path != source.path else None
        _add_size(values, image, facts)
        if image:
            return [image.give_to(signal, facts)]
        signal.dataset_type, signal.text = "Misc", text
        return [facts.give_to(signal)]


def parse_lines(text: str) -> dict[str, str]:
    """Values by key, without ``$``; of a key that comes twice the first."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        if parts := LINE.match(line):
            values.setdefault(parts[1], parts[2].strip())
    return values


def _add_stage(values: Mapping[str, str], facts: Facts) -> None:
    named = dict(re.findall(r"([XYZRT])\s*=\s*(-?[\d.]+)", values.get("CM_STAGE_POSITION", "")))
    listed = values.get("CM_STAGE_POS", "").split()
    if not named and len(listed) >= 3:
        named = dict(zip("XYZ", listed, strict=False))
        if angles := listed[3:5]:
            if all(angle.strip("0.-") == "" for angle in angles):
                named |= {"R": "0", "T": "0"}
            else:
                facts.add("Stage Angles", f"{' '.join(angles)} (degrees)")
    for axis, name in AXES.items():
        facts.add_written(name, named.get(axis, ""), "deg" if axis in "RT" else "mm")


def _add_size(values: Mapping[str, str], image: ImageFile | None, facts: Facts) -> None:
    """Pixel size and data bar; all lengths in the text go with the pixels of the full picture."""
    size = SIZE.match(values.get("CM_FULL_SIZE", "")) or SIZE.match(values.get("CM_IMAGE_SIZE", ""))
    full = (int(size[2]), int(size[1])) if size else None
    rows, columns = (image.raster.shape[-2:] if image else full) or (0, 0)
    full_rows, full_columns = full or (rows, columns)
    if full_columns == columns and full_rows < rows:
        facts.add("Data Bar Rows", rows - full_rows)
    for side, pixel in zip(("width", "height"), _pixel_sizes(values, full_columns, full_rows), strict=False):
        facts.add_measured(f"pixel_{side}", pixel * 1e9 * full_columns / columns if columns else 0, "nm")


def _pixel_sizes(values: Mapping[str, str], columns: int, rows: int) -> list[float]:
    """Width and height of a pixel in metres: of the field of view, else as told, else of the micron bar."""
    view = LENGTH.findall(values.get("CM_FIELD_OF_VIEW", ""))
    if len(view) == 2 and columns and rows:
        return [metres(length, "µm") / count for length, count in zip(view, (columns, rows), strict=True)]
    told = metres(values.get("CM_PIXEL_SIZE", ""), "µm")
    bar = COUNT.match(values.get("SM_MICRON_BAR", ""))
    if not told and bar:
        told = metres(values.get("SM_MICRON_MARKER", ""), "µm") / int(bar[0])
    return [told, told]


EXTRACTOR = JeolSem()
