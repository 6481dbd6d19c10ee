"""SerialEM ``.mdoc``: what was set for each image of a series, beside the images or alone.

Lines ``Key = value``; those before the first section hold for all images. Sections are ``[ZValue = 0]`` … for the
images of a stack, ``[FrameSet = 0]`` for a movie, ``[T = …]`` for titles, of which the first has the name of the
microscope and the date.

===============================  =================
key                               unit
===============================  =================
Voltage                          kV
PixelSpacing                     Å
TiltAngle, RotationAngle         degrees
StagePosition, StageZ            µm
Defocus, TargetDefocus           µm
ImageShift                       µm
ExposureDose, PriorRecordDose    electrons per Å²
DoseRate                         electrons per unbinned pixel and second
ExposureTime                     s
FilterSlitAndLoss                eV
CameraLength                     m
===============================  =================

https://bio3d.colorado.edu/SerialEM/hlp/html/about_formats.htm
"""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, read_image
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, moment, number
from nexuslims_pipeline.signals import Signal, Source

EXTENSION: Final = ".mdoc"
IMAGE_EXTENSIONS: Final = frozenset({".tif", ".tiff", ".eer"})
MOST_BYTES: Final = 16 << 20
SHOWN_CHARACTERS: Final = 20_000
FIRST_LINE: Final = re.compile(rb"\s*\[?[A-Za-z][\w-]* = ")
MARK: Final = re.compile(rb"^\[(?:ZValue|FrameSet|MontSection) = |T = +SerialEM:", re.MULTILINE)
SECTION: Final = re.compile(r"\[([A-Za-z]\w*) = (.*)\]$")
TITLE: Final = re.compile(
    r"SerialEM:\s*(?P<text>.*?)\s*(?P<date>\d{1,2}-[A-Za-z]{3}-\d{2,4}\s+\d{1,2}:\d{2}:\d{2})?\s*$"
)
ENTRIES: Final = (
    entry("acceleration_voltage", "kV", "Voltage", never_zero=True),
    entry("magnification", "", "Magnification", never_zero=True),
    entry("camera_length", "m", "CameraLength", never_zero=True),
    entry("pixel_width", "Å", "PixelSpacing", never_zero=True),
    entry("pixel_height", "Å", "PixelSpacing", never_zero=True),
    entry("defocus", "µm", "Defocus"),
    entry("exposure_time", "s", "ExposureTime", never_zero=True),
    entry("spot_size", "", "SpotSize", never_zero=True),
    entry("binning", None, "Binning"),
    entry("stage_x", "µm", "StagePosition/0"),
    entry("stage_y", "µm", "StagePosition/1"),
    entry("stage_z", "µm", "StageZ"),
    entry("slit_width", "eV", "FilterSlitAndLoss/0", never_zero=True),
    entry("energy_loss", "eV", "FilterSlitAndLoss/1", never_zero=True),
    entry("frames", "", "NumSubFrames", never_zero=True),
    entry("detector_type", None, "ChannelName"),
    entry("Target Defocus", "µm", "TargetDefocus"),
    entry("Electron Dose", "1/Å**2", "ExposureDose", never_zero=True),
    entry("Dose before the Image", "1/Å**2", "PriorRecordDose"),
    entry("Dose Rate per Camera Pixel", "1/s", "DoseRate", never_zero=True),
    entry("Image Rotation", "deg", "RotationAngle"),
    entry("X", "µm", "ImageShift/0", "Image Shift"),
    entry("Y", "µm", "ImageShift/1", "Image Shift"),
    entry("Illumination Intensity", "", "Intensity"),
    entry("Counts per Electron", "", "CountsPerElectron", never_zero=True),
    entry("Magnification Index", "", "MagIndex"),
    entry("Camera Number", "", "CameraIndex"),
    entry("Navigator Label", None, "NavigatorLabel"),
    entry("Image File", None, "ImageFile"),
)


@dataclass(slots=True)
class Mdoc:
    """A parsed file."""

    general: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)
    sections: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Kind, such as ``ZValue``, and values of each."""
    text: str = ""
    problem: str = ""
    """Words for a warning when part of the file was left out."""

    def of_images(self) -> Iterator[dict[str, str]]:
        """Values of each image: the sections of the kind that comes first."""
        return (values for kind, values in self.sections if kind == self.sections[0][0])

    @property
    def native(self) -> dict[str, Any]:
        """All that it says."""
        sections = [{"section": kind, **values} for kind, values in self.sections]
        return {"general": self.general, "titles": self.titles, "sections": sections}


class SerialEmMdoc(Extractor):
    """Settings of SerialEM without their images, and TIFF images that have such settings beside them."""

    name: ClassVar[str] = "serialem_mdoc"
    format_name: ClassVar[str] = "SerialEM"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({EXTENSION}) | IMAGE_EXTENSIONS
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is SerialEM's text, or an image that has one beside it."""
        if head.startswith(TIFF_MAGIC):
            return mdoc_of(source) is not None
        return bool(FIRST_LINE.match(head) and MARK.search(head))

    def extract(self, source: Source) -> list[Signal]:
        """Read the settings, and the image if it is one."""
        path = mdoc_of(source) or source.path
        mdoc = read_mdoc(path)
        facts = Facts()
        acquired = add_mdoc(mdoc, facts)
        technique = technique_of(mdoc)
        if path == source.path:
            signal = Signal("Misc", technique, acquired=acquired, native=bounded(mdoc.native))
            signal.text = mdoc.text[:SHOWN_CHARACTERS]
            return [facts.give_to(signal)]
        signal = Signal("Diffraction" if technique == "TEM_Diffraction" else "Image", technique, acquired=acquired)
        signal.native = bounded({"mdoc": mdoc.native})
        try:
            return [read_image(source.path).give_to(signal, facts)]
        except ExtractionError as fault:
            facts.warnings["Pixels"] = f"They are not drawn: {fault}."
            return [facts.give_to(signal)]


def mdoc_of(source: Source) -> Path | None:
    """The companion with SerialEM's settings."""
    beside = [path for path in source.companions if path.suffix.lower() == EXTENSION]
    whole = f"{source.path.name}{EXTENSION}".lower()
    return next((path for path in beside if path.name.lower() == whole), beside[0] if beside else None)


def read_mdoc(path: Path) -> Mdoc:
    """Parse a file; whatever is no line of the format is passed over."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    mdoc = Mdoc(text=decode(raw[:MOST_BYTES])[0])
    if len(raw) > MOST_BYTES:
        mdoc.problem = f"{path.name} is longer than any series needs: what follows {MOST_BYTES >> 20} MB was not read."
    elif not mdoc.text.endswith("\n"):
        mdoc.problem = f"{path.name} ends within a line (a copy that broke off?)."
    current = mdoc.general
    for line in map(str.strip, mdoc.text.split("\n")):
        if found := SECTION.match(line):
            if found[1] == "T":
                mdoc.titles.append(found[2].strip())
                continue
            current = {}
            mdoc.sections.append((found[1], current))
        elif " = " in line or line.endswith(" ="):
            key, _, value = map(str.strip, line.partition("="))
            if key == "T":
                mdoc.titles.append(value)
            else:
                current.setdefault(key, value)
    return mdoc


def add_mdoc(mdoc: Mdoc, facts: Facts) -> datetime | None:
    """Add what holds for all images, or for the first, to `facts`.

    Returns
    -------
    datetime or None
        When the first image was taken, on the clock of the computer: the sections need not be in that order.
    """
    images = list(mdoc.of_images())
    first = mdoc.general | (images[0] if images else {})

    def find(place: str) -> str:
        key, _, part = place.partition("/")
        words = first.get(key, "").split()
        return (words[int(part)] if len(words) > int(part) else "") if part else first.get(key, "")

    facts.add_entries(ENTRIES, lambda place: "" if find(place).lower() == "nan" else find(place))
    facts.add("software", f"SerialEM {first.get('Version', '')}".strip())
    title = TITLE.match(mdoc.titles[0]) if mdoc.titles else None
    if title:
        facts.add("Title", title["text"])
        facts.add(
            "microscope", title["text"].removeprefix("Digitized on ") if "Digitized on " in title["text"] else None
        )
    add_tilts(facts, _numbers(images, "TiltAngle"))
    doses = _numbers(images, "ExposureDose")
    if len(doses) > 1 and sum(doses) > 0:
        facts.add("Total Electron Dose", sum(doses), "1/Å**2")
    if mdoc.problem:
        facts.warnings["Vendor Metadata"] = mdoc.problem
    return _acquired(images, str(title["date"] or "") if title else "", facts)


def technique_of(mdoc: Mdoc) -> str:
    """Technique of the images: only scanned ones have the name of a channel, only patterns a camera length."""
    values = mdoc.general | next(mdoc.of_images(), {}) if mdoc.sections else mdoc.general
    if values.get("ChannelName"):
        return "STEM_Imaging"
    return "TEM_Diffraction" if values.get("CameraLength", "0").strip("0.") else "TEM_Imaging"


def add_tilts(facts: Facts, angles: Sequence[float]) -> None:
    """The stage's tilt in degrees, or the range of a tilt series."""
    if not angles:
        return
    if max(angles) - min(angles) < 0.1:
        facts.add("stage_alpha", angles[0], "deg")
        return
    facts.add("First Tilt", min(angles), "deg", "Tilt Series")
    facts.add("Last Tilt", max(angles), "deg", "Tilt Series")
    facts.add("Images", len(angles), group="Tilt Series")
    steps = [after - before for before, after in pairwise(sorted(angles))]
    facts.add("Step", round(statistics.median(steps), 2), "deg", "Tilt Series")


def _numbers(images: Sequence[Mapping[str, str]], key: str) -> list[float]:
    """The value of each image that has a sensible one."""
    found = []
    for values in images:
        try:
            found.append(number(values.get(key, "")))
        except ValueError:
            continue
    return found


def _acquired(images: Sequence[Mapping[str, str]], title: str, facts: Facts) -> datetime | None:
    moments: list[datetime] = []
    for text in filter(None, (*(values.get("DateTime", "") for values in images), title)):
        if text == title and moments:
            break
        try:
            moments.append(moment(text))
        except ValueError as fault:
            facts.warnings["Creation Time"] = f"The .mdoc says {fault}."
    return min(moments, key=lambda found: found.replace(tzinfo=None), default=None)


EXTRACTOR = SerialEmMdoc()
