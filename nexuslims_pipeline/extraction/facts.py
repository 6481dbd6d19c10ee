"""Gathering what a vendor file says: named values with units, doubts as warnings, native trees in bounds."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from nexuslims_pipeline.extraction.vendor_text import measured, readings
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.units import UnknownUnitError, python_number, quantity
from nexuslims_pipeline.signals import Axis, DatasetType, Signal

UNFILLED = frozenset({"", "[]", "DO NOT EDIT", "DO NOT ENTER"})
"""Texts that vendors' forms hold where nobody entered anything."""
NATIVE_VALUES = 50_000
"""Values kept of one native tree: about 2 MB of JSON."""
ARRAY_VALUES = 64
"""Longest array that is kept number by number in a native tree."""
PLAIN_NUMBERS = frozenset({bool, int, float, type(None)})
TEXT_CHARACTERS = 8_000
"""Longest text that is kept in a native tree."""
METRES = {
    "m": 1.0,
    "cm": 1e-2,
    "mm": 1e-3,
    "µm": 1e-6,
    "um": 1e-6,
    "nm": 1e-9,
    "Å": 1e-10,
    "A": 1e-10,
    "pm": 1e-12,
}
"""Spellings of length on calibrated axes, in metres."""
ELECTRONVOLTS = {"eV": 1.0, "keV": 1e3}
"""Spellings of energy on calibrated axes, in electronvolts."""
RECIPROCAL = frozenset({"mrad", "rad", "µrad", "deg", "degrees", "°"})
"""Angular units of diffraction patterns; those like ``1/nm`` are told by their first character."""
_INVERSE = re.compile(r"(\^-1|⁻¹|\*\*-1)$")
SCAN_POSITIONS = 3
QUARTER_HOUR = 900.0
SAME_DAY = timedelta(days=1)
"""A day covers both the offset of a clock whose zone is not known and the minutes between two clocks."""
CLOCK_SLACK = 60.0
"""Seconds by which two records of one moment may differ: instruments write them one after the other."""


SWITCHES = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a vendor's header: its name here, and the places where to look for it."""

    name: str
    unit: str | None
    """As pint spells it, for a number written without one; empty for a plain number, None for text."""
    places: tuple[str, ...]
    """The best first."""
    group: str | None = None
    never_zero: bool = False
    """Whether 0 means that nothing was measured."""


def entry(name: str, unit: str | None, places: str, group: str | None = None, *, never_zero: bool = False) -> Entry:
    """An `Entry` whose places are the words of one text."""
    return Entry(name, unit, tuple(places.split()), group, never_zero)


class Facts:
    """Fields, extensions and warnings of one signal while they are gathered.

    A name in `metadata.fields.FIELDS` becomes a field, any other an extension.
    """

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.extensions: dict[str, Any] = {}
        self.warnings: dict[str, str] = {}

    def add(self, name: str, value: Any, unit: str | None = None, group: str | None = None) -> None:
        """Keep `value` under `name` unless it is empty; a later value replaces an earlier one.

        Parameters
        ----------
        name
            Field name or the extension's display name.
        value
            Text, number or list as the file has it.
        unit
            The vendor's unit as pint spells it; None for text and plain numbers.
        group
            Extension that holds this one.
        """
        value = python_number(value)
        if isinstance(value, str):
            value = value.strip()
        if value is None or (isinstance(value, str | list | tuple | dict) and not value) or str(value) in UNFILLED:
            return
        if unit is not None:
            try:
                value = quantity(value, unit)
            except UnknownUnitError:
                value = {"value": value, "unit": unit}  # the check tells of the unit
            except (TypeError, ValueError, OverflowError):
                self.warnings[name] = f"the file says {str(value)[:80]!r}, which is no finite number"
                return
        elif isinstance(value, float) and not math.isfinite(value):
            self.warnings[name] = f"the file says {value}, which is no finite number"
            return
        self._place(name, value, group)

    def _place(self, name: str, value: Any, group: str | None) -> None:
        if group is not None:
            held = self.extensions.get(group)
            self.extensions[group] = {**(held if isinstance(held, dict) else {}), name: value}
        elif name in FIELDS:
            self.fields[name] = value
        else:
            self.extensions[name] = value

    def add_measured(self, name: str, value: Any, unit: str, group: str | None = None) -> None:
        """Keep a quantity that cannot be zero: vendors write 0 where nothing was measured."""
        if not _is_zero(value):
            self.add(name, value, unit, group)

    def add_written(self, name: str, text: str, unit: str | None = None, group: str | None = None) -> None:
        """Keep a value as the vendor wrote it: a text or switch, or a number with or without its unit.

        Parameters
        ----------
        name, group
            As of `add`.
        text
            As it stands in the file; one that is no sensible number becomes a warning.
        unit
            As of `Entry`; a unit in the text goes before it.
        """
        if unit is None:
            self.add(name, text if name in FIELDS else SWITCHES.get(text.strip().lower(), text), group=group)
            return
        if not text.strip():
            return
        try:
            value, written = measured(text)
        except ValueError as fault:
            self.warnings[f"{group}: {name}" if group else name] = str(fault)
            return
        unit = unit if written is None else written
        plain = int(value) if value.is_integer() else value
        self.add(name, value if unit else plain, unit or None, group)

    def add_entries(self, entries: Iterable[Entry], find: Callable[[str], str]) -> None:
        """Look every entry up with `find`, which gives the text at a place, unless its name is known already."""
        for each in entries:
            known = self.extensions.get(each.group, {}) if each.group else {**self.fields, **self.extensions}
            if each.name in known:
                continue
            texts = (text for text in map(find, each.places) if text and not (each.never_zero and _is_nothing(text)))
            self.add_written(each.name, next(texts, ""), each.unit, each.group)

    def clock_time(self, date: str, time: str, written: datetime, *beside: datetime | None) -> datetime | None:
        """Time of acquisition as people of many countries write it; None with a warning when it is no date.

        Parameters
        ----------
        date, time
            As of `vendor_text.readings`.
        written
            When the file was modified: no reading comes after it.
        beside
            Other moments in the file. Where ``05/06`` may mean two days, one of these and `written` decides if it is
            the same day; copying changes `written`, so that another day says nothing.
        """
        if not date:
            return None
        try:
            found = [reading.replace(tzinfo=None) for reading in readings(date, time)]
        except ValueError as fault:
            self.warnings["Creation Time"] = f"The file says {fault}."
            return None
        moments = [moment.replace(tzinfo=None) for moment in (written, *beside) if moment]
        near = [one for one in found if any(abs(one - moment) <= SAME_DAY for moment in moments)]
        likely = near or [one for one in found if one <= moments[0] + SAME_DAY] or found
        if len(likely) > 1:
            self.warnings["Creation Time"] = f"{date[:40]!r} may mean two days; it was read as {likely[0]:%d %B %Y}."
        return likely[0]

    def add_axes(self, axes: Iterable[Axis]) -> None:
        """Pixel size, field width and energy calibration from calibrated axes."""
        axes = tuple(axes)
        spatial = spatial_axes(axes)
        for axis in spatial if len(spatial) == 2 else ():
            step = abs(axis.scale) * METRES[axis.units]
            side, extent = ("width", "horizontal") if axis is spatial[1] else ("height", "vertical")
            self.add_measured(f"pixel_{side}", step * 1e9, "nm")
            if f"{extent}_field_width" not in self.fields:
                self.add_measured(f"{extent}_field_width", step * axis.size * 1e6, "µm")
        for axis, side in zip(_pattern_axes(axes), ("height", "width"), strict=False):
            if axis.units in RECIPROCAL:
                self.add_measured(f"angular_pixel_{side}", abs(axis.scale), axis.units.replace("°", "deg"))
            else:
                self.add_measured(f"reciprocal_pixel_{side}", abs(axis.scale), f"1/{_length_of(axis.units)}")
        for axis in axes:
            if axis.units in ELECTRONVOLTS and not axis.navigation:
                self.add_measured("channel_size", axis.scale * ELECTRONVOLTS[axis.units], "eV")
                self.add("starting_energy", axis.offset * ELECTRONVOLTS[axis.units] / 1e3, "keV")

    def give_to(self, signal: Signal) -> Signal:
        """`signal` with everything gathered here."""
        signal.fields.update(self.fields)
        signal.extensions.update(self.extensions)
        signal.warnings.update(self.warnings)
        return signal


def metres(text: str, unit: str) -> float:
    """Length as a vendor wrote it, in `unit` where it has none; 0 where it is no length."""
    try:
        value, written = measured(text)
    except ValueError:
        return 0.0
    return value * METRES.get(unit if written is None else written, 0.0)


def _is_nothing(text: str) -> bool:
    try:
        return measured(text)[0] == 0
    except ValueError:
        return False


def _is_zero(value: Any) -> bool:
    try:
        return float(value) == 0
    except (TypeError, ValueError):
        return False


def is_reciprocal(units: str) -> bool:
    """Whether an axis in `units` is one of reciprocal space or of scattering angle."""
    compact = units.replace(" ", "")
    return compact.startswith("1/") or compact.endswith(("^-1", "⁻¹", "**-1")) or compact in RECIPROCAL


def spatial_axes(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Axes calibrated as lengths on the specimen: those of the image, or else those of the scan.

    The one axis of a spectrum is never among them: it may be a wavelength, which is a length as well.

    Returns
    -------
    tuple of Axis
        At most two, rows before columns; one for a line scan.
    """
    axes = tuple(axes)
    lengths = [axis for axis in axes if axis.units in METRES and axis.name != "Wavelength"]
    is_image = sum(not axis.navigation for axis in axes) > 1
    image = [axis for axis in lengths if is_image and not axis.navigation]
    scan = [axis for axis in lengths if axis.navigation]
    return tuple((image or scan)[-2:])


def _pattern_axes(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Rows and columns of a diffraction pattern that is calibrated in reciprocal lengths or angles; else nothing."""
    signal_axes = [axis for axis in axes if not axis.navigation]
    known = [axis for axis in signal_axes if axis.units in RECIPROCAL or _length_of(axis.units)]
    return tuple(known) if len(known) == len(signal_axes) == 2 else ()


def _length_of(units: str) -> str:
    """``nm`` of ``1/nm``, ``nm^-1`` or ``nm⁻¹``; empty when it is none of these."""
    compact = units.replace(" ", "")
    length = compact.removeprefix("1/") if compact.startswith("1/") else _INVERSE.sub("", compact)
    return length if is_reciprocal(units) and length in METRES else ""


def spectral_type(axes: Iterable[Axis]) -> DatasetType:
    """``SpectrumImage`` for a line or a map of spectra; one or two positions make neither."""
    positions = math.prod(axis.size for axis in axes if axis.navigation)
    return "SpectrumImage" if positions >= SCAN_POSITIONS else "Spectrum"


def on_its_clock(wall: datetime, instant: datetime) -> datetime | None:
    """`wall` with the offset from UTC that makes it the same moment as `instant`.

    Parameters
    ----------
    wall
        What the instrument's clock showed; naive.
    instant
        The same moment to within `CLOCK_SLACK`, aware.

    Returns
    -------
    datetime or None
        None when no offset of a whole quarter of an hour within ±14 h fits, so that the two are not one
        moment.
    """
    seconds = (wall - instant.astimezone(UTC).replace(tzinfo=None)).total_seconds()
    offset = round(seconds / QUARTER_HOUR) * QUARTER_HOUR
    if abs(seconds - offset) > CLOCK_SLACK or abs(offset) > 14 * 3600:
        return None
    return wall.replace(tzinfo=timezone(timedelta(seconds=offset)))


def bounded(tree: Any, limit: int = NATIVE_VALUES) -> Any:
    """Copy a native tree as plain dicts, lists, text and numbers, cut where it would grow too large.

    Long arrays and raw bytes become a few words on their size; everything beyond `limit` values is left
    out, which the key ``…`` shows.
    """
    left = [limit]

    def copy(value: Any, depth: int) -> Any:
        left[0] -= 1
        if type(value) in PLAIN_NUMBERS:
            return value
        if isinstance(value, dict | Mapping):
            return copy_mapping(value, depth)
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            value = _listed(value)
        if isinstance(value, list | tuple | set | frozenset):
            if len(value) > ARRAY_VALUES and all(isinstance(item, bool | int | float) for item in value):
                return f"array of {len(value)} values"
            return [copy(item, depth + 1) for item in value if left[0] > 0] if depth < 60 else "…"
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace") if len(value) <= TEXT_CHARACTERS else f"{len(value)} bytes"
        if value is None or isinstance(value, bool | int | float):
            return value
        text = str(value)
        left[0] -= len(text) // 40
        return text if len(text) <= TEXT_CHARACTERS else text[:TEXT_CHARACTERS] + "…"

    def copy_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in value.items():
            if left[0] <= 0 or depth >= 60:
                result["…"] = "left out: too much of it"
                break
            result[str(key)] = copy(item, depth + 1)
        return result

    return copy(tree, 0)


def _listed(array: Any) -> Any:
    """A short array as nested lists, a long one as a few words."""
    if array.shape and math.prod(array.shape) > ARRAY_VALUES:
        return f"array of {' × '.join(map(str, array.shape))} values, {array.dtype}"
    return array.tolist() if hasattr(array, "tolist") else "left in the file"
