"""TIFF images exported by Gatan DigitalMicrograph.

=================  =================================================================================
tag                content
=================  =================================================================================
65003 65004 65005  units of columns, rows and slices
65006 65007 65008  coordinates of the first column, row and slice
65009 65010 65011  steps of columns, rows and slices
65022 65024 65025  unit, origin and scale of the intensity
65027              the image's tags, as a file of version 3 or 4 of DigitalMicrograph's own format has them
=================  =================================================================================

Their meaning follows from exports of images whose calibration is known, and from HyperSpy, which writes them too.
"""

import contextlib
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, is_reciprocal
from nexuslims_pipeline.extraction.formats.digital_micrograph import TaggedImage, acquisition_time, image_facts
from nexuslims_pipeline.extraction.layouts.dm_tags import parse_tags
from nexuslims_pipeline.extraction.layouts.raster import Raster, tag_bytes, tag_text, tiff_page, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import DATE_TIME, SOFTWARE, TiffExtractor, clean, date_of, picture
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.signals import Axis, DatasetType, Signal, Source

UNITS: Final = (65003, 65004, 65005)
ORIGINS: Final = (65006, 65007, 65008)
STEPS: Final = (65009, 65010, 65011)
INTENSITY: Final = (65022, 65024, 65025)
TAG_TREE: Final = 65027
TREE_LIMIT: Final = 16 << 20


class GatanTiff(TiffExtractor):
    """Images that DigitalMicrograph exported, with the tags that it left in them."""

    name: ClassVar[str] = "gatan_tiff"
    format_name: ClassVar[str] = "Gatan DigitalMicrograph TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether it has the tags of calibration and was not written by HyperSpy, which copies them."""
        own = TAG_TREE in tags or (STEPS[0] in tags and STEPS[1] in tags)
        return own and not tags.get(SOFTWARE, b"").startswith(b"hyperspy")

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Read the one image, or the one stack."""
        raster = tiff_raster(tiff, source.path)
        axes = calibrated_axes(tiff, raster)
        written = date_of(tag_text(tiff, DATE_TIME), facts)
        kind, technique = dataset_type_of(axes)
        acquired, tags = None, dict[str, Any]()
        if raw := tag_bytes(tiff, TAG_TREE, TREE_LIMIT):
            try:
                tags, _ = parse_tags(raw)
                kind, technique, acquired = add_image_tags(tags, axes, source, facts)
            except ExtractionError as fault:
                facts.warnings["Vendor Metadata"] = f"DigitalMicrograph's tags were not read: {fault}"
        signal = picture(raster, facts, dataset_type=kind, data_type=technique, axes=axes)
        signal.acquired = acquired or written
        signal.native = native_tags(tiff) | bounded({"ImageTags": tags} if tags else {})
        return [signal]


def add_image_tags(
    tags: dict[str, Any], axes: tuple[Axis, ...], source: Source, facts: Facts
) -> tuple[DatasetType, str, datetime | None]:
    """Add what DigitalMicrograph's tags say of an image with these axes, as `digital_micrograph` reads them.

    Returns
    -------
    tuple
        Dataset type, technique and time of acquisition.

    Raises
    ------
    ExtractionError
        If they make no sense.
    """
    try:
        image = TaggedImage(_tree_of(axes), tags)
        found = image_facts(image)
        acquired = acquisition_time(image, source.modified, found)
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        msg = f"they are damaged ({str(fault)[:120]})"
        raise ExtractionError(msg) from fault
    facts.fields = {**found.fields, **facts.fields}
    facts.extensions = {**found.extensions, **facts.extensions}
    facts.warnings |= found.warnings
    return image.dataset_type, image.data_type, acquired


def _tree_of(axes: tuple[Axis, ...]) -> dict[str, Any]:
    """What DigitalMicrograph's own format has of an image beside its tags: sizes and calibrations, columns first."""
    stored = axes[::-1]
    calibrations = {
        str(n): {"Scale": axis.scale, "Origin": -axis.offset / axis.scale, "Units": axis.units}
        for n, axis in enumerate(stored)
    }
    sizes = {str(n): axis.size for n, axis in enumerate(stored)}
    return {"ImageData": {"Dimensions": sizes, "Calibrations": {"Dimension": calibrations}}}


def calibrated_axes(tiff: Any, raster: Raster) -> tuple[Axis, ...]:
    """Axes with the calibration of the tags; slices only where there is one other axis than rows and columns."""
    bare = raster.axes()
    axes = list(bare)
    for place, unit_code, origin_code, step_code in zip((-1, -2, -3), UNITS, ORIGINS, STEPS, strict=True):
        unit = clean(_value(tiff, unit_code)).replace("μ", "µ")
        step, origin = (_number(_value(tiff, code)) for code in (step_code, origin_code))
        if len(bare) >= -place and unit and step:
            axis = bare[place]
            axes[place] = Axis(axis.size, step, origin, unit, axis.name if place > -3 else "z", axis.navigation)
    return tuple(axes)


def dataset_type_of(axes: tuple[Axis, ...]) -> tuple[DatasetType, str]:
    """Dataset type and technique as far as the units of rows and columns tell them."""
    if all(is_reciprocal(axis.units) for axis in axes[-2:]):
        return "Diffraction", "TEM_Diffraction"
    return "Image", "Unknown"


def native_tags(tiff: Any) -> dict[str, Any]:
    """Tags of the calibration as they stand in the file."""
    values = {str(code): _value(tiff, code) for code in (*UNITS, *ORIGINS, *STEPS, *INTENSITY)}
    kept: dict[str, Any] = bounded({"TIFF": {code: value for code, value in values.items() if value is not None}})
    return kept


def _value(tiff: Any, code: int) -> Any:
    return getattr(tiff_page(tiff).tags.get(code), "value", None)


def _number(value: Any) -> float:
    with contextlib.suppress(TypeError, ValueError):
        if math.isfinite(float(value)):
            return float(value)
    return 0.0


EXTRACTOR = GatanTiff()
