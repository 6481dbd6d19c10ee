"""Berkeley (NCEM) EMD, versions 0.1 and 0.2: ``.emd`` and ``.h5`` of ncempy, HyperSpy and home-made software.

=====================  =====================================================================================
place                  content
=====================  =====================================================================================
``/@version_major``    0, as a number or as text
any group              with ``@emd_group_type`` = 1: array ``data`` and its axes ``dim1`` …, see `emd`
``/microscope``        attributes as their writer named them, in SI units (``high tension``, ``camera length``)
``/sample /user``      attributes ``name`` …
``/comments``          attributes: a text, or texts by their date
=====================  =====================================================================================

https://emdatasets.com/format/
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded
from nexuslims_pipeline.extraction.layouts.emd import (
    add_microscope,
    arrangement,
    attribute,
    dimensions,
    kind_of,
    reordered,
    with_navigation,
)
from nexuslims_pipeline.extraction.layouts.hdf5 import (
    MAX_DEPTH,
    Numbers,
    is_hdf5,
    mentions,
    open_hdf5,
    resolved,
    tree_of,
)
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import unix_time
from nexuslims_pipeline.signals import Pixels, Signal, Source

OTHERS: Final = ("4DSTEM_simulation", "4DSTEM_experiment", "4DSTEM")
"""Groups of the root by which relatives of the format are known, which have their own readers."""
INSTRUMENT: Final = frozenset({"acceleration_voltage", "microscope", "magnification", "camera_length", "dwell_time"})
"""Fields that tell of an electron microscope."""
MOST_GROUPS: Final = 2000
MOST_SIGNALS: Final = 100


class NcemEmd(Extractor):
    """Arrays with metadata in the first version of the EMD format."""

    name: ClassVar[str] = "ncem_emd"
    format_name: ClassVar[str] = "Berkeley EMD"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".emd", ".h5", ".hdf5"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is HDF5 of version 0 of the format, or with a group that calls itself one of its arrays."""
        if not is_hdf5(head):
            return False
        try:
            with open_hdf5(source.path) as file:
                if any(name in file for name in OTHERS):
                    return False
                return str(attribute(file, "version_major")) in ("0", "") and any(True for _ in _arrays(file))
        except ExtractionError:
            is_other = any(mentions(source, head, name.encode()) for name in (*OTHERS, "Velox", "authoring_program"))
            return mentions(source, head, b"emd_group_type", b"dim1") and not is_other

    def extract(self, source: Source) -> list[Signal]:
        """Every array of the file.

        Raises
        ------
        ExtractionError
            If the file is damaged or holds none.
        """
        with open_hdf5(source.path) as file:
            groups = [group for _, group in zip(range(MOST_SIGNALS), _arrays(file), strict=False)]
            tree = tree_of(file).values
            signals = [_signal(source, group, tree) for group in groups]
        if not signals:
            msg = "it holds no array: it is cut off, or nothing was saved"
            raise ExtractionError(msg)
        return signals


def _arrays(file: Any) -> Iterator[Any]:
    """Groups with an array and its axes; each once, also where hard links make a ring."""
    import h5py

    waiting = [(file, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_GROUPS:
        group, depth = waiting.pop(0)
        for name in group:
            found = resolved(group, name) if depth < MAX_DEPTH else None
            if not isinstance(found, h5py.Group):
                continue
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if str(attribute(found, "emd_group_type")) == "1" and "data" in found:
                yield found
            else:
                waiting.append((found, depth + 1))


def _signal(source: Source, group: Any, tree: Mapping[str, Any]) -> Signal:
    facts = Facts()
    _add_metadata(facts, tree)
    data = resolved(group, "data")
    name = group.name.rpartition("/")[2]
    native = bounded(dict(tree))
    if getattr(data, "shape", None) is None:
        facts.warnings["Pixels"] = "The file holds no numbers here."
        return facts.give_to(Signal("Misc", "Unknown", name=name, native=native))
    stored = dimensions(group, data)
    order = arrangement(stored)
    axes = with_navigation(stored[index] for index in order)
    is_number = data.dtype.kind in "biufc"
    kind = kind_of(axes, is_number=is_number)
    facts.add_axes(axes)
    signal = Signal(
        kind[0],
        _technique(kind, facts),
        shape=tuple(axis.size for axis in axes),
        name=name,
        acquired=_acquired(group, facts),
        native=native,
    )
    try:
        if is_number:
            signal.pixels = Pixels(reordered(Numbers(source.path, data), order), axes)
        else:
            facts.warnings["Pixels"] = "They are texts or objects rather than numbers and are not drawn."
    except ExtractionError as fault:
        facts.warnings["Pixels"] = str(fault)
    return facts.give_to(signal)


def _technique(kind: tuple[str, str], facts: Facts) -> str:
    """A microscope that dwells on its pixels scans them; an image of no known microscope may be of any."""
    if kind[0] == "Image" and INSTRUMENT & facts.fields.keys():
        return "STEM_Imaging" if "dwell_time" in facts.fields else "TEM_Imaging"
    return kind[1]


def _add_metadata(facts: Facts, tree: Mapping[str, Any]) -> None:
    groups = {name: tree.get(name) for name in ("microscope", "sample", "user", "stage", "comments")}
    known = {name: group if isinstance(group, dict) else {} for name, group in groups.items()}
    add_microscope(facts, known["microscope"])
    user, sample = known["user"], known["sample"]
    facts.add("operator", next((user[key] for key in ("@name", "@User name", "@user name") if user.get(key)), None))
    told = next((sample[key] for key in ("@name", "@sample name", "@material") if sample.get(key)), None)
    facts.add("specimen", told)
    facts.add("Preparation", sample.get("@preparation"), group="Sample")
    facts.add("Type", known["stage"].get("@type"), group="Stage")
    position = known["stage"].get("@position")
    if isinstance(position, list):
        facts.add("Position as Written", ", ".join(map(str, position)), group="Stage")
    comments = {key.lstrip("@"): text for key, text in known["comments"].items() if isinstance(text, str)}
    facts.add("Comments", " | ".join(f"{key}: {text}" if key != "comment" else text for key, text in comments.items()))


def _acquired(group: Any, facts: Facts) -> datetime | None:
    """First of the ``acquisition times``, seconds since 1970."""
    found = resolved(group, "acquisition times")
    if getattr(found, "shape", None) is None or found.dtype.kind != "f" or found.ndim > 1 or found.size == 0:
        return None
    try:
        return unix_time(float(found[()] if found.ndim == 0 else found[0]))
    except (ValueError, OSError) as fault:
        facts.warnings["Creation Time"] = str(fault)
        return None


EXTRACTOR = NcemEmd()
