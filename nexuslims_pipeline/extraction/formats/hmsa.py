"""HMSA, the hyper-dimensional data format of MSA, MAS and AMAS (ISO 5820): ``.hmsa`` numbers, described by an ``.xml``.

The XML is ``<MSAHyperDimensionalDataFile UID="…">`` with ``<Header>``, ``<Conditions>`` (instrument, probe,
detectors, acquisition) and ``<Data>``: one element per dataset, with its ``DataOffset`` and ``DataLength`` in the
``.hmsa``, ``DatumType`` and dimensions, of which the first varies fastest, those of a datum before those of the
collection. The ``.hmsa`` is little endian and begins with the eight bytes of the UID. Values carry their unit:
``<BeamVoltage DataType="float" Unit="kV">15.</BeamVoltage>``. ISO 5820:2024; Torpy et al., Microsc. Microanal. 25
(2019) S2 and https://github.com/pyhmsa/pyhmsa.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, spectral_type
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import ELEMENTS, UNITS_AS_WRITTEN, moment, number, parse_xml, xml_texts
from nexuslims_pipeline.signals import Axis, DatasetType, Pixels, Signal, Source

ROOT: Final = b"<MSAHyperDimensionalDataFile"
XML_LIMIT: Final = 64 << 20
MOST_DATASETS: Final = 256
LONGEST_AXIS: Final = 1 << 31
UID_BYTES: Final = 8
DATUM_TYPES: Final = {
    "byte": "u1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4", "int64": "<i8",
    "uint64": "<u8", "float": "<f4", "double": "<f8",
}  # fmt: skip
UNITS: Final = {
    "mm2": "mm^2", "cm2": "cm^2", "µm2": "µm^2", "um2": "µm^2", "sr": "sr", "counts/s": "1/s", "counts": "",
    "degreesC": "degC", "g/cm3": "g/cm^3",
}  # fmt: skip
"""Units of this format beside the usual ones."""
THOUSANDFOLD: Final = {"kcounts/s": "counts/s", "kcounts": "counts"}
VALUES: Final = {
    "Instrument": {"Model": "microscope", "Manufacturer": "Manufacturer", "SerialNumber": "Serial Number"},
    "Probe": {
        "BeamVoltage": "acceleration_voltage", "BeamCurrent": "beam_current", "EmissionCurrent": "emission_current",
        "FilamentCurrent": "filament_current", "ExtractorBias": "extraction_voltage", "BeamDiameter": "Beam Diameter",
        "ChamberPressure": "chamber_pressure", "GunPressure": "Gun Pressure", "ScanMagnification": "magnification",
        "WorkingDistance": "working_distance", "GunType": "Electron Source", "LensMode": "projection_mode",
        "CameraMagnification": "camera_length", "ConvergenceAngle": "convergence_angle",
    },
    "Detector": {
        "Model": "detector_type", "Manufacturer": "Detector Manufacturer", "Elevation": "elevation_angle",
        "Azimuth": "azimuthal_angle", "SolidAngle": "solid_angle", "SemiAngle": "collection_angle",
        "TimeConstant": "shaping_time", "Area": "Detector Area", "Distance": "Detector Distance",
        "Technology": "Detector Technology", "NominalThroughput": "Nominal Throughput", "StrobeRate": "Strobe Rate",
        "Temperature": "Detector Temperature", "Window": "Window",
    },
    "Acquisition": {
        "DwellTime": "dwell_time", "TotalTime": "acquisition_time", "DwellTime_Live": "live_time",
        "FrameCount": "frames",
    },
    "Specimen": {"Name": "specimen", "Description": "Specimen Description", "Temperature": "temperature"},
}  # fmt: skip
"""Names of the values of a condition; what is a field of no name here stays in the native tree."""
POSITIONS: Final = {"X": "stage_x", "Y": "stage_y", "Z": "stage_z", "Rotation": "stage_rotation", "Tilt": "stage_tilt"}
TECHNIQUES: Final = ("EDS", "WDS", "CL", "EBSD", "EELS", "XRF")
HIGHEST_SEM_KV: Final = 30.0


class Hmsa(Extractor):
    """Datasets in the exchange format of the microanalysis societies."""

    name: ClassVar[str] = "hmsa"
    format_name: ClassVar[str] = "HMSA"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".hmsa", ".xml"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is the XML, or a file of the format's extension: eight bytes of a UID tell nothing."""
        return ROOT in head or source.path.suffix.lower() == ".hmsa"

    def extract(self, source: Source) -> list[Signal]:
        """Every dataset that the XML describes.

        Raises
        ------
        ExtractionError
            If the XML is missing, damaged or describes no dataset.
        """
        is_xml = source.path.suffix.lower() != ".hmsa"
        beside = ".hmsa" if is_xml else ".xml"
        other = next((each for each in source.companions if each.suffix.lower() == beside), None)
        description, numbers = (source.path, other) if is_xml else (other, source.path)
        if description is None:
            msg = f"the {source.path.stem}.xml that describes it is missing"
            raise ExtractionError(msg)
        if description.stat().st_size > XML_LIMIT:
            msg = f"its XML is larger than any ({XML_LIMIT >> 20} MB)"
            raise ExtractionError(msg)
        root = parse_xml(description.read_bytes())
        data = root.find("Data")
        datasets = list(data)[:MOST_DATASETS] if data is not None else []
        if not datasets:
            msg = "it describes no dataset"
            raise ExtractionError(msg)
        problem = _identity_problem(root, numbers)
        return [_Dataset(root, element, numbers).signal(source, problem) for element in datasets]


def _identity_problem(root: Any, numbers: Path | None) -> str:
    """Words for a warning when XML and numbers are not of one file."""
    if numbers is None:
        return "Its numbers are missing: there is no .hmsa file of the same name beside it."
    with numbers.open("rb") as file:
        found = file.read(UID_BYTES).hex().upper()
    expected = str(root.get("UID", "")).upper()
    return "" if found == expected else f"The XML is of the file {expected}, but its .hmsa is {found}."


@dataclass(frozen=True, slots=True)
class _Dataset:
    """One element of ``<Data>``."""

    root: Any
    element: Any
    numbers: Path | None

    def signal(self, source: Source, problem: str) -> Signal:
        facts = Facts()
        self._add_header(facts)
        conditions = list(self._conditions())
        for condition in conditions:
            _add_condition(facts, condition)
        axes = self._axes(conditions, facts)
        facts.add_axes(axes)
        signal_type = next(filter(None, (_text(each, "SignalType") for each in conditions)), "")
        dataset_type = _dataset_type(axes, signal_type)
        pixels, cut = (None, "") if problem else self._pixels(axes)
        if problem or cut:
            facts.warnings["Pixels"] = problem or cut
        signal = Signal(
            dataset_type,
            _technique(dataset_type, signal_type, conditions, facts),
            shape=tuple(axis.size for axis in axes),
            name=self.element.get("Name") or _text(self.root, "Header/Title"),
            acquired=self._acquired(facts, source),
            native=bounded(xml_texts(self.root)),
            pixels=pixels,
        )
        return facts.give_to(signal)

    def _add_header(self, facts: Facts) -> None:
        facts.add("operator", _text(self.root, "Header/Author"))
        facts.add("Title", _text(self.root, "Header/Title"))
        facts.add("Time Zone", _text(self.root, "Header/Timezone"))
        program = self.root.find("Header/AuthorSoftware")
        if program is not None:
            facts.add("software", f"{(program.text or '').strip()} {program.get('Version', '')}")

    def _conditions(self) -> Iterator[Any]:
        """Those that hold for the dataset: all, unless it names some."""
        included = self.element.find("IncludeConditions")
        named = set(" ".join(included.itertext()).replace(",", " ").split()) if included is not None else set()
        for condition in self.root.find("Conditions") if self.root.find("Conditions") is not None else ():
            if not named or condition.get("ID") in named or condition.get("ID") is None:
                yield condition

    def _axes(self, conditions: list[Any], facts: Facts) -> tuple[Axis, ...]:
        """Axes, the slowest first.

        Raises
        ------
        ExtractionError
            If a dimension is no sensible number.
        """
        collection = [
            _position_axis(each, conditions)
            for each in reversed(self.element.findall("CollectionDimensions/Dimension"))
        ]
        datum = [
            _datum_axis(each, conditions, facts) for each in reversed(self.element.findall("DatumDimensions/Dimension"))
        ]
        if not datum:  # one number per position: an image
            return tuple(Axis(each.size, each.scale, each.offset, each.units, each.name) for each in collection)
        return (*collection, *datum)

    def _pixels(self, axes: tuple[Axis, ...]) -> tuple[Pixels | None, str]:
        import numpy as np

        kind = DATUM_TYPES.get(_text(self.element, "DatumType"))
        if kind is None or self.numbers is None or not axes:
            return None, f"Numbers of the type {_text(self.element, 'DatumType')!r} are not known."
        shape = tuple(axis.size for axis in axes)
        offset, size = _whole(_text(self.element, "DataOffset")), prod(shape) * np.dtype(kind).itemsize
        present = self.numbers.stat().st_size - offset
        if present < size:
            return (
                None,
                f"The .hmsa has {max(0, present)} of the {size} bytes that are described (a copy that broke off?).",
            )
        return Pixels(np.memmap(self.numbers, mode="r", dtype=kind, offset=offset, shape=shape), axes), ""

    def _acquired(self, facts: Facts, source: Source) -> datetime | None:
        date, time = _text(self.root, "Header/Date"), _text(self.root, "Header/Time")
        if not date:
            return None
        try:
            return moment(f"{date} {time or '00:00'}", like=source.modified)
        except ValueError as fault:
            facts.warnings["Creation Time"] = f"The file says {fault}."
            return None


def _text(element: Any, path: str) -> str:
    return str(element.findtext(path) or "").strip()


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,15}", text) else 0


def _add_condition(facts: Facts, condition: Any) -> None:
    """Values of one condition; the first of several detectors is kept."""
    for tag, name in VALUES.get(condition.tag, {}).items():
        value = condition.find(tag)
        if value is not None and name not in facts.fields and name not in facts.extensions:
            _add_value(facts, name, value)
    for tag, name in POSITIONS.items():
        for value in condition.findall(f".//SpecimenPosition/{tag}")[:1]:
            _add_value(facts, name, value)
    if condition.tag == "ElementID" and (z := _whole(_text(condition, "AtomicNumber"))) in range(1, len(ELEMENTS) + 1):
        facts.add("elements", [*facts.fields.get("elements", []), ELEMENTS[z - 1]])


def _add_value(facts: Facts, name: str, element: Any) -> None:
    """Text or number with the unit that it carries."""
    text, written = (element.text or "").strip(), element.get("Unit", "")
    if element.get("DataType", "string") == "string" or not text:
        facts.add(name, text)
        return
    times, written = (1e3, THOUSANDFOLD[written]) if written in THOUSANDFOLD else (1.0, written)
    unit = UNITS.get(written, UNITS_AS_WRITTEN.get(written)) if written else ""
    if unit is None:
        facts.warnings[name] = f"the file says {text[:40]!r} in {written[:20]!r}, a unit that is not known"
        return
    try:
        value = number(text) * times
    except ValueError as fault:
        facts.warnings[name] = str(fault)
        return
    facts.add(name, int(value) if not unit and value.is_integer() else value, unit or None)


def _size(dimension: Any) -> int:
    size = _whole((dimension.text or "").strip())
    if not 0 < size < LONGEST_AXIS:
        msg = f"its dimension {str(dimension.get('Name'))[:40]!r} is no size"
        raise ExtractionError(msg)
    return size


def _position_axis(dimension: Any, conditions: list[Any]) -> Axis:
    name = str(dimension.get("Name", ""))
    step = next(filter(lambda each: each is not None, (c.find(f"StepSize{name}") for c in conditions)), None)
    scale, units = 0.0, ""
    if step is not None:
        try:
            scale, units = number(step.text or ""), UNITS_AS_WRITTEN.get(step.get("Unit", ""), "")
        except ValueError:
            scale = 0.0
    known = scale > 0 and bool(units)
    return Axis(
        _size(dimension), scale if known else 1.0, units=units if known else "", name=name.lower(), navigation=True
    )


def _datum_axis(dimension: Any, conditions: list[Any], facts: Facts) -> Axis:
    """Axis of the numbers at one position; calibrated by the detector if it is that of its channels."""
    size, name = _size(dimension), str(dimension.get("Name", ""))
    calibration = next(filter(lambda each: each is not None, (c.find("Calibration") for c in conditions)), None)
    if name != "Channel" or calibration is None or calibration.get("Class") != "Linear":
        return Axis(size, name=name)
    try:
        gain, offset = number(_text(calibration, "Gain")), number(_text(calibration, "Offset"))
    except ValueError as fault:
        facts.warnings["Channel Size"] = str(fault)
        return Axis(size, name=name)
    return Axis(size, gain, offset, _text(calibration, "Unit"), _text(calibration, "Quantity") or name)


def _dataset_type(axes: tuple[Axis, ...], signal_type: str) -> DatasetType:
    inner = sum(not axis.navigation for axis in axes)
    if inner == 0 or not axes:
        return "Misc"
    if inner == 1 and axes[-1].name in ("x", "y"):
        return "Misc"  # one number at each point of a line
    if inner == 1:
        return spectral_type(axes)
    is_pattern = signal_type == "EBSD" or any(axis.navigation for axis in axes)
    return "Diffraction" if is_pattern else "Image"


def _technique(dataset_type: DatasetType, signal_type: str, conditions: list[Any], facts: Facts) -> str:
    voltage = facts.fields.get("acceleration_voltage")
    classes = {each.get("Class", "") for each in conditions if each.tag == "Probe"}
    is_tem = "EM/TEM" in classes or (voltage is not None and voltage.m_as("kV") > HIGHEST_SEM_KV)
    if not is_tem and voltage is None and not classes:
        return "Unknown"
    column = ("STEM" if dataset_type in ("SpectrumImage", "Image") else "TEM") if is_tem else "SEM"
    if dataset_type == "Image":
        return f"{column}_Imaging"
    if dataset_type == "Diffraction":
        return "SEM_EBSD" if not is_tem else "STEM_Diffraction"
    name = next((each for each in TECHNIQUES if signal_type.startswith(each)), "")
    return f"{column}_{name}" if name else "Unknown"


EXTRACTOR = Hmsa()
