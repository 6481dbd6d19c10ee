"""TIFF images written by Fibics programmes: Atlas 5 and ATLAS 3D of Zeiss dual beams, NPVE of ion microscopes.

Tag 51023 holds XML in ISO-8859-1::

    <Fibics version="1.0">
      <Application> <Version>AtlasEngine v5.0</Version> <Date>2017-04-20T11:52:36.078+02:00</Date> …
      <Image> <Machine>…</Machine> <Beam>SEM</Beam> <Aperture>[1] 30 µm [HC] (5.0 kV)</Aperture> …
      <Scan> <Dwell units="ns">1000</Dwell> <FOV_X units="um">45.7</FOV_X> <Ux>0.0447</Ux> <Focus>0.00504</Focus> …
      <Stage> <X units="um">…
      <BeamInfo> <item name="Ext V">=  4.28 kV</item> …
      <ATLAS3D> <Slice> <ZIndex>6</ZIndex> <ZPos>1.666</ZPos> …

``Ux`` to ``Vy`` lead from a pixel to the next one to its right and below, in micrometres; ``Focus`` is the working
distance in metres; positions of slices are in micrometres.
The number of the tag is in https://github.com/cgohlke/tifffile.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, first_tags, read_image
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.vendor_text import moment, number, parse_xml
from nexuslims_pipeline.signals import Signal, Source

XML_TAG: Final = 51023
XML_LIMIT: Final = 1 << 20
"""Bytes of XML that are read; real ones have 2 to 10 kB."""
WORKING_DISTANCES: Final = (1e-4, 0.2)
"""Metres between which a focus is a working distance."""
APERTURE: Final = re.compile(r"([\d.,]+\s*[µμu]m).*?(?:\(([\d.,]+\s*kV)\))?$")
"""``[1] 30 µm [HC] (5.0 kV)``: diameter and acceleration voltage."""
ION_GASES: Final = ("he", "ne")

ENTRIES: Final = (
    entry("acceleration_voltage", "kV", "BeamInfo/EHT BeamInfo/AccV BeamInfo/BeamV", never_zero=True),
    entry("extraction_voltage", "kV", "BeamInfo/Ext_V BeamInfo/ExtractorV", never_zero=True),
    entry("filament_current", "A", "BeamInfo/Fil_I", never_zero=True),
    entry("beam_current", "pA", "BeamInfo/BeamI BeamInfo/Beam_I", never_zero=True),
    entry("spot_size", "", "BeamInfo/Spot"),
    entry("dwell_time", "ns", "Scan/Dwell", never_zero=True),
    entry("horizontal_field_width", "µm", "Scan/FOV_X", never_zero=True),
    entry("vertical_field_width", "µm", "Scan/FOV_Y", never_zero=True),
    entry("scan_rotation", "deg", "Scan/ScanRot"),
    entry("tilt_correction", "deg", "ScanInfo/Tilt_Corrn._Angle"),
    entry("stage_x", "µm", "Stage/X"),
    entry("stage_y", "µm", "Stage/Y"),
    entry("stage_z", "µm", "Stage/Z"),
    entry("stage_tilt", "deg", "Stage/Tilt"),
    entry("stage_rotation", "deg", "Stage/Rot"),
    entry("frames", "", "Scan/FrameAvg", never_zero=True),
    entry("detector_type", None, "Image/Detector"),
    entry("microscope", None, "Image/Machine"),
    entry("software", None, "Application/Version"),
    entry("Stage M", "mm", "Stage/M"),
    entry("Beam", None, "Image/Beam"),
    entry("Aperture", None, "Image/Aperture BeamInfo/Aperture"),
    entry("Ion Gas", None, "BeamInfo/Gas BeamInfo/GasType"),
    entry("Extractor Current", "µA", "BeamInfo/Ext_I", never_zero=True),
    entry("Lines Averaged", "", "Scan/LineAvg"),
    entry("X", "percent", "Scan/StigX", "Stigmator"),
    entry("Y", "percent", "Scan/StigY", "Stigmator"),
    entry("Signal", None, "DetectorInfo/Mode", "Detector Settings"),
    entry("Contrast", "percent", "Image/Contrast", "Detector Settings"),
    entry("Brightness", "percent", "Image/Brightness", "Detector Settings"),
    entry("Collector Voltage", "V", "DetectorInfo/Collector", "Detector Settings"),
    entry("Converter Voltage", "V", "DetectorInfo/Convertor", "Detector Settings"),
    entry("Stage Bias", "V", "DetectorInfo/Stage_Bias", "Detector Settings"),
    entry("Stack", None, "ATLAS3D/Stack/Name", "Slice"),
    entry("Number", "", "ATLAS3D/Slice/ZIndex", "Slice"),
    entry("Position", "µm", "ATLAS3D/Slice/ZPos", "Slice"),
    entry("Nominal Position", "µm", "ATLAS3D/Slice/NominalZPos", "Slice"),
    entry("Key Frame", None, "ATLAS3D/Slice/KeyFrame", "Slice"),
    entry("FIB Drift X", "µm", "ATLAS3D/Slice/FIBDriftX", "Slice"),
    entry("FIB Drift Y", "µm", "ATLAS3D/Slice/FIBDriftY", "Slice"),
    entry("Row", "", "MosaicInfo/Row", "Mosaic"),
    entry("Column", "", "MosaicInfo/Col", "Mosaic"),
)


class FibicsAtlas(Extractor):
    """Images of Fibics Atlas and NPVE: mosaics, slices of a volume, ion images."""

    name: ClassVar[str] = "fibics_atlas"
    format_name: ClassVar[str] = "Fibics Atlas TIFF"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF with the tag."""
        return head.startswith(TIFF_MAGIC) and b"<Fibics" in first_tags(source.path).get(XML_TAG, b"")

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image of the file.

        Raises
        ------
        ExtractionError
            If it holds no image.
        """
        image = read_image(source.path, (XML_TAG,), XML_LIMIT)
        facts = Facts()
        values = image.values_of(XML_TAG, lambda raw: _values(parse_xml(raw)), facts)
        facts.add_entries(ENTRIES, lambda place: values.get(place, ""))
        _add_aperture(facts)
        _add_pixel(values, facts)
        technique = _technique(values)
        _add_focus(values, technique, facts)
        signal = Signal(
            "Image",
            technique,
            name=values.get("ATLAS3D/Stack/Name", ""),
            acquired=_acquired(values, facts, source),
            native=bounded({"Fibics": values}),
        )
        return [image.give_to(signal, facts)]


def _values(root: Any) -> dict[str, str]:
    """Texts by path, with their unit; those of ``<item name="Ext V">`` by that name, with ``_`` for blanks."""
    values: dict[str, str] = {}

    def walk(element: Any, path: str) -> None:
        for child in element:
            name = (child.get("name") or "").replace(" ", "_") if child.tag == "item" else str(child.tag)
            text = (child.text or "").strip().removeprefix("=").strip()
            if text:
                values[path + name] = f"{text} {child.get('units', '')}".strip()
            walk(child, f"{path}{name}/")

    walk(root, "")
    return values


def _technique(values: Mapping[str, str]) -> str:
    beam = values.get("Image/Beam", "").lower()
    gas = (values.get("BeamInfo/Gas") or values.get("BeamInfo/GasType") or "").lower()
    machine = values.get("Image/Machine", "").lower()
    if gas.startswith(ION_GASES) or beam.startswith(("gfis", "him", "he", "ne")) or "orion" in machine:
        return "HIM_Imaging"
    if beam.startswith(("fib", "ion", "ga")):
        return "FIB_Imaging"
    is_of_ion_microscope = not beam and values.get("Application/Version", "").startswith("NPVE")
    return "HIM_Imaging" if is_of_ion_microscope else "SEM_Imaging"


def _add_aperture(facts: Facts) -> None:
    parts = APERTURE.search(str(facts.extensions.get("Aperture", "")))
    if parts:
        facts.add_written("aperture_diameter", parts[1], "µm")
        if parts[2] and "acceleration_voltage" not in facts.fields:
            facts.add_written("acceleration_voltage", parts[2], "kV")


def _add_pixel(values: Mapping[str, str], facts: Facts) -> None:
    """Lengths of the two vectors from pixel to pixel."""
    for side, (first, second) in (("width", ("Scan/Ux", "Scan/Uy")), ("height", ("Scan/Vx", "Scan/Vy"))):
        try:
            size = math.hypot(number(values[first]), number(values[second]))
        except (KeyError, ValueError):
            continue
        facts.add_measured(f"pixel_{side}", size, "µm")


def _add_focus(values: Mapping[str, str], technique: str, facts: Facts) -> None:
    try:
        focus = number(values.get("Scan/Focus", ""))
    except ValueError:
        return
    if technique == "SEM_Imaging" and WORKING_DISTANCES[0] < focus < WORKING_DISTANCES[1]:
        facts.add("working_distance", focus, "m")
    else:
        facts.add("Focus", focus)


def _acquired(values: Mapping[str, str], facts: Facts, source: Source) -> datetime | None:
    text = values.get("Application/Date", "")
    if not text:
        return None
    try:
        return moment(text, like=source.modified)
    except ValueError:
        facts.warnings["Creation Time"] = f"The file says {text[:80]!r}, which is no date and time."
        return None


EXTRACTOR = FibicsAtlas()
