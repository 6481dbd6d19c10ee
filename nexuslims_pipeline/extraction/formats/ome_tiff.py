"""OME-TIFF: pictures with OME-XML in the description of the first page.

The XML has one ``Image`` per dataset; ``Pixels`` gives its sizes (X, Y, channels C, slices Z, times T), their order
from the fastest to the slowest (``DimensionOrder``), the size of a pixel and, in ``TiffData``, which planes lie in
which pages. Lengths are in micrometres and times in seconds unless a ``…Unit`` says otherwise.
Source: https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html. Schemas since 2003 are read;
pages in other files are left out, and the ``BinaryOnly`` of a companion file is not followed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import METRES, Facts, bounded
from nexuslims_pipeline.extraction.layouts.raster import PAGES_LIMIT, Raster, Stack, tag_bytes, tag_text, tiff_raster
from nexuslims_pipeline.extraction.layouts.tiff import (
    DATE_TIME,
    DESCRIPTION,
    LENGTH_UNITS,
    SOFTWARE,
    TiffExtractor,
    clean,
    date_of,
    picture,
)
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import number, parse_xml
from nexuslims_pipeline.signals import Axis, Signal, Source

XML_LIMIT: Final = 64 << 20
MOST_IMAGES: Final = 100
MOST_CHANNELS: Final = 40
NAMES: Final = {"T": "Time", "Z": "z", "C": "Channel"}
PIXELS_ATTRIBUTES: Final = re.compile(
    r"^(Size[XYZCT]|PhysicalSize[XYZ](Unit)?|TimeIncrement(Unit)?|DimensionOrder|Type)$"
)
TIMES: Final = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
ANGLES_OF_VIEW: Final = ("Upright", "Inverted", "Dissection")
"""Stands of light microscopes."""


class OmeTiff(TiffExtractor):
    """Pictures and stacks with OME metadata."""

    name: ClassVar[str] = "ome_tiff"
    format_name: ClassVar[str] = "OME-TIFF"
    version: ClassVar[str] = "1"

    def recognises(self, tags: Mapping[int, bytes]) -> bool:
        """Whether the description is OME-XML."""
        return re.match(rb"\s*(\xef\xbb\xbf)?<[?!O]", tags.get(DESCRIPTION, b"")) is not None and (
            b"<OME" in tags[DESCRIPTION] or b":OME " in tags[DESCRIPTION]
        )

    def describe(self, tiff: Any, source: Source, facts: Facts) -> list[Signal]:
        """Every ``Image`` of which the file has pages."""
        raw = tag_bytes(tiff, DESCRIPTION, XML_LIMIT)
        written = date_of(tag_text(tiff, DATE_TIME), facts)
        try:
            root = parse_xml(raw[: raw.rfind(b">") + 1].lstrip())
        except ExtractionError as fault:
            return [_bare(tiff, source, facts, written, f"The description was not read: {fault}")]
        if root.find("{*}BinaryOnly") is not None:
            reason = "They are in another file, of which this one has only the pixels."
            return [_bare(tiff, source, facts, written, reason)]
        facts.add("software", clean(root.get("Creator")) or tag_text(tiff, SOFTWARE))
        images = [image for image in root.iterfind("{*}Image") if image.find("{*}Pixels") is not None][:MOST_IMAGES]
        signals = []
        next_page = 0
        for image in images:
            plan = _Plan(image.find("{*}Pixels"), next_page, len(tiff.pages))
            next_page += len(plan.pages)
            if plan.pages:
                signals.append(_signal(tiff, source, root, image, plan, facts, written))
        return signals or [_bare(tiff, source, facts, written, "The description names no image of this file.")]


def _bare(tiff: Any, source: Source, facts: Facts, written: datetime | None, reason: str) -> Signal:
    """The pages without what should describe them."""
    facts.warnings["Vendor Metadata"] = reason
    signal = picture(tiff_raster(tiff, source.path), facts)
    signal.acquired = written
    return signal


class _Plan:
    """Which pages hold the planes of an image, in the order of NumPy's axes."""

    def __init__(self, pixels: Any, first_free: int, page_count: int) -> None:
        sizes = {axis: _count(pixels.get(f"Size{axis}")) for axis in "XYZCT"}
        channels = [_count(channel.get("SamplesPerPixel")) for channel in pixels.iterfind("{*}Channel")]
        if channels and sizes["C"] == sum(channels):
            sizes["C"] = len(channels)
        elif sizes["C"] in (3, 4) and channels == [sizes["C"]]:
            sizes["C"] = 1
        order = str(pixels.get("DimensionOrder") or "XYZCT")
        order = order if sorted(order) == sorted("XYZCT") and order.startswith("XY") else "XYZCT"
        self.order = order[:1:-1]
        """Axes from the slowest to the fastest, such as ``TZC``."""
        self.sizes = sizes
        self.planes = math.prod(sizes[axis] for axis in self.order)
        found = self._placed(pixels, first_free, page_count) if self.planes <= PAGES_LIMIT else {}
        self.pages = [found[plane] for plane in sorted(found)]

    def _placed(self, pixels: Any, first_free: int, page_count: int) -> dict[int, int]:
        """Page by plane, for those in this file."""
        blocks = list(pixels.iterfind("{*}TiffData"))
        if not blocks:
            return {n: first_free + n for n in range(min(self.planes, page_count - first_free))}
        root = pixels.getroottree().getroot()
        own = root.get("UUID")
        found: dict[int, int] = {}
        for block in blocks:
            uuid = block.find("{*}UUID")
            if uuid is not None and own and (uuid.text or "").strip() != own.strip():
                continue
            page = _whole(block.get("IFD"), 0)
            whole = block.get("IFD") is None and len(blocks) == 1
            count = _whole(block.get("PlaneCount") or block.get("NumPlanes"), self.planes if whole else 1)
            start = self._plane(block)
            for n in range(min(count, self.planes - start, page_count - page)):
                found[start + n] = page + n
        return found

    def _plane(self, block: Any) -> int:
        """Number of the first plane of a ``TiffData``."""
        plane = 0
        for axis in self.order:
            plane = plane * self.sizes[axis] + min(_whole(block.get(f"First{axis}"), 0), self.sizes[axis] - 1)
        return plane


def _count(text: Any) -> int:
    return max(_whole(text, 1), 1)


def _whole(text: Any, default: int) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", str(text or "").strip()) else default


def _signal(
    tiff: Any, source: Source, root: Any, image: Any, plan: _Plan, shared: Facts, written: datetime | None
) -> Signal:
    facts = Facts()
    facts.warnings |= shared.warnings
    facts.fields |= shared.fields
    pixels = image.find("{*}Pixels")
    raster, axes = _arranged(tiff_raster(tiff, source.path, pages=plan.pages), plan, pixels, facts)
    _add_instrument(root, image, pixels, facts)
    _add_planes(pixels, facts)
    signal = picture(raster, facts, data_type=_technique(root, pixels), axes=axes)
    signal.name = clean(image.get("Name"))
    told = image.get("AcquisitionDate") or image.findtext("{*}AcquisitionDate") or image.findtext("{*}CreationDate")
    signal.acquired = date_of(told, facts) or written
    signal.warnings |= facts.warnings
    signal.native = bounded({"OME": {**dict(root.attrib), "Image": _tree(image), "Instrument": _trees(root)}})
    return signal


def _arranged(raster: Raster, plan: _Plan, pixels: Any, facts: Facts) -> tuple[Raster, tuple[Axis, ...]]:
    """The stack with one axis for each of T, Z and C that has more than one position, and all its axes."""
    calibration = _pixel_size(pixels)
    scanned = [axis for axis in plan.order if plan.sizes[axis] > 1]
    shape = (*(plan.sizes[axis] for axis in scanned), *raster.shape[-2:])
    count = math.prod(raster.shape[:-2])
    if count != plan.planes:
        facts.warnings["Planes"] = f"{count} of {plan.planes} planes are in this file."
        return raster, raster.axes(*calibration)
    image = raster.axes(*calibration)[-2:]
    axes = (*(_outer_axis(axis, plan.sizes[axis], pixels) for axis in scanned), *image)
    array = raster.array
    if len(scanned) > 1 and isinstance(array, Stack):
        array = array.reshaped(shape)
    return Raster(shape, raster.dtype, raster.colour, array, raster.problem), axes


def _pixel_size(pixels: Any) -> tuple[float, float, str] | tuple[()]:
    lengths = [_length(pixels, f"PhysicalSize{axis}") for axis in "XY"]
    if 0 in lengths:
        return ()
    return lengths[0], lengths[1], "µm"


def _length(element: Any, name: str) -> float:
    """An attribute in micrometres; 0 when it is absent or no length."""
    unit = LENGTH_UNITS.get(str(element.get(f"{name}Unit") or "µm").strip().lower().replace("μ", "µ"))
    try:
        value = number(element.get(name) or "")
    except ValueError:
        return 0.0
    return float(f"{value * METRES[unit] * 1e6:.12g}") if unit and value > 0 else 0.0


def _seconds(element: Any, name: str) -> float:
    factor = TIMES.get(str(element.get(f"{name}Unit") or "s").strip().replace("μ", "µ"), 0.0)
    try:
        return float(f"{number(element.get(name) or '') * factor:.12g}")
    except ValueError:
        return 0.0


def _outer_axis(axis: str, size: int, pixels: Any) -> Axis:
    step, unit = 0.0, ""
    if axis == "Z":
        step, unit = _length(pixels, "PhysicalSizeZ"), "µm"
    elif axis == "T":
        step, unit = _seconds(pixels, "TimeIncrement"), "s"
    if step > 0:
        return Axis(size, step, units=unit, name=NAMES[axis], navigation=True)
    return Axis(size, name=NAMES[axis], navigation=True)


def _add_instrument(root: Any, image: Any, pixels: Any, facts: Facts) -> None:
    """Microscope, objective, detector and operator that the image refers to, or the only ones there are."""
    instrument = _referred(root, image, "Instrument")
    if instrument is not None:
        for kind, name in (("Microscope", "microscope"), ("Detector", "detector_type")):
            element = _referred(instrument, pixels, kind)
            facts.add(name, _model(element))
        objective = _referred(instrument, image, "Objective", "ObjectiveSettings")
        if objective is not None:
            facts.add("Model", _model(objective), group="Objective")
            for attribute, name in (("NominalMagnification", "Magnification"), ("LensNA", "Numerical Aperture")):
                _add_number(objective, attribute, name, facts, "Objective")
            facts.add("Immersion", clean(objective.get("Immersion")), group="Objective")
    person = _referred(root, image, "Experimenter")
    if person is not None:
        names = [clean(person.get(part)) for part in ("FirstName", "LastName")]
        facts.add("operator", " ".join(filter(None, names)) or clean(person.get("UserName")))
    facts.add("Description", clean(image.findtext("{*}Description")))
    channels = [_channel(channel) for channel in pixels.iterfind("{*}Channel")][:MOST_CHANNELS]
    facts.add("Channels", [channel for channel in channels if channel])


def _referred(owner: Any, user: Any, kind: str, reference: str = "") -> Any:
    """The element of `kind` that `user` refers to, or the only one."""
    candidates = list(owner.iterfind(f"{{*}}{kind}"))
    references = {
        element.get("ID") for element in user.iter(f"{{*}}{reference or kind + 'Ref'}", f"{{*}}{kind}Settings")
    }
    chosen = [element for element in candidates if element.get("ID") in references]
    found = chosen or (candidates if len(candidates) == 1 else [])
    return found[0] if found else None


def _model(element: Any) -> str:
    if element is None:
        return ""
    maker, model = (clean(element.get(name)) for name in ("Manufacturer", "Model"))
    kind = clean(element.get("Type"))
    return " ".join(filter(None, (maker, model))) or (kind if kind not in ("Other", "Unknown") else "")


def _add_number(element: Any, attribute: str, name: str, facts: Facts, group: str) -> None:
    if element.get(attribute) is None:
        return
    try:
        facts.add(name, number(element.get(attribute)), group=group)
    except ValueError as fault:
        facts.warnings[f"{group}: {name}"] = str(fault)


def _channel(channel: Any) -> str:
    """A channel in words: ``DAPI, excitation 405 nm, emission 461 nm``."""
    words = [clean(channel.get("Name")) or clean(channel.get("Fluor"))]
    for attribute, name in (("ExcitationWavelength", "excitation"), ("EmissionWavelength", "emission")):
        if channel.get(attribute):
            words.append(f"{name} {clean(channel.get(attribute))} {clean(channel.get(attribute + 'Unit')) or 'nm'}")
    return ", ".join(filter(None, words))


def _add_planes(pixels: Any, facts: Facts) -> None:
    """Exposure and stage position of the planes where all have the same, their range where not."""
    planes = list(pixels.iterfind("{*}Plane"))
    exposures = [seconds for plane in planes if (seconds := _seconds(plane, "ExposureTime")) > 0]
    if exposures and max(exposures) == min(exposures):
        facts.add("exposure_time", exposures[0], "s")
    elif exposures:
        facts.add("Shortest Exposure Time", min(exposures), "s")
        facts.add("Longest Exposure Time", max(exposures), "s")
    for axis in "XYZ":
        positions = set(_positions(planes, axis))
        if len(positions) == 1:
            facts.add(f"stage_{axis.lower()}", positions.pop(), "µm")


def _positions(planes: Sequence[Any], axis: str) -> Iterator[float]:
    """Stage positions in micrometres; those in the "reference frame" of a microscope are no lengths."""
    for plane in planes:
        unit = LENGTH_UNITS.get(str(plane.get(f"Position{axis}Unit") or "").strip().lower().replace("μ", "µ"))
        if unit:
            try:
                yield float(f"{number(plane.get(f'Position{axis}') or '') * METRES[unit] * 1e6:.12g}")
            except ValueError:
                continue


def _technique(root: Any, pixels: Any) -> str:
    """Light microscopy where a stand, a wavelength or a fluorescent dye says so; the schema knows no electrons."""
    optical = any(
        channel.get(name)
        for channel in pixels.iterfind("{*}Channel")
        for name in ("Fluor", "EmissionWavelength", "ExcitationWavelength", "ContrastMethod")
    )
    stands = [element.get("Type") for element in root.iterfind("{*}Instrument/{*}Microscope")]
    return "Optical_Imaging" if optical or any(stand in ANGLES_OF_VIEW for stand in stands) else "Unknown"


def _trees(root: Any) -> list[Any]:
    return [_tree(element) for element in root.iterfind("{*}Instrument")][:MOST_IMAGES]


def _tree(element: Any, depth: int = 0) -> dict[str, Any]:
    """Attributes and children of an element as plain values; children of one name are a list."""
    tree: dict[str, Any] = dict(element.attrib)
    if element.text and element.text.strip():
        tree["text"] = element.text.strip()[:4000]
    for child in element if depth < 20 else ():
        tree.setdefault(str(child.tag).rpartition("}")[2], []).append(_tree(child, depth + 1))
    return tree


EXTRACTOR = OmeTiff()
