"""TIFF images and stacks exported by HyperSpy.

The software (tag 305) is ``hyperspy``. The calibration is in the tags that DigitalMicrograph uses too (see
`gatan_tiff`): units in 65003 to 65005 (columns, rows, slices), origins in 65006 to 65008, steps in 65009 to
65011; that of an uncalibrated axis is 1 without a unit. Of the metadata only a date may be left, in tag 306.
Source: https://github.com/hyperspy/rosettasciio, ``rsciio/tiff``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.formats.gatan_tiff import calibrated_axes, dataset_type_of, native_tags
from nexuslims_pipeline.extraction.layouts.raster import tag_text, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import DATE_TIME, SOFTWARE, TiffExtractor, date_of, picture
from nexuslims_pipeline.signals import Signal, Source


class HyperSpyTiff(TiffExtractor):
    """Images and stacks exported by HyperSpy."""

    name: ClassVar[str] = "hyperspy_tiff"
    format_name: ClassVar[str] = "HyperSpy TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether the software is HyperSpy."""
        return tags.get(SOFTWARE, b"").startswith(b"hyperspy")

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image, or the one stack."""
        raster = tiff_raster(tiff, source.path)
        axes = calibrated_axes(tiff, raster)
        facts.add("software", "HyperSpy")
        written = date_of(tag_text(tiff, DATE_TIME), facts)
        kind, technique = dataset_type_of(axes)
        signal = picture(raster, facts, dataset_type=kind, data_type=technique, axes=axes)
        signal.acquired = written
        signal.native = native_tags(tiff)
        return [signal]


EXTRACTOR = HyperSpyTiff()
