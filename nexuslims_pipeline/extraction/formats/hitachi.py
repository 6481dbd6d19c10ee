"""Images of Hitachi scanning microscopes, which are plain TIFF, BMP or JPEG with a ``.txt`` of the same name.

The text is of one section, in the code page of the instrument's Windows or in UTF-16 with a byte order mark::

    [SemImageFile]                        [TemImageFile] of instruments in transmission
    InstructName=SU8000
    Date=03/25/2021
    Time=15:12:36
    DataSize=1280x960
    PixelSize=9.921875                    nm
    AcceleratingVoltage=10000 Volt
    Magnification=10000
    WorkingDistance=8200 um
    EmissionCurrent=10500 nA
    StagePositionX=25000000               nm

Pixel size and magnification go with a photograph that is 127 mm wide: 127e6 / 10000 / 1280 = 9.921875. Old instruments
(S-4700) write no pixel size, and put what the data bar shows into ``Condition=Vacc=10kV   Mag=x15.0k   WD=8.1mm``.
Units are those in the text, and where none is written those above; stage angles are kept only where they have one.
The layout is known from files and from those who read them, such as Bio-Formats (https://docs.openmicroscopy.org).
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import ImageFile, read_image
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.vendor_text import describing, ini_sections, measured, read_text
from nexuslims_pipeline.signals import Signal, Source

IMAGES: Final = frozenset({".tif", ".tiff", ".bmp", ".jpg", ".jpeg", ".png"})
MARK: Final = re.compile(r"^\s*\[(?:Sem|Tem)ImageFile\]", re.MULTILINE)
SECTIONS: Final = {"SemImageFile": "SEM_Imaging", "TemImageFile": "TEM_Imaging"}
PHOTOGRAPH: Final = 127e6
"""Nanometres: width of the photograph to which magnifications refer."""
SIZE: Final = re.compile(r"(\d{1,6})\s*[xX×*]\s*(\d{1,6})")
CONDITION: Final = re.compile(r"(Vacc|WD|Mag)\s*=\s*(x?)\s*([\d.,]+\s*[A-Za-zµ]*)")

ENTRIES: Final = (
    entry("acceleration_voltage", "V", "AcceleratingVoltage condition.Vacc", never_zero=True),
    entry("magnification", "", "Magnification condition.Mag", never_zero=True),
    entry("working_distance", "µm", "WorkingDistance condition.WD", never_zero=True),
    entry("emission_current", "nA", "EmissionCurrent", never_zero=True),
    entry("filament_current", "mA", "FilamentCurrent", never_zero=True),
    entry("pixel_width", "nm", "PixelSize", never_zero=True),
    entry("stage_x", "nm", "StagePositionX"),
    entry("stage_y", "nm", "StagePositionY"),
    entry("stage_z", "nm", "StagePositionZ"),
    entry("detector_type", None, "SignalName DetectorName"),
    entry("specimen", None, "SampleName"),
    entry("operator", None, "UserName Operator"),
    entry("frames", "", "FrameIntegration", never_zero=True),
    entry("Serial Number", None, "SerialNumber SerialNo"),
    entry("Data Number", None, "DataNumber"),
    entry("Lens Mode", None, "LensMode"),
    entry("Scan Speed", None, "ScanSpeed"),
    entry("Vacuum", None, "Vacuum"),
    entry("Second Signal", None, "SubSignalName"),
    entry("Deceleration Voltage", "V", "DecelerationVoltage SpecimenBias", never_zero=True),
    entry("Condenser", None, "Condencer1 Condenser1 Condencer Condenser"),
    entry("Micron Bar", "nm", "MicronMarker", never_zero=True),
    entry("Photograph Size", None, "PhotoSize"),
    entry("Colour Mode", None, "ColorMode"),
    entry("Comment", None, "Comment"),
    entry("Condition", None, "Condition"),
)


class Hitachi(Extractor):
    """Images of Hitachi scanning microscopes, and their texts where those are alone."""

    name: ClassVar[str] = "hitachi"
    format_name: ClassVar[str] = "Hitachi SEM"
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
        sections = ini_sections(text)
        kind = next((name for name in SECTIONS if name in sections), "SemImageFile")
        values = sections.get(kind, {})
        facts = Facts()
        condition = {name: f"{value} X" if name == "Mag" else value for name, _, value in _condition(values)}
        places = values | {f"condition.{name}": value for name, value in condition.items()}
        facts.add_entries(ENTRIES, lambda place: places.get(place, ""))
        _add_instrument(values, facts)
        _add_angles(values, facts)
        acquired = facts.clock_time(values.get("Date", ""), values.get("Time") or "0:00", source.modified)
        signal = Signal("Image", SECTIONS[kind], name=values.get("SampleName", ""), acquired=acquired)
        signal.native = bounded(sections)
        if path == source.path:
            signal.dataset_type, signal.text = "Misc", text
            return [facts.give_to(signal)]
        image = read_image(source.path)
        _add_size(values, image, facts)
        return [image.give_to(signal, facts)]


def _condition(values: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return CONDITION.findall(values.get("Condition", ""))


def _add_instrument(values: Mapping[str, str], facts: Facts) -> None:
    """The model; ``InstructName`` is the vendor's spelling of it."""
    model = values.get("InstructName") or values.get("InstrumentName") or values.get("Instrument name") or ""
    facts.add("microscope", model if not model or "hitachi" in model.lower() else f"Hitachi {model}")


def _add_angles(values: Mapping[str, str], facts: Facts) -> None:
    """Rotation and tilt, whose unit differs between instruments: nothing without it but zero."""
    for name, key in (("stage_rotation", "StagePositionR"), ("stage_tilt", "StagePositionT")):
        try:
            angle, unit = measured(values.get(key, ""))
        except ValueError:
            continue
        if unit in ("deg", "rad", "mrad") or angle == 0:
            facts.add(name, angle, unit or "deg")


def _add_size(values: Mapping[str, str], image: ImageFile, facts: Facts) -> None:
    """Pixel size of the image as it is: the text's is that of the ``DataSize``."""
    rows, columns = image.raster.shape[-2:]
    size = SIZE.search(values.get("DataSize", ""))
    full, height = (int(size[1]), int(size[2])) if size else (columns, rows)
    magnification = facts.fields.get("magnification")
    if "pixel_width" not in facts.fields and magnification:
        facts.add("pixel_width", PHOTOGRAPH / magnification / columns, "nm")
        facts.warnings["pixel_width"] = "Worked out of the magnification, which refers to 127 mm."
    elif "pixel_width" in facts.fields and full:
        facts.fields["pixel_width"] *= full / columns
    if "pixel_width" in facts.fields:
        facts.fields["pixel_height"] = facts.fields["pixel_width"]
    if full == columns and 0 < height < rows:
        facts.add("Data Bar Rows", rows - height)


EXTRACTOR = Hitachi()
