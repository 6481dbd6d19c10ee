"""NanoMEGAS TopSpin ``.app5``: scans with precession electron diffraction, in HDF5.

==============================  ==============================================================================
object                          content
==============================  ==============================================================================
``Metadata``                    XML of a procedure; ``ProcedureData`` and ``HardwareSettings`` are lists of
                                ``<Item><Name/><Value/></Item>``, in SI units and radians
``<id>``, a dataset             an image that the XML names, such as the virtual STEM image
``<id>``, a group               patterns ``0/Data``, ``1/Data`` …; each with an XML of its own (``Metadata``),
                                which has its calibration and the position of the beam
==============================  ==============================================================================

A file of several procedures has a group with all this for each. Times are local, month before day. Known from
https://hyperspy.org/rosettasciio/supported_formats/topspin.html and from real files.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.frames import Frames
from nexuslims_pipeline.extraction.layouts.hdf5 import Numbers, ensure_own_numbers, is_hdf5, open_hdf5, resolved
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import local_time, number, parse_xml, xml_texts
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
MARK: Final = "ProcedureDocumentSerializer"
LARGEST_XML: Final = 16 << 20
MOST_PROCEDURES: Final = 1000
MOST_RESULTS: Final = 1000
ROW_LIMIT: Final = 1024
"""Positions of the beam that are read to find the first row of a scan."""
DECLARATION: Final = re.compile(rb"\A\s*<\?xml[^>]*\?>")
"""It often names another encoding than the text has."""
ENTRIES: Final = (
    entry("acceleration_voltage", "V", "GunHighVoltage", never_zero=True),
    entry("emission_current", "A", "GunEmissionCurrent", never_zero=True),
    entry("camera_length", "m", "DiffractionCameraLength", never_zero=True),
    entry("scan_rotation", "rad", "ScanRotation StemScanRotation"),
    entry("exposure_time", "s", "SeriesFrameTime FrameTime", never_zero=True),
    entry("flyback_time", "s", "FlybackWaitTime", never_zero=True),
    entry("acquisition_device", None, "Camera"),
    entry("projection_mode", None, "ImagingMode"),
    entry("Precession", None, "IsPrecessionEnabled"),
    entry("Precession Angle", "rad", "PrecessionHardwarePrecessionAngle", never_zero=True),
    entry("Precession Frequency", "Hz", "PrecessionHardwarePrecessionFrequency", never_zero=True),
    entry("Precession Cycles", "", "NumberPrecessionCycles"),
    entry("Descan", None, "StemIsDescanEnabled"),
    entry("Scan Device", None, "Scanning"),
    entry("Diffraction to STEM Rotation", "rad", "DiffractionToStemRotation"),
    entry("Drift Correction", None, "DriftCorrection/Text"),
    entry("Camera Frame Size", "", "FrameSize"),
    entry("Virtual Detector Region", None, "VirtualStemIntegration"),
)
TEXTS: Final = {
    "SystemName": "microscope",
    "CreatedBy": "operator",
    "Specimen": "specimen",
    "Comments": "Comment",
    "FriendlyName": "Procedure",
    "Title": "Title",
    "StartDateTime": "Acquisition Start",
    "EndDateTime": "Acquisition End",
}


class TopSpin(Extractor):
    """Scans of patterns and their virtual images."""

    name: ClassVar[str] = "topspin"
    format_name: ClassVar[str] = "NanoMEGAS TopSpin"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".app5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 with a procedure of TopSpin, or HDF5 of that extension that cannot be opened."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                return any(MARK.encode() in _xml_of(group)[:500] for group in _procedures(file))
        except ExtractionError:
            return source.path.suffix.lower() == ".app5"

    def extract(self, source: Source) -> list[Signal]:
        """Every image and every scan of every procedure.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds no results.
        """
        with open_hdf5(source.path) as file:
            signals = [signal for group in _procedures(file) for signal in _results(source.path, group)]
        if not signals:
            msg = "it holds no results: neither images nor patterns"
            raise ExtractionError(msg)
        return signals


def _procedures(file: Any) -> Iterator[Any]:
    """The group of each procedure: the file itself, or groups in it."""
    if "Metadata" in file:
        yield file
        return
    for name in sorted(file)[:MOST_PROCEDURES]:
        group = resolved(file, name) if GUID.fullmatch(name) else None
        if group is not None and "Metadata" in getattr(group, "keys", tuple)():
            yield group


def _xml_of(group: Any) -> bytes:
    """XML of a procedure or of a pattern; empty when there is none."""
    dataset = resolved(group, "Metadata")
    if getattr(dataset, "shape", None) != ():
        return b""
    ensure_own_numbers(dataset)
    if dataset.dtype.kind == "S" and dataset.dtype.itemsize > LARGEST_XML:
        return b""
    raw = dataset[()]
    return DECLARATION.sub(b"", raw) if isinstance(raw, bytes) else b""


def _results(path: Path, group: Any) -> Iterator[Signal]:
    root = parse_xml(_xml_of(group))
    items = _items(root)
    texts = {child.tag: (child.text or "").strip() for child in root if len(child) == 0}
    native = bounded({"procedure": texts, "settings": items})
    for name in sorted(name for name in group if GUID.fullmatch(name))[:MOST_RESULTS]:
        found = resolved(group, name)
        facts = _facts(texts, items)
        if hasattr(found, "keys"):
            signal = _scan(path, found, items, facts)
        elif getattr(found, "ndim", 0) == 2:
            signal = _image(path, found, items, facts)
        else:
            continue
        if signal is not None:
            signal.acquired = _acquired(texts, facts)
            signal.native = native
            yield facts.give_to(signal)


def _items(root: Any) -> dict[str, dict[str, str]]:
    """Values of the XML's lists by their names: texts by their paths in a value, under the empty path a plain one."""
    items: dict[str, dict[str, str]] = {}
    for item in root.iter("Item"):
        value = item.find("Value")
        name = (item.findtext("Name") or "").strip()
        if value is not None and name:
            items[name] = xml_texts(value) if len(value) else {"": (value.text or "").strip()}
    return items


def _facts(texts: Mapping[str, str], items: Mapping[str, Mapping[str, str]]) -> Facts:
    facts = Facts()
    for key, name in TEXTS.items():
        facts.add(name, texts.get(key))

    def find(place: str) -> str:
        name, _, part = place.partition("/")
        return items.get(name, {}).get(part, "")

    facts.add_entries(ENTRIES, find)
    if find("StemEnabled") == "True":
        facts.add("illumination_mode", "STEM")
        facts.add_entries((entry("magnification", "", "StemMagnification", never_zero=True),), find)
    facts.add("software", "TopSpin")
    return facts


def _image(path: Path, dataset: Any, items: Mapping[str, Mapping[str, str]], facts: Facts) -> Signal:
    guid = dataset.name.rpartition("/")[2]
    title, values = next(((name, each) for name, each in items.items() if each.get("Id") == guid), ("", {}))
    shape = tuple(map(int, dataset.shape))
    axes = tuple(
        _axis(size, values, f"Calibration/{side.upper()}", side, facts) for size, side in zip(shape, "yx", strict=True)
    )
    facts.add_axes(axes)
    words = " ".join(re.findall(r"[A-Z][a-z]+|\d+", title.removesuffix("Result"))).replace("Stem", "STEM")
    return Signal("Image", "STEM_Imaging", shape, words, pixels=Pixels(Numbers(path, dataset), axes))


def _scan(path: Path, group: Any, items: Mapping[str, Mapping[str, str]], facts: Facts) -> Signal | None:
    """Patterns of a scan; None when the group has none."""
    first = resolved(group, "0/Data")
    if getattr(first, "ndim", 0) != 2:
        return None
    ensure_own_numbers(first)
    count = len(group)
    values = xml_texts(parse_xml(_xml_of(resolved(group, "0"))))
    positions = _positions(group, items, count)
    pattern = tuple(map(int, first.shape))
    axes = (
        *positions,
        _axis(pattern[0], values, "Calibration/Y", "ky", facts),
        _axis(pattern[1], values, "Calibration/X", "kx", facts),
    )
    facts.add_axes(axes)
    scan = tuple(axis.size for axis in positions)
    declared = next((each["Count"] for each in items.values() if each.get("Id") == group.name.rpartition("/")[2]), "")
    if declared.isdecimal() and int(declared) > count:
        facts.warnings["Pixels"] = f"The scan was of {declared} patterns, of which the file holds {count}."
    array = Frames(scan, (pattern[0], pattern[1]), first.dtype, _reader(path, group.name, pattern))
    return Signal("Diffraction", "STEM_Diffraction", array.shape, "", pixels=Pixels(array, axes))


def _axis(size: int, values: Mapping[str, str], place: str, name: str, facts: Facts) -> Axis:
    """Axis of an image in nm, or of a pattern in mrad, as its calibration says."""
    kind = values.get(f"{place}/Type/Text", "")
    unit, factor = {"Position": ("nm", 1e9), "Angle": ("mrad", 1e3)}.get(kind, ("", 0.0))
    try:
        scale, offset = (number(values.get(f"{place}/{part}", "")) * factor for part in ("Scale", "Offset"))
    except ValueError:
        scale = 0.0
    if scale <= 0:
        if values:
            facts.warnings["Calibration"] = f"The calibration of {name} makes no sense or is of another kind."
        return Axis(size, name=name)
    return Axis(size, tidy(scale), tidy(offset), unit, name)


def _positions(group: Any, items: Mapping[str, Mapping[str, str]], count: int) -> tuple[Axis, ...]:
    """Rows and columns of the scan, from its plan or else from where the beam was; a series when neither tells."""
    plan = items.get("PointCollection", {})
    try:
        step, width, height = (number(plan.get(key, "")) for key in ("StepSize", "Data/HalfWidth", "Data/HalfHeight"))
        columns, rows = round(2 * width / step), round(2 * height / step)
    except (ValueError, ZeroDivisionError, OverflowError):
        step, columns, rows = 0.0, 0, 0
    steps = (step, step)
    if columns * rows != count:
        columns, steps = _first_row(group, count)
        rows = count // columns
    if columns * rows != count or columns == count:
        return (Axis(count, name="Position", navigation=True),)
    return tuple(
        Axis(size, tidy(length * 1e9) or 1.0, units="nm" if length > 0 else "", name=name, navigation=True)
        for size, length, name in ((rows, steps[0], "y"), (columns, steps[1], "x"))
    )


def _first_row(group: Any, count: int) -> tuple[int, tuple[float, float]]:
    """Patterns in the first row, and metres from row to row and from one to the next in a row.

    A row ends where the beam leaves its direction, whatever the rotation of the scan.
    """
    places: list[tuple[float, float]] = []
    for n in range(min(count, ROW_LIMIT)):
        place = _beam(resolved(group, str(n)))
        if place is None:
            break
        places.append(place)
        if n > 1:
            step = math.dist(places[0], places[1])
            expected = [2 * now - before for now, before in zip(places[-2], places[-3], strict=True)]
            if math.dist(place, expected) > step / 2:
                return n, (math.dist(places[0], place), step)
    return count, (0.0, 0.0)


def _beam(pattern: Any) -> tuple[float, float] | None:
    """Where the beam was for a pattern, m; None when that is not known."""
    try:
        for item in parse_xml(_xml_of(pattern)).iter("Item"):
            if (item.findtext("Name") or "").endswith("BeamPosition"):
                return number(item.findtext("Value/X") or ""), number(item.findtext("Value/Y") or "")
    except (ValueError, ExtractionError):
        pass
    return None


def _reader(path: Path, group: str, shape: tuple[int, ...]) -> Any:
    """Reads patterns of a group by their number; keeps the file open from the first one on."""

    @cache
    def opened() -> Any:
        import h5py

        return h5py.File(path, "r", locking=False)

    def read(number: int) -> Any:
        dataset = resolved(opened(), f"{group}/{number}/Data")
        if dataset is None or dataset.shape != shape:
            msg = f"its pattern {number} is missing or of another size"
            raise ExtractionError(msg)
        ensure_own_numbers(dataset)
        return dataset[...]

    return read


def _acquired(texts: Mapping[str, str], facts: Facts) -> datetime | None:
    text = texts.get("CreatedDateTime") or texts.get("StartDateTime") or ""
    try:
        return local_time(text) if text else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The file says {fault}."
        return None


EXTRACTOR = TopSpin()
