"""Thermo Fisher EPU ``.xml``: how an image was taken, beside the image or alone.

``<MicroscopeImage>`` of the name space ``http://schemas.datacontract.org/2004/07/Fei.SharedObjects``, in SI units and
radians. ``CustomData`` is a list of keys and values, such as ``Aperture[C2].Name`` (a diameter in µm) and
``Detectors[EF-Falcon].…``. ``SpatialScale`` is the pixel size of the image as the camera gave it: pictures and movies
of the same exposure may have fewer or more pixels. Elements are nil where nothing is known; 0 stands for it as well.
"""

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, read_image
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import moment, number, parse_xml, xml_texts
from nexuslims_pipeline.metadata.units import tidy
from nexuslims_pipeline.signals import DatasetType, Signal, Source

EXTENSION: Final = ".xml"
IMAGE_EXTENSIONS: Final = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".eer"})
PICTURE_MAGIC: Final = (*TIFF_MAGIC, b"\xff\xd8\xff")
MARK: Final = re.compile(rb"<(?:\w+:)?MicroscopeImage[\s>]")
MOST_BYTES: Final = 8 << 20
METRES: Final = "_x003C_Symbol_x003E_k__BackingField"
"""What .NET makes of the name of a unit's symbol."""
MICROMETRES: Final = r"\d+(?:\.\d+)?"
APERTURES: Final = {
    "C1": "C1 Aperture",
    "C2": "condenser_aperture",
    "C3": "C3 Aperture",
    "OBJ": "objective_aperture",
    "SA": "selected_area_aperture",
}
PER_SQUARE_ANGSTROM: Final = 1e-20
"""A dose per square metre in electrons per square ångström."""
PIXELS: Final = "SpatialScale/pixelSize"
ENTRIES: Final = (
    entry("acceleration_voltage", "V", "gun/AccelerationVoltage", never_zero=True),
    entry("extraction_voltage", "V", "gun/ExtractorVoltage", never_zero=True),
    entry("spot_size", "", "optics/SpotIndex", never_zero=True),
    entry("convergence_angle", "rad", "optics/BeamConvergence", never_zero=True),
    entry("camera_length", "m", "optics/Cameralength", never_zero=True),
    entry("defocus", "m", "optics/Defocus"),
    entry("illumination_mode", None, "optics/IlluminationMode"),
    entry("projection_mode", None, "optics/ProjectorMode"),
    entry("exposure_time", "s", "acquisition/camera/ExposureTime", never_zero=True),
    entry("dwell_time", "s", "acquisition/scanSettings/DwellTime", never_zero=True),
    entry("scan_rotation", "rad", "acquisition/scanSettings/ScanRotation", never_zero=True),
    entry("stage_x", "m", "stage/Position/X"),
    entry("stage_y", "m", "stage/Position/Y"),
    entry("stage_z", "m", "stage/Position/Z"),
    entry("stage_alpha", "rad", "stage/Position/A"),
    entry("stage_beta", "rad", "stage/Position/B"),
    entry("microscope", None, "instrument/InstrumentModel"),
    entry("computer", None, "instrument/ComputerName"),
    entry("specimen", None, "sample/Description sample/ID"),
    entry("chamber_pressure", "Pa", "vacuum/SamplePressure", never_zero=True),
    entry("Instrument Number", None, "instrument/InstrumentID"),
    entry("Camera", None, "acquisition/camera/Name"),
    entry("Camera Location", None, "acquisition/camera/CameraLocation"),
    entry("Beam Diameter", "m", "optics/BeamDiameter", never_zero=True),
    entry("Column Mode", None, "optics/ColumnOperatingMode"),
    entry("TEM Mode", None, "optics/ColumnOperatingTemSubMode"),
    entry("Objective Lens Mode", None, "optics/ObjectiveLensMode"),
    entry("Probe Mode", None, "optics/ProbeMode"),
    entry("EFTEM", None, "optics/EFTEMOn"),
    entry("Electron Source", None, "gun/Sourcetype"),
    entry("Gun Lens", "", "gun/GunLens", never_zero=True),
    entry("X", "", "optics/BeamShift/_x", "Beam Shift"),
    entry("Y", "", "optics/BeamShift/_y", "Beam Shift"),
    entry("X", "", "optics/BeamTilt/_x", "Beam Tilt"),
    entry("Y", "", "optics/BeamTilt/_y", "Beam Tilt"),
    entry("Holder", None, "stage/Holder"),
)
"""Places below ``microscopeData``."""
STEM_ENTRIES: Final = (
    entry("magnification", "", "optics/StemMagnification/NominalMagnification optics/StemMagnification"),
    entry("detector_type", None, "acquisition/scanningDetector/Name"),
)
TEM_ENTRIES: Final = (entry("magnification", "", "optics/TemMagnification/NominalMagnification", never_zero=True),)
CUSTOM_ENTRIES: Final = (
    entry("acquisition_device", None, "DetectorCommercialName Detectors[].CommercialName"),
    entry("beam_current", "A", "BeamCurrent", never_zero=True),
    entry("Applied Defocus", "m", "AppliedDefocus"),
    entry("Dose per Camera Pixel", "", "DoseOnCamera Detectors[].TotalDose", never_zero=True),
    entry("Dose Rate per Camera Pixel", "1/s", "Detectors[].DoseRate", never_zero=True),
    entry("Camera Frame Rate", "Hz", "Detectors[].FrameRate", never_zero=True),
    entry("Electron Counting", None, "Detectors[].ElectronCounted"),
    entry("Camera Serial Number", None, "Detectors[].CameraSerialNumber"),
    entry("Phase Plate", None, "PhasePlateUsed"),
)


class ThermoEpu(Extractor):
    """EPU's description of an image alone, and pictures and movies that have one beside them."""

    name: ClassVar[str] = "thermo_epu"
    format_name: ClassVar[str] = "Thermo Fisher EPU"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({EXTENSION}) | IMAGE_EXTENSIONS
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is EPU's XML, or a picture that has such a one beside it."""
        if head.startswith(PICTURE_MAGIC):
            return epu_of(source) is not None
        return bool(MARK.search(head.replace(b"\0", b"")))

    def extract(self, source: Source) -> list[Signal]:
        """Read the description, and the image if it is one.

        Raises
        ------
        ExtractionError
            If the XML is damaged or hostile.
        """
        path = epu_of(source) or source.path
        facts = Facts()
        texts = read_epu(path)
        acquired = add_epu(texts, facts)
        kind, technique = kind_of(texts)
        if path == source.path:
            signal = Signal("Misc", technique, acquired=acquired, native=bounded(texts))
            signal.text = _shown(texts)
            return [facts.give_to(signal)]
        signal = Signal(kind, technique, acquired=acquired, native=bounded({"xml": texts}))
        try:
            image = read_image(source.path)
        except ExtractionError as fault:
            facts.warnings["Pixels"] = f"They are not drawn: {fault}."
            return [facts.give_to(signal)]
        scale_to(facts, texts, image.raster.shape[-1])
        return [image.give_to(signal, facts)]


def _shown(texts: Mapping[str, str]) -> str:
    """Text for people: what is known of the microscope."""
    parts = ("microscopeData/", "CustomData/")
    lines = (
        f"{place.removeprefix(part)}: {texts[place]}" for part in parts for place in texts if place.startswith(part)
    )
    return "\n".join(lines)


def epu_of(source: Source) -> Path | None:
    """The companion with EPU's description."""
    for path in source.companions:
        if path.suffix.lower() == EXTENSION:
            with path.open("rb") as file:
                if MARK.search(file.read(4096).replace(b"\0", b"")):
                    return path
    return None


def read_epu(path: Path) -> dict[str, str]:
    """Texts of the XML by their paths, with the list of custom values as ``CustomData/<key>``.

    Raises
    ------
    ExtractionError
        If the XML is damaged or hostile.
    """
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        msg = "its XML is larger than any that EPU writes"
        raise ExtractionError(msg)
    root = parse_xml(raw)
    custom: dict[str, str] = {}
    for listed in root.iterchildren("{*}CustomData"):
        for pair in listed:
            key, value = pair.findtext("{*}Key"), pair.findtext("{*}Value")
            if key and value and value.strip():
                custom[f"CustomData/{key.strip()}"] = value.strip()
    return {place: text for place, text in xml_texts(root).items() if not place.startswith("CustomData/")} | custom


def kind_of(texts: Mapping[str, str]) -> tuple[DatasetType, str]:
    """Dataset type and technique of the image."""
    if texts.get("microscopeData/optics/ColumnOperatingMode", "").upper() == "STEM":
        return "Image", "STEM_Imaging"
    if texts.get("microscopeData/optics/ProjectorMode") == "Diffraction":
        return "Diffraction", "TEM_Diffraction"
    return "Image", "TEM_Imaging"


def add_epu(texts: Mapping[str, str], facts: Facts) -> datetime | None:
    """Add what the XML says to `facts`; the time of acquisition, which has its offset from UTC."""

    def find(place: str) -> str:
        return texts.get(f"microscopeData/{place}", "")

    is_stem = kind_of(texts)[1] == "STEM_Imaging"
    facts.add_entries(STEM_ENTRIES if is_stem else TEM_ENTRIES, find)
    facts.add_entries(ENTRIES, find)
    if find("optics/EnergyFilter/EnergySelectionSlitInserted") == "true":
        facts.add_entries((entry("slit_width", "eV", "optics/EnergyFilter/EnergySelectionSlitWidth"),), find)
        facts.add_entries((entry("energy_loss", "eV", "optics/EnergyFilter/EnergyShift", never_zero=True),), find)
    binning = [find(f"acquisition/camera/Binning/{side}") for side in "xy"]
    facts.add("binning", " × ".join(binning) if all(binning) else None)
    facts.add("software", f"{find('core/ApplicationSoftware')} {find('core/ApplicationSoftwareVersion')}".strip())
    _add_custom(texts, facts)
    for side, name in (("x", "pixel_width"), ("y", "pixel_height")):
        if size := _pixel_size(texts, side):
            facts.add(name, size, "m")
    text = find("acquisition/acquisitionDateTime")
    try:
        return moment(text) if text else None
    except ValueError as fault:
        facts.warnings["Creation Time"] = f"The XML says {fault}."
        return None


def _add_custom(texts: Mapping[str, str], facts: Facts) -> None:
    detector = texts.get("CustomData/BinaryResult.Detector") or texts.get("microscopeData/acquisition/camera/Name", "")

    def find(place: str) -> str:
        return texts.get("CustomData/" + place.replace("[]", f"[{detector}]"), "")

    facts.add_entries(CUSTOM_ENTRIES, find)
    for key, name in APERTURES.items():
        size = find(f"Aperture[{key}].Name")
        if re.fullmatch(MICROMETRES, size):
            facts.add(name, float(size), "µm")
    with contextlib.suppress(ValueError):
        facts.add_measured("Electron Dose", tidy(float(find("Dose")) * PER_SQUARE_ANGSTROM), "1/Å**2")


def _pixel_size(texts: Mapping[str, str], side: str) -> float:
    """Metres of a pixel of the camera's image; 0 when not known, or of a pattern."""
    if texts.get(f"{PIXELS}/{side}/unit/{METRES}") != "m" or kind_of(texts)[0] != "Image":
        return 0.0
    try:
        return max(0.0, number(texts.get(f"{PIXELS}/{side}/numericValue", "")))
    except ValueError:
        return 0.0


def scale_to(facts: Facts, texts: Mapping[str, str], columns: int) -> None:
    """Correct the pixel size for an image that has fewer or more columns than the camera gave."""
    camera = "microscopeData/acquisition/camera/"
    try:
        whole = number(texts.get(f"{camera}ReadoutArea/width", ""))
        binning = number(texts.get(f"{camera}Binning/x", "1"))
    except ValueError:
        return
    if min(whole, binning, columns) <= 0 or columns in (whole, whole / binning):
        return
    for name in ("pixel_width", "pixel_height"):
        if name in facts.fields:
            facts.add(name, tidy(facts.fields[name].m_as("m") * whole / binning / columns), "m")


EXTRACTOR = ThermoEpu()
