"""A signal and the file it comes from: what extractors give, and what metadata and previews are made of.

Nothing here reads a file or imports a reader.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

DatasetType: TypeAlias = Literal["Image", "Spectrum", "SpectrumImage", "Diffraction", "Misc", "Unknown"]


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read, with the companions that describe it."""

    path: Path
    """The file that holds the pixels; absolute."""
    modified: datetime
    """Modification time, UTC."""
    size: int
    """Bytes."""
    companions: tuple[Path, ...] = ()
    """Files that belong to it (`.emi` of a `.ser`, `.txt` of a SEM TIFF); absolute, known to exist."""
    time_zone: str = "UTC"
    """IANA zone of the instrument's clock, for vendor times without one."""
    clock_offset_seconds: float = 0.0
    """Instrument's clock minus true time: vendor times are that much ahead."""
    instrument_id: str | None = None
    voltage_kv: tuple[float, float] | None = None
    """Least and most acceleration voltage of the instrument, kV."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a signal, calibrated as ``offset + scale * index`` in `units`."""

    size: int
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    name: str = ""
    navigation: bool = False


@dataclass(frozen=True, slots=True)
class Pixels:
    """The numbers behind a signal, read only as far as somebody slices them.

    `array` is anything that has `shape` and `dtype` and slices like NumPy (memory map, dask array, HDF5 dataset,
    array); its axes are in NumPy order, navigation axes first, then signal axes.
    """

    array: Any
    axes: tuple[Axis, ...]
    quantity: str = "Counts"
    """What the numbers are, with their unit, for the axis of a plot."""

    @property
    def signal_dimension(self) -> int:
        """Number of signal axes: 1 for spectra, 2 for images."""
        return sum(not axis.navigation for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mark that the operator left on an image: where the spectrum was taken, what was measured."""

    kind: Literal["line", "arrow", "rectangle", "ellipse", "point", "text"]
    corners: tuple[tuple[float, float], ...]
    """(row, column) in pixels of the image, from its upper left corner: both ends of a line (an arrow points to the
    second), two opposite corners of a box, the place of a point or the upper left corner of a text."""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the maps that a dataset consists of, such as that of an element or of a mass."""

    name: str
    """``Fe K``, ``m/z 27``."""
    array: Any
    """Slices like NumPy; two dimensions, (rows, columns)."""


@dataclass(slots=True)
class Signal:
    """One dataset: one signal of one file.

    Values of `fields` and `extensions` are `pint.Quantity` of `metadata.units.UNITS`, str, bool, int, float, or lists
    and dicts of those. A value whose unit is known is always a quantity.
    """

    dataset_type: DatasetType
    data_type: str
    """Technique, e.g. ``STEM_EELS``, ``SEM_Imaging``, ``TEM_Diffraction``, ``Unknown``."""
    shape: tuple[int, ...] = ()
    """NumPy order: navigation axes, then signal axes."""
    name: str = ""
    """The signal's own title in the file, if it has one."""
    acquired: datetime | None = None
    """Acquisition time in the file; a naive one is on the instrument's clock."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Values with a name in `metadata.fields.FIELDS` (``acceleration_voltage``, ``magnification`` ...)."""
    extensions: dict[str, Any] = field(default_factory=dict)
    """Every other value worth keeping, under a name that a microscopist would use; may nest one level."""
    warnings: dict[str, str] = field(default_factory=dict)
    """Name of a field or extension to doubt, with the reason."""
    native: dict[str, Any] = field(default_factory=dict)
    """The vendor's own metadata tree as it stands in the file, for the sidecar."""
    pixels: Pixels | None = None
    """What a preview is drawn from; None when there is nothing to draw."""
    text: str | None = None
    """Text to show as the preview in place of pixels."""
    annotations: tuple[Annotation, ...] = ()
    """Marks to draw over the preview of an image."""
    layers: tuple[Layer, ...] = ()
    """Maps of one size to show in colours as one picture, the most telling first; `pixels` is drawn without them."""
