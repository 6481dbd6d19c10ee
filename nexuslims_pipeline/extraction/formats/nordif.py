"""EBSD patterns of NORDIF detectors: one folder for each scan.

===========================================  ======================================================
``Pattern.dat``                              patterns one after the other, one byte for each pixel
``Setting.txt``                              sections ``[Name]`` with lines of name, value and unit
``Background acquisition pattern.bmp``       the background that patterns are corrected with
``Acquisition (x,y).bmp``,                   single patterns at places of the electron image
``Calibration (x,y).bmp``
===========================================  ======================================================

The size of the patterns, their number and their distances stand in ``Setting.txt`` only, in Latin-1 and between tabs:
``Resolution	60x60	px``. ``Number of samples`` is rows × columns.
"""

import re
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.ebsd import (
    Grid,
    Item,
    Phase,
    add_numbers,
    add_phases,
    nonzero,
    pattern_signal,
    seconds_of,
    warn_of_missing,
)
from nexuslims_pipeline.extraction.layouts.raster import open_picture, picture_raster
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, number
from nexuslims_pipeline.signals import Signal, Source

MAGIC: Final = b"[NORDIF]"
SETTING: Final = "setting.txt"
PATTERN: Final = "pattern.dat"
SETTING_BYTES: Final = 256 << 10
LARGEST_SIDE: Final = 1 << 16
PICTURES: Final = re.compile(
    r"(background (acquisition|calibration) pattern|(acquisition|calibration) \(\d+,\d+\))\.bmp", re.IGNORECASE
)
ENTRIES: Final = {
    ("Microscope", "Magnification"): nonzero("magnification"),
    ("Microscope", "Accelerating voltage"): nonzero("acceleration_voltage", "kV"),
    ("Microscope", "Working distance"): nonzero("working_distance", "mm"),
    ("Microscope", "Tilt angle"): Item("Specimen Tilt", "deg"),
    ("Acquisition settings", "Exposure time"): nonzero("exposure_time", "µs"),
    ("Acquisition settings", "Frame rate"): Item("Frame Rate", "1/s"),
    ("Acquisition settings", "Gain"): Item("Camera Gain"),
    ("Calibration settings", "Exposure time"): Item("Exposure Time", "µs", "Calibration"),
    ("Calibration settings", "Frame rate"): Item("Frame Rate", "1/s", "Calibration"),
    ("Calibration settings", "Gain"): Item("Gain", None, "Calibration"),
    ("Detector angles", "Azimuthal"): Item("Camera Azimuth", "deg"),
    ("Detector angles", "Elevation"): Item("Camera Elevation", "deg"),
}
"""Numbers, in the units that NORDIF always writes."""


class Nordif(Extractor):
    """Patterns, background pictures and settings of NORDIF detectors."""

    name: ClassVar[str] = "nordif"
    format_name: ClassVar[str] = "NORDIF patterns"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".dat", ".txt", ".bmp"})

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is NORDIF's settings, a picture of the names above, or patterns with their settings.

        Patterns have no header: without settings only the name tells them.
        """
        name = source.path.name
        if head.startswith(MAGIC):
            return True
        if PICTURES.fullmatch(name):
            return head.startswith(b"BM")
        if source.path.suffix.lower() != ".dat":
            return False
        return _setting_of(source) is not None or (name.lower() == PATTERN and _is_raw(head))

    def extract(self, source: Source) -> list[Signal]:
        """Patterns with what their settings tell.

        Raises
        ------
        ExtractionError
            If the settings or the picture are damaged.
        """
        with source.path.open("rb") as file:
            head = file.read(SETTING_BYTES)
        if head.startswith(MAGIC):
            return [_settings_alone(head)]
        setting = _setting_of(source)
        sections = _sections(setting.read_bytes()[:SETTING_BYTES]) if setting else {}
        if PICTURES.fullmatch(source.path.name):
            return [_picture(source, sections)]
        return [_patterns(source, sections)]


def _is_raw(head: bytes) -> bool:
    """Whether the bytes may be pixels: neither text nor a file of another kind, which patterns never begin like."""
    return len(set(head)) > 2 and not head.startswith((b"\x89", b"PK", b"\xd0\xcf")) and b"\n" * 2 not in head[:64]


def _setting_of(source: Source) -> Path | None:
    """The settings that lie beside the file."""
    for companion in source.companions:
        if companion.name.lower() == SETTING:
            with companion.open("rb") as file:
                return companion if file.read(len(MAGIC)) == MAGIC else None
    return None


def _sections(raw: bytes) -> dict[str, dict[str, str]]:
    """Sections of names and values; ``°`` and ``µ`` are of Latin-1."""
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in decode(raw)[0].split("\n"):
        parts = [part.strip() for part in line.split("\t")]
        if parts[0].startswith("[") and parts[0].endswith("]"):
            current = sections.setdefault(parts[0][1:-1], {})
        elif parts[0]:
            current[parts[0]] = " ".join(part for part in parts[1:] if part)
    return sections


def _facts(sections: dict[str, dict[str, str]]) -> Facts:
    facts = Facts()
    # The value may be followed by its unit, and that of a place by pixels: ``89.200 (223)``.
    texts = {(section, key): text.split(" ")[0] for section, part in sections.items() for key, text in part.items()}
    add_numbers(facts, texts, ENTRIES)
    microscope = sections.get("Microscope", {})
    facts.add("microscope", " ".join(filter(None, (microscope.get("Manufacturer"), microscope.get("Model")))))
    facts.add("acquisition_device", _named("NORDIF", sections.get("EBSD detector", {}).get("Model", "")))
    facts.add("software", _named("NORDIF", sections.get("NORDIF", {}).get("Software version", "")))
    specimen = sections.get("Specimen", {})
    facts.add("specimen", specimen.get("Name"))
    facts.add("Specimen Mounting", specimen.get("Mounting"))
    facts.add_measured("acquisition_time", seconds_of(sections.get("Area", {}).get("Scan time", "")), "s")
    phases = (sections[name] for name in sections if re.fullmatch(r"Phase \d+", name))
    add_phases(facts, (Phase(phase.get("Name", ""), space_group=phase.get("IT", "")) for phase in phases))
    return facts


def _named(maker: str, name: str) -> str:
    return f"{maker} {name}" if name else ""


def _pair(text: str) -> tuple[int, int]:
    """Two whole numbers, as in ``60x60``; zeros for what is none."""
    found = re.match(r"\s*(\d{1,6})\s*x\s*(\d{1,6})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _grid(sections: dict[str, dict[str, str]]) -> Grid:
    area = sections.get("Area", {})
    rows, columns = _pair(area.get("Number of samples", ""))
    try:
        step = number(area.get("Step size", "").split(" ")[0])
    except ValueError:
        step = 0.0
    return Grid(rows, columns, step, step)


def _patterns(source: Source, sections: dict[str, dict[str, str]]) -> Signal:
    facts, grid = _facts(sections), _grid(sections)
    native = bounded(sections)
    width, height = _pair(sections.get("Acquisition settings", {}).get("Resolution", ""))
    size = source.path.stat().st_size
    if not sections or not 0 < width * height <= size or max(width, height) > LARGEST_SIDE:
        facts.warnings["Pixels"] = (
            "The size of the patterns is not known: it stands in Setting.txt, which is not beside the file."
            if not sections
            else f"Patterns of {width} × {height} pixels do not fit into the {size} bytes of the file."
        )
        return pattern_signal(facts, grid, None, (), native)
    count = size // (width * height)
    expected = grid.rows * grid.columns
    if expected:
        warn_of_missing(facts, count, expected)
        count = min(count, expected)
    scan = grid.present(count) if expected else (count,)
    return pattern_signal(facts, grid, _mapped(source.path, (*scan, height, width)), scan, native)


def _mapped(path: Path, shape: tuple[int, ...]) -> Any:
    import numpy as np

    if prod(shape) > path.stat().st_size:
        msg = "it is damaged: the file ends before its patterns do"
        raise ExtractionError(msg)
    return np.memmap(path, mode="r", dtype="u1", shape=shape)


def _picture(source: Source, sections: dict[str, dict[str, str]]) -> Signal:
    with open_picture(source.path) as image:
        raster = picture_raster(source.path, image)
    facts = _facts(sections)
    if raster.problem:
        facts.warnings["Pixels"] = raster.problem
    facts.add("Pattern", source.path.stem)
    signal = Signal("Diffraction", "SEM_EBSD", raster.shape, native=bounded(sections), pixels=raster.pixels())
    return facts.give_to(signal)


def _settings_alone(raw: bytes) -> Signal:
    """Settings whose patterns are not there: a text that describes them."""
    sections = _sections(raw)
    facts = _facts(sections)
    grid = _grid(sections)
    grid.add_to(facts)
    if not grid.rows:
        facts.warnings["Scan Grid"] = "The settings end before the number of samples (a copy that broke off?)."
    text = decode(raw)[0]
    return facts.give_to(Signal("Misc", "SEM_EBSD", native=bounded(sections), text=text))


EXTRACTOR = Nordif()
