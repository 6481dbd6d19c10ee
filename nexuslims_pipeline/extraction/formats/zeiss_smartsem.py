"""TIFF images of Zeiss and LEO microscopes, written by SmartSEM (EVO, Sigma, Supra, Merlin, Auriga, Crossbeam).

=====  ================================================================================================
tag    content
=====  ================================================================================================
34118  CZ_SEM: text in the instrument's code page, lines ended by CR LF
34119  the same text in UTF-16, of newer versions: nothing that a user typed is lost in it
=====  ================================================================================================

The text begins with lines of bare numbers, in SI units and with all their digits: of the image as a whole the lines
3 to 9 (from 0) are pixel size, magnification, a 6, the acceleration voltage, the filament's current, the probe's
current and the working distance. After them come pairs of lines, a code and its value as the screen shows it::

    AP_WD                      a number, with its unit
    WD =  5.1 mm
    DP_DETECTOR_CHANNEL        a choice
    Signal A = InLens
    SV_SAMPLE_ID               a text
    Sample ID = steel 4

Numbers of the first kind are taken where they agree with the rounded ones of the second. The data bar is drawn over
the picture, whose pixels are all the image's.
The number of the tag is in https://github.com/cgohlke/tifffile; codes are those of SmartSEM's remote interface.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from nexuslims_pipeline.extraction.facts import Facts, bounded, entry, metres
from nexuslims_pipeline.extraction.layouts.raster import TIFF_MAGIC, first_tags, read_image
from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.vendor_text import decode, number
from nexuslims_pipeline.signals import Signal, Source

TEXT_TAG: Final = 34118
UTF16_TAG: Final = 34119
OTHER_TAGS: Final = frozenset({65000, 51023})
"""Of the helium microscope and of Atlas, which write a CZ_SEM of their own beside them."""
TEXT_LIMIT: Final = 1 << 20
"""Bytes of vendor text that are read; real ones have 3 to 70 kB."""
CODE: Final = re.compile(r"(?:AP|DP|SV)_[A-Z0-9_]+")
PROOF: Final = re.compile(rb"[\r\n](?:AP|DP|SV)_[A-Z0-9_]+\r?\n")
SHOWN: Final = re.compile(r"([^=:]*?)\s*[=:](.*)", re.DOTALL)
"""``WD =  5.1 mm``, ``Date :13 Jul 2021``."""
PROBE_PLACEHOLDER: Final = 200e-9
"""Ampere that SmartSEM shows where nobody calibrated the probe current."""
THERMIONIC: Final = ("tungsten", "lab6", "w ", "hairpin")
DWELL_TOLERANCE: Final = 2.0
"""Pixels of a line may take this much less than the line, which includes the beam's way back."""

EXACT: Final = {
    "magnification": (4, None),
    "acceleration_voltage": (6, "V"),
    "working_distance": (9, "m"),
}
"""Lines of the bare numbers, from 0."""
EXACT_PIXEL: Final = 3
"""Line of the pixel size; without the code of the image's own it is that of a picture of `SCREEN_COLUMNS`."""
SCREEN_COLUMNS: Final = 1024
EXACT_DIFFERENCE: Final = 0.03
"""Part by which rounding for the screen may change a value."""
OPTICAL: Final = ("tv", "ccd", "chamber", "navi")
"""How the names of cameras begin that take the place of a detector."""

BEAM_ENTRIES: Final = {
    "electron": (
        entry("acceleration_voltage", "kV", "AP_ACTUALKV AP_MANUALKV", never_zero=True),
        entry("magnification", "", "AP_MAG", never_zero=True),
        entry("working_distance", "mm", "AP_WD"),
        entry("extraction_voltage", "kV", "AP_ACTUALEXT", never_zero=True),
        entry("filament_current", "A", "AP_ACTUALCURRENT", never_zero=True),
        entry("probe_current", "pA", "AP_IPROBE", never_zero=True),
        entry("aperture_diameter", "µm", "AP_APERTURESIZE", never_zero=True),
        entry("Extractor Current", "µA", "AP_EXTCURRENT", never_zero=True),
        entry("X", "percent", "AP_STIG_X", "Stigmator"),
        entry("Y", "percent", "AP_STIG_Y", "Stigmator"),
        entry("X", "percent", "AP_BEAMSHIFT_X", "Beam Shift"),
        entry("Y", "percent", "AP_BEAMSHIFT_Y", "Beam Shift"),
        entry("Column Mode", None, "DP_COLUMN_MODE"),
    ),
    "ion": (
        entry("acceleration_voltage", "kV", "AP_FIB_EHT_ACTUAL AP_FIB_EHT_TARGET", never_zero=True),
        entry("magnification", "", "AP_FIB_MAGNIFICATION", never_zero=True),
        entry("working_distance", "mm", "AP_FIB_WORKING_DISTANCE", never_zero=True),
        entry("extraction_voltage", "kV", "AP_FIB_EXT_ACTUAL AP_FIB_EXT_TARGET", never_zero=True),
        entry("emission_current", "µA", "AP_FIB_EMISSION_CURRENT", never_zero=True),
        entry("probe_current", "pA", "AP_FIB_PROBE_CURRENT_ACTUAL", never_zero=True),
        entry("FIB Probe", None, "DP_FIB_IMAGE_PROBE DP_FIB_PROBE"),
        entry("X", "percent", "AP_FIB_STIGMATOR_X", "Stigmator"),
        entry("Y", "percent", "AP_FIB_STIGMATOR_Y", "Stigmator"),
    ),
}
THERMIONIC_ENTRIES: Final = (
    entry("emission_current", "µA", "AP_BEAM_CURRENT_MONITOR AP_BEAM_CURRENT", never_zero=True),
    entry("spot_size", "", "AP_SPOTSIZE"),
)
ENTRIES: Final = (
    entry("dwell_time", "ns", "DP_DWELL_TIME"),
    entry("frame_time", "s", "AP_FRAME_TIME", never_zero=True),
    entry("stage_x", "mm", "AP_STAGE_AT_X"),
    entry("stage_y", "mm", "AP_STAGE_AT_Y"),
    entry("stage_z", "mm", "AP_STAGE_AT_Z"),
    entry("stage_rotation", "deg", "AP_STAGE_AT_R"),
    entry("stage_tilt", "deg", "AP_STAGE_AT_T"),
    entry("chamber_pressure", "Pa", "AP_CHAMBER_PRESSURE AP_SYSTEM_VAC", never_zero=True),
    entry("detector_type", None, "DP_DETECTOR_CHANNEL DP_DETECTOR_TYPE"),
    entry("microscope", None, "DP_SEM"),
    entry("specimen", None, "SV_SAMPLE_ID"),
    entry("operator", None, "SV_OPERATOR SV_USER_NAME"),
    entry("User Text", None, "SV_USER_TEXT"),
    entry("Serial Number", None, "SV_SERIAL_NUMBER"),
    entry("Column", None, "DP_COLUMN_TYPE"),
    entry("Filament", None, "DP_FILAMENT_TYPE"),
    entry("Scan Speed", "", "DP_SCANRATE"),
    entry("Line Time", "ms", "AP_LINE_TIME", never_zero=True),
    entry("Noise Reduction", None, "DP_NOISE_REDUCTION"),
    entry("Scan Rotation On", None, "DP_SCAN_ROT"),
    entry("Tilt Correction On", None, "DP_TILT_CORRECTION"),
    entry("Dynamic Focus", None, "DP_DYNFOCUS"),
    entry("High Current", None, "DP_HIGH_CURRENT"),
    entry("Mains Sync", None, "DP_MAINS_SYNC"),
    entry("Vacuum Mode", None, "DP_VAC_MODE"),
    entry("Vacuum Gas", None, "DP_EP_MODE"),
    entry("System Vacuum", "mbar", "AP_SYSTEM_VAC", never_zero=True),
    entry("Gun Vacuum", "mbar", "AP_COLUMN_VAC", never_zero=True),
    entry("Stage M", "mm", "AP_STAGE_AT_M"),
    entry("Specimen Current", "pA", "AP_SCM", never_zero=True),
    entry("Photo Number", "", "AP_PHOTO_NUMBER", never_zero=True),
    entry("Brightness", "percent", "AP_BRIGHTNESS", "Detector Settings"),
    entry("Contrast", "percent", "AP_CONTRAST", "Detector Settings"),
    entry("Collector Bias", "V", "AP_COLLECTOR_BIAS", "Detector Settings"),
    entry("ESB Grid", "V", "AP_ESB_GRID_IS AP_ESB_GRID", "Detector Settings", never_zero=True),
    entry("Mixing", None, "DP_MIXING", "Detector Settings"),
)
AVERAGES: Final = {
    "frame avg": ("frames", "AP_FRAME_AVERAGE_COUNT"),
    "frame int": ("frames", "AP_FRAME_INT_COUNT"),
    "line avg": ("Lines Averaged", "AP_LINE_AVERAGE_COUNT"),
    "line int": ("Lines Integrated", "AP_LINE_INT_COUNT"),
    "pixel avg": ("Pixels Averaged", "AP_NR_COEFF"),
}
"""Beginnings of the noise reduction: the count that is in use; those of the others hold old settings."""


class ZeissSmartSem(Extractor):
    """Images of Zeiss scanning microscopes and dual beams."""

    name: ClassVar[str] = "zeiss_smartsem"
    format_name: ClassVar[str] = "Zeiss SmartSEM TIFF"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".tif", ".tiff"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:
        """Whether it is a TIFF with the tag, and no tag of the other programmes that write it."""
        if not head.startswith(TIFF_MAGIC):
            return False
        tags = first_tags(source.path)
        return TEXT_TAG in tags and OTHER_TAGS.isdisjoint(tags) and PROOF.search(tags[TEXT_TAG]) is not None

    def extract(self, source: Source) -> list[Signal]:
        """Read the one image of the file (or its one stack).

        Raises
        ------
        ExtractionError
            If it holds no image, or its header is cut off before its first value.
        """
        image = read_image(source.path, (TEXT_TAG, UTF16_TAG), TEXT_LIMIT)
        shown, exact = parse_header(_text(image.tags))
        if not shown:
            msg = "it is damaged: the microscope's header holds nothing"
            raise ExtractionError(msg)
        facts = Facts()
        technique = _technique(shown)
        is_ion = technique == "FIB_Imaging"
        facts.add_entries(BEAM_ENTRIES["ion" if is_ion else "electron"], lambda code: _value(shown, code))
        facts.add_entries(ENTRIES, lambda code: _value(shown, code))
        if not is_ion:
            _sharpen(exact, facts)
            _add_filament(shown, facts)
        _add_pixel(shown, exact, image.raster.shape[-1], is_ion, facts)
        _add_switched(shown, facts)
        _add_averages(shown, facts)
        _add_software(shown, facts)
        _doubt(facts, image.raster.shape[-1])
        acquired = facts.clock_time(_value(shown, "AP_DATE"), _value(shown, "AP_TIME"), source.modified)
        native = bounded({"CZ_SEM": {code: f"{name} = {value}".strip() for code, (name, value) in shown.items()}})
        signal = Signal("Image", technique, acquired=acquired, native=native)
        return [image.give_to(signal, facts)]


def parse_header(text: str) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Values of the header.

    Parameters
    ----------
    text
        Of `decode`.

    Returns
    -------
    tuple
        Name on the screen and value by code; and the lines of bare numbers before the first code.
    """
    shown: dict[str, tuple[str, str]] = {}
    numbers: list[str] = []
    code = ""
    for line in map(str.strip, text.split("\n")):
        if CODE.fullmatch(line):
            code = line
        elif not shown and not code:
            numbers.append(line)
        elif code and line:
            parts = SHOWN.fullmatch(line)
            shown.setdefault(code, (parts[1], parts[2].strip()) if parts else ("", line))
            code = ""
    return shown, numbers


def _text(tags: Mapping[int, bytes]) -> str:
    wide = tags.get(UTF16_TAG, b"").decode("utf-16-le", "replace")
    if "AP_" in wide:
        return decode(wide.encode())[0]
    return decode(tags.get(TEXT_TAG, b""))[0]


def _value(shown: Mapping[str, tuple[str, str]], code: str) -> str:
    return shown.get(code, ("", ""))[1]


def _technique(shown: Mapping[str, tuple[str, str]]) -> str:
    if _value(shown, "DP_FIB_IMAGING").lower().startswith("fib"):
        return "FIB_Imaging"
    is_camera = _value(shown, "DP_DETECTOR_CHANNEL").lower().startswith(OPTICAL)
    return "Optical_Imaging" if is_camera else "SEM_Imaging"


def _add_pixel(
    shown: Mapping[str, tuple[str, str]], exact: list[str], columns: int, is_ion: bool, facts: Facts
) -> None:
    """Pixel size: the image's own, else that of the screen, which has another number of columns."""
    enlarged = SCREEN_COLUMNS / columns
    on_screen = metres(_value(shown, "AP_FIB_PIXEL_SIZE" if is_ion else "AP_PIXEL_SIZE"), "nm")
    pixel = metres(_value(shown, "AP_IMAGE_PIXEL_SIZE"), "nm") or on_screen * enlarged
    told = _exact(exact, EXACT_PIXEL)
    pixel = next((size for size in (told, told * enlarged) if _is_about(size, pixel)), pixel)
    for side in ("width", "height"):
        facts.add_measured(f"pixel_{side}", pixel * 1e9, "nm")
    field = 0.0 if is_ion else metres(_value(shown, "AP_WIDTH"), "µm")
    if pixel and field and not _is_about(pixel * columns, field):
        facts.warnings["pixel_width"] = f"The file says that the field is {field * 1e6:.4g} µm wide, which disagrees."


def _exact(exact: list[str], line: int) -> float:
    """One of the bare numbers; 0 where it is none."""
    try:
        return number(exact[line])
    except (ValueError, IndexError):
        return 0.0


def _is_about(exact: float, rounded: float) -> bool:
    return exact > 0 and abs(exact - rounded) <= EXACT_DIFFERENCE * exact


def _sharpen(exact: list[str], facts: Facts) -> None:
    """Put numbers with all their digits in place of those that were rounded for the screen."""
    for name, (line, unit) in EXACT.items():
        known, value = facts.fields.get(name), _exact(exact, line)
        if known is not None and _is_about(value, known.m_as(unit) if unit else known):
            facts.add(name, value, unit)


def _add_filament(shown: Mapping[str, tuple[str, str]], facts: Facts) -> None:
    """Values of heated filaments, ``Beam Current`` being what they emit; field emitters leave them as they were."""
    if _value(shown, "DP_FILAMENT_TYPE").lower().startswith(THERMIONIC):
        facts.add_entries(THERMIONIC_ENTRIES, lambda code: _value(shown, code))


def _add_switched(shown: Mapping[str, tuple[str, str]], facts: Facts) -> None:
    """What the header holds always and what is true only while its switch is on."""
    if facts.extensions.get("Scan Rotation On") is False:
        facts.add("scan_rotation", 0.0, "deg")
    else:
        facts.add_written("scan_rotation", _value(shown, "AP_SCANROTATION"), "deg")
    if facts.extensions.get("Tilt Correction On") is True:
        facts.add_written("tilt_correction", _value(shown, "AP_TILT_ANGLE"), "deg")
    facts.add_written("landing_energy", _value(shown, "AP_LANDING_ENERGY").replace("V", "eV"), "keV")
    for switch, code in (
        ("DP_STAGE_BIAS_HIGH", "AP_STAGE_BIAS_VOLTAGE_HIGH"),
        ("DP_STAGE_BIAS", "AP_STAGE_BIAS_VOLTAGE"),
    ):
        if _value(shown, switch).lower() == "on":
            facts.add_written("Stage Bias", _value(shown, code), "V")
    if _value(shown, "DP_PELTIER").lower() == "on":
        facts.add_written("temperature", _value(shown, "AP_HCSTAGE_TEMP"), "degC")
    if facts.extensions.get("Detector Settings", {}).get("Mixing") is True:
        facts.add("Second Detector", _value(shown, "DP_IMPLIED_DETECTOR"))


def _add_averages(shown: Mapping[str, tuple[str, str]], facts: Facts) -> None:
    reduction = _value(shown, "DP_NOISE_REDUCTION").lower()
    for beginning, (name, code) in AVERAGES.items():
        if reduction.startswith(beginning):
            facts.add_written(name, _value(shown, code), "")


def _add_software(shown: Mapping[str, tuple[str, str]], facts: Facts) -> None:
    """``V06.00.00.00 : 09-Jun-16``: version and its day; the model is in the serial number of old versions."""
    version = _value(shown, "SV_VERSION").partition(" :")[0]
    facts.add("software", f"SmartSEM {version}" if version else "")
    model = re.match(r"(.+?)-\d+-\d+$", _value(shown, "SV_SERIAL_NUMBER"))
    if model and "microscope" not in facts.fields:
        facts.add("microscope", model[1])


def _doubt(facts: Facts, columns: int) -> None:
    """Warn of what the other values of the header contradict."""
    probe = facts.fields.get("probe_current")
    if probe is not None and abs(probe.m_as("A") / PROBE_PLACEHOLDER - 1) < 1e-6:
        facts.warnings["probe_current"] = "SmartSEM writes 200 nA where the probe current is not known."
    dwell, line = facts.fields.get("dwell_time"), facts.extensions.get("Line Time")
    if dwell is None or line is None:
        return
    passes = facts.extensions.get("Lines Averaged") or facts.extensions.get("Lines Integrated") or 1
    average = line.m_as("s") / columns / passes
    if not average / DWELL_TOLERANCE <= dwell.m_as("s") <= average * 1.05:
        facts.warnings["dwell_time"] = (
            f"The line time leaves {average * 1e6:.3g} µs to each pixel: the file's dwell time is that of one sample."
        )


EXTRACTOR = ZeissSmartSem()
