"""TIFF images of Phenom desktop microscopes (Phenom-World, FEI, Thermo Fisher).

Tag 34683 holds XML, whose lengths, times and voltages have their unit as an attribute (without one they are in SI
units); the high voltage is negative::

    <FeiImage>
      <databarHeight>64</databarHeight> <pixelWidth unit="nm">975.8</pixelWidth> <time>2019-08-07T09:37:31</time>
      <acquisition> <scan> <dwellTime unit="ns">200</dwellTime> <highVoltage unit="kV">-15</highVoltage> …
      <instrument> <type>PhenomXL</type> <softwareVersion>5.4.5</softwareVersion> …

The lowest ``databarHeight`` rows are those of the data bar. Images within ``.elid`` files have the same XML.
"""

from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.formats.phenom_elid import INSTRUMENT, PIXEL, SCAN
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, first_tags, read_image
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.vendor_text import moment, parse_xml
from nexuslims_pipeline.signals import Signal, Source

XML_TAG: Final = 34683
XML_LIMIT: Final = 1 << 20
"""Bytes of XML that are read; real ones have 4 kB."""
ROOT: Final = b"<FeiImage"
VOLTAGE: Final = "acquisition/scan/highVoltage"


class PhenomTiff(Extractor):
    """Images of Phenom desktop microscopes."""

    name: ClassVar[str] = "phenom_tiff"
    format_name: ClassVar[str] = "Phenom TIFF"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF with that XML."""
        return head.startswith(TIFF_MAGIC) and ROOT in first_tags(source.path).get(XML_TAG, b"")

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
        values[VOLTAGE] = values.get(VOLTAGE, "").lstrip("-")
        facts.add_entries((*INSTRUMENT, *SCAN, *PIXEL), lambda place: values.get(place, ""))
        bar, rows = values.get("databarHeight", ""), image.raster.shape[-2]
        if bar.isdecimal() and len(bar) < 7 and 0 < int(bar) < rows:
            facts.add("Data Bar Rows", int(bar))
        signal = Signal("Image", "SEM_Imaging", native=bounded({"FeiImage": values}))
        try:
            signal.acquired = moment(values["time"]) if "time" in values else None
        except ValueError as fault:
            facts.warnings["Creation Time"] = f"The file says {fault}."
        return [image.give_to(signal, facts)]


def _values(root: Any) -> dict[str, str]:
    """Texts by path, each with its unit."""
    values: dict[str, str] = {}

    def walk(element: Any, path: str) -> None:
        for child in element:
            if child.text and child.text.strip():
                values[f"{path}{child.tag}"] = f"{child.text.strip()} {child.get('unit', '')}".strip()
            walk(child, f"{path}{child.tag}/")

    walk(root, "")
    return values


EXTRACTOR = PhenomTiff()
