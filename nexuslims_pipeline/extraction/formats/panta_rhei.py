"""CEOS Panta Rhei ``.prz``: a ZIP of NumPy arrays.

``data.npy`` holds the numbers and ``meta_data_json.npy`` the metadata as JSON. Versions before 24.03 have the
metadata as a pickle (``meta_data.npy``), which is never loaded. Keys are ``electron_gun.voltage`` (V),
``condenser.convergence_semi_angle`` (rad), ``filter.collection_semi_angle`` (rad) and so on.
Source: https://hyperspy.org/rosettasciio (``rsciio.pantarhei``), which reads it here.
"""

import logging
import math
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts
from nexuslims_pipeline.extraction.formats.numpy_array import open_archive, read_header
from nexuslims_pipeline.extraction.layouts.raster import DECODED_LIMIT
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.rosettasciio import RosettaSciIOExtractor
from nexuslims_pipeline.signals import Signal, Source

DATA: Final = "data.npy"
JSON_METADATA: Final = "meta_data_json.npy"
PICKLED_METADATA: Final = "meta_data.npy"
METADATA_LIMIT: Final = 64 << 20
VALUES: Final = {
    "camera.exposure": ("exposure_time", "s"),
    "camera.model": ("acquisition_device", None),
    "camera.name": ("acquisition_device", None),
    "filter.dispersion": ("Dispersion", "eV"),
    "filter.slit_width": ("slit_width", "eV"),
    "filter.mode": ("Filter Mode", None),
    "filter.aperture": ("Filter Aperture", None),
    "scan_driver.dwell_time": ("dwell_time", "s"),
    "scan_driver.rotation": ("scan_rotation", "rad"),
    "source.name": ("detector_type", None),
    "stage.x": ("stage_x", "m"),
    "stage.y": ("stage_y", "m"),
    "stage.z": ("stage_z", "m"),
    "microscope.name": ("microscope", None),
}
"""Keys that the library leaves out, in SI units as all of Panta Rhei's: name and unit."""


class PantaRhei(RosettaSciIOExtractor):
    """Images, spectra and maps of CEOS' Panta Rhei."""

    name: ClassVar[str] = "panta_rhei"
    format_name: ClassVar[str] = "CEOS Panta Rhei"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".prz"})
    reader: ClassVar[str] = "pantarhei"

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a ZIP with the array of data."""
        if not head.startswith(b"PK\x03\x04"):
            return False
        try:
            with zipfile.ZipFile(source.path) as archive:
                return DATA in archive.namelist()
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
            return DATA.encode() in head

    def check(self, source: Source) -> int:
        """Refuse arrays of objects and those that are larger unpacked than is read."""
        with open_archive(source.path) as archive:
            with archive.open(DATA) as file:
                shape, dtype, _ = read_header(file)
            names = archive.namelist()
            sizes = [archive.getinfo(name).file_size for name in names if name in (JSON_METADATA, PICKLED_METADATA)]
            declared = archive.getinfo(DATA).file_size
        numbers = int(math.prod(shape) * dtype.itemsize)
        if max(sizes, default=0) > METADATA_LIMIT or max(declared, numbers) > DECODED_LIMIT:
            msg = "it would unpack to more than is read"
            raise ExtractionError(msg)
        logging.getLogger("rsciio.pantarhei").setLevel(logging.ERROR)  # that a pickle is not loaded is our warning
        return numbers

    def refine(self, signal: Signal, dictionary: Mapping[str, Any], source: Source) -> Signal:
        """Add what the library leaves out, and say what could not be had."""
        original = dictionary.get("original_metadata") or {}
        facts = Facts()
        for key, (name, unit) in VALUES.items():
            if isinstance(original.get(key), str | int | float) and name not in signal.fields:
                facts.add(name, original[key], unit)
        if not original:
            facts.warnings["Vendor Metadata"] = (
                "Panta Rhei before version 24.03 pickled them, which may run any programme: they were not read."
            )
        if signal.name == source.path.stem:
            signal.name = ""
        return facts.give_to(signal)


EXTRACTOR = PantaRhei()
