"""TIFF images of the helium (and neon, gallium) ion microscopes Zeiss Orion Plus and Orion NanoFab.

Tag 65000 holds XML: for each value an element named after it, with ``<Value>`` and ``<Units>``, both often empty::

    <ImageTags>
      <ImageTagsVersion>1.4.0</ImageTagsVersion>
      <ScalingX><Value>9.765625E-10</Value><Units>m</Units></ScalingX>
      <AccelerationVoltage><Value>29997</Value><Units>Volts</Units></AccelerationVoltage> …
      <GFIS.BeamCurrent><Value>0.938</Value><Units>pA</Units></GFIS.BeamCurrent> …

Newer versions repeat the beam's values with the column before their names. The image has the rows of the picture
(``ImageHeight``) and below them those of the data bar; a short CZ_SEM (tag 34118) stands beside the XML.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, first_tags, read_image
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, parse_xml
from nexuslims_pipeline.signals import Signal, Source

XML_TAG: Final = 65000
XML_LIMIT: Final = 1 << 20
"""Bytes of XML that are read; real ones have 6 kB."""

ENTRIES: Final = (
    entry("acceleration_voltage", "V", "column.AccelerationVoltage AccelerationVoltage", never_zero=True),
    entry("extraction_voltage", "V", "column.ExtractionVoltage ExtractionVoltage", never_zero=True),
    entry("beam_current", "pA", "column.BeamCurrent BlankerCurrent", never_zero=True),
    entry("spot_size", "", "SpotNumber"),
    entry("aperture_diameter", "µm", "column.ApertureSize ApertureSize", never_zero=True),
    entry("working_distance", "mm", "column.WorkingDistance WorkingDistance", never_zero=True),
    entry("magnification", "", "MagnificationDisplay Magnification4x5", never_zero=True),
    entry("horizontal_field_width", "µm", "column.FieldOfView Fov", never_zero=True),
    entry("pixel_width", "m", "ScalingX", never_zero=True),
    entry("pixel_height", "m", "ScalingY", never_zero=True),
    entry("scan_rotation", "deg", "column.ScanRotation ScanRotate"),
    entry("dwell_time", "µs", "DwellTime", never_zero=True),
    entry("stage_x", "µm", "Stage.XLocation StageX"),
    entry("stage_y", "µm", "Stage.YLocation StageY"),
    entry("stage_z", "mm", "StageZ"),
    entry("stage_rotation", "deg", "StageRotate"),
    entry("stage_tilt", "deg", "StageTilt"),
    entry("chamber_pressure", "torr", "ChamberPressure", never_zero=True),
    entry("detector_type", None, "DetectorName"),
    entry("operator", None, "System.User User"),
    entry("Instrument Name", None, "System.Name"),
    entry("Column", None, "ColumnType"),
    entry("Column Mode", None, "ColumnMode"),
    entry("Ion Gas", None, "column.IonGas"),
    entry("Gas Pressure", "torr", "HeliumPressure", never_zero=True),
    entry("Gun Pressure", "torr", "GunPressure", never_zero=True),
    entry("Column Pressure", "torr", "ColumnPressure", never_zero=True),
    entry("Gun Temperature", "K", "GunTemp", never_zero=True),
    entry("Condenser Voltage", "V", "column.CondenserVoltage Lens1Voltage", never_zero=True),
    entry("Objective Voltage", "V", "column.ObjectiveVoltage Lens2Voltage", never_zero=True),
    entry("Crossover Position", "mm", "column.CrossoverPosition CrossOverPosition"),
    entry("Aperture Index", "", "column.ApertureIndex"),
    entry("Specimen Current", "pA", "SampleCurrent", never_zero=True),
    entry("Specimen Bias", "V", "SampleBiasVoltage"),
    entry("X", "", "column.StigmationX StigmationX", "Stigmator"),
    entry("Y", "", "column.StigmationY StigmationY", "Stigmator"),
    entry("X", "µm", "column.PanX PanX", "Pan"),
    entry("Y", "µm", "column.PanY PanY", "Pan"),
    entry("Averaging", None, "AveragingMode"),
    entry("Line Retrace", "µs", "LineRetrace", never_zero=True),
    entry("Frame Retrace", "µs", "FrameRetrace", never_zero=True),
    entry("Grid Voltage", "V", "ETGridVoltage", "Detector Settings"),
    entry("Contrast", "", "ETContrast", "Detector Settings"),
    entry("Brightness", "", "ETBrightness", "Detector Settings"),
    entry("Scintillator Voltage", "V", "Detector.Scintillator", "Detector Settings"),
    entry("MCP Bias", "V", "MCPBias", "Detector Settings", never_zero=True),
    entry("Mode", None, "FloodGunMode", "Flood Gun"),
    entry("Energy", "eV", "FloodGunEnergy", "Flood Gun"),
    entry("Time", "µs", "FloodGunTime", "Flood Gun"),
)
"""``column.`` stands for the name of the column that made the image: ``GFIS.``."""


class ZeissOrion(Extractor):
    """Images of helium ion microscopes."""

    name: ClassVar[str] = "zeiss_orion"
    format_name: ClassVar[str] = "Zeiss Orion TIFF"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF with the tag."""
        return head.startswith(TIFF_MAGIC) and b"<ImageTags" in first_tags(source.path).get(XML_TAG, b"")

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image of the file.

        Raises
        ------
        ExtractionError
            If it holds no image.
        """
        image = read_image(source.path, (XML_TAG,), XML_LIMIT)
        facts = Facts()
        values = image.values_of(XML_TAG, lambda raw: _values(parse_xml(decode(raw)[0].encode())), facts)
        column = values.get("ColumnType", "") or "GFIS"
        facts.add_entries(ENTRIES, lambda place: values.get(place.replace("column.", f"{column}."), ""))
        facts.add("microscope", values.get("System.Model", "").strip("_"))
        _add_averages(values, facts)
        _add_data_bar(values, image.raster.shape[-2], facts)
        technique = "HIM_Imaging" if column == "GFIS" else "FIB_Imaging"
        acquired = facts.clock_time(values.get("TimeStamp", ""), "", source.modified)
        signal = Signal("Image", technique, acquired=acquired, native=bounded({"ImageTags": values}))
        return [image.give_to(signal, facts)]


def _values(root: Any) -> dict[str, str]:
    """Value and unit by name."""
    values: dict[str, str] = {}
    for element in root:
        text = (element.findtext("Value") or element.text or "").strip()
        unit = (element.findtext("Units") or "").strip()
        if text:
            values[str(element.tag)] = f"{text} {unit if unit != 'Unitless' else ''}".strip()
    return values


def _add_averages(values: Mapping[str, str], facts: Facts) -> None:
    kind = values.get("AveragingMode", "").lower()
    name = "frames" if kind.startswith("frame") else "Lines Averaged" if kind.startswith("line") else "Averages"
    facts.add_written(name, values.get("NumAverages", ""), "")


def _add_data_bar(values: Mapping[str, str], rows: int, facts: Facts) -> None:
    height = values.get("ImageHeight", "")
    if height.isdecimal() and len(height) < 7 and 0 < int(height) < rows:
        facts.add("Data Bar Rows", rows - int(height))


EXTRACTOR = ZeissOrion()
