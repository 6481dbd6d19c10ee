"""The named fields of a dataset: display name, preferred unit, EM Glossary term, and the types they belong to.

Source of the terms: EM Glossary v2.0.0, https://purls.helmholtz-metadaten.de/emg/v2.0.0/. Units are named as pint
names them, with the QUDT unit (http://qudt.org/vocab/unit/) that means the same.
"""

from dataclasses import dataclass

from nexuslims_pipeline.signals import DatasetType

EMG = "https://purls.helmholtz-metadaten.de/emg/v2.0.0/EMG_"
QUDT = "http://qudt.org/vocab/unit/"
EVERY: frozenset[DatasetType] = frozenset({"Image", "Spectrum", "SpectrumImage", "Diffraction", "Misc", "Unknown"})
IMAGES: frozenset[DatasetType] = frozenset({"Image", "SpectrumImage"})
SPECTRA: frozenset[DatasetType] = frozenset({"Spectrum", "SpectrumImage"})
MAPS: frozenset[DatasetType] = frozenset({"SpectrumImage"})
DIFFRACTION: frozenset[DatasetType] = frozenset({"Diffraction"})
SCANS: frozenset[DatasetType] = frozenset({"Image", "SpectrumImage", "Diffraction"})


@dataclass(frozen=True, slots=True)
class Field:
    """One named field."""

    display_name: str
    unit: str | None = None
    """Preferred unit in pint's spelling; empty for plain numbers, None for text."""
    term: str | None = None
    """Number of the EM Glossary term."""
    qudt: str | None = None
    types: frozenset[DatasetType] = EVERY
    """Dataset types whose core it belongs to; elsewhere the value is an extension."""

    @property
    def term_iri(self) -> str | None:
        """IRI of the EM Glossary term."""
        return EMG + self.term if self.term else None

    @property
    def qudt_iri(self) -> str | None:
        """IRI of the QUDT unit."""
        return QUDT + self.qudt if self.qudt else None


FIELDS: dict[str, Field] = {
    "acceleration_voltage": Field("Acceleration Voltage", "kV", "00000004", "KiloV"),
    "extraction_voltage": Field("Extraction Voltage", "kV", "00000026", "KiloV"),
    "landing_energy": Field("Landing Energy", "keV", None, "KiloEV"),
    "emission_current": Field("Emission Current", "µA", "00000025", "MicroA"),
    "filament_current": Field("Filament Current", "A", "00000027", "A"),
    "beam_current": Field("Beam Current", "pA", "00000006", "PicoA"),
    "probe_current": Field("Probe Current", "pA", "00000041", "PicoA"),
    "spot_size": Field("Spot Size", ""),
    "convergence_angle": Field("Convergence Angle", "mrad", "00000010", "MilliRAD"),
    "camera_length": Field("Camera Length", "mm", "00000008", "MilliM"),
    "magnification": Field("Magnification", "", types=IMAGES | SPECTRA),
    "working_distance": Field("Working Distance", "mm", "00000050", "MilliM"),
    "defocus": Field("Defocus", "nm", None, "NanoM"),
    "dwell_time": Field("Pixel Dwell Time", "µs", "00000015", "MicroSEC"),
    "exposure_time": Field("Exposure Time", "s", None, "SEC"),
    "frame_time": Field("Frame Time", "s", "00000034", "SEC", SCANS),
    "flyback_time": Field("Flyback Time", "µs", "00000028", "MicroSEC", SCANS),
    "frames": Field("Frames", ""),
    "binning": Field("Binning"),
    "horizontal_field_width": Field("Horizontal Field Width", "µm", None, "MicroM"),
    "vertical_field_width": Field("Vertical Field Width", "µm", None, "MicroM"),
    "pixel_width": Field("Pixel Width", "nm", None, "NanoM", SCANS),
    "pixel_height": Field("Pixel Height", "nm", None, "NanoM", SCANS),
    "reciprocal_pixel_width": Field("Reciprocal Pixel Width", "1/nm", None, "PER-NanoM", DIFFRACTION),
    "reciprocal_pixel_height": Field("Reciprocal Pixel Height", "1/nm", None, "PER-NanoM", DIFFRACTION),
    "angular_pixel_width": Field("Angular Pixel Width", "mrad", None, "MilliRAD", DIFFRACTION),
    "angular_pixel_height": Field("Angular Pixel Height", "mrad", None, "MilliRAD", DIFFRACTION),
    "scan_rotation": Field("Scan Rotation", "deg", None, "DEG"),
    "tilt_correction": Field("Tilt Correction", "deg", "00000047", "DEG", SCANS),
    "condenser_aperture": Field("Condenser Aperture", "µm", None, "MicroM"),
    "objective_aperture": Field("Objective Aperture", "µm", None, "MicroM"),
    "selected_area_aperture": Field("Selected Area Aperture", "µm", None, "MicroM"),
    "aperture_diameter": Field("Aperture Diameter", "µm", None, "MicroM"),
    "detector_type": Field("Detector"),
    "inner_collection_angle": Field("Inner Collection Angle", "mrad", None, "MilliRAD"),
    "outer_collection_angle": Field("Outer Collection Angle", "mrad", None, "MilliRAD"),
    "acquisition_device": Field("Acquisition Device"),
    "acquisition_time": Field("Acquisition Time", "s", "00000055", "SEC", SPECTRA),
    "live_time": Field("Live Time", "s", None, "SEC", SPECTRA),
    "real_time": Field("Real Time", "s", None, "SEC", SPECTRA),
    "dead_time": Field("Dead Time", "percent", "00000054", "PERCENT", SPECTRA),
    "shaping_time": Field("Shaping Time", "µs", None, "MicroSEC", SPECTRA),
    "input_count_rate": Field("Input Count Rate", "1/s", None, "PER-SEC", SPECTRA),
    "output_count_rate": Field("Output Count Rate", "1/s", None, "PER-SEC", SPECTRA),
    "detector_energy_resolution": Field("Energy Resolution", "eV", None, "EV", SPECTRA),
    "channel_size": Field("Channel Size", "eV", None, "EV", SPECTRA),
    "starting_energy": Field("Starting Energy", "keV", None, "KiloEV", SPECTRA),
    "azimuthal_angle": Field("Azimuthal Angle", "deg", None, "DEG", SPECTRA),
    "elevation_angle": Field("Elevation Angle", "deg", None, "DEG", SPECTRA),
    "takeoff_angle": Field("Takeoff Angle", "deg", None, "DEG", SPECTRA),
    "solid_angle": Field("Solid Angle", "sr", None, "SR", SPECTRA),
    "collection_angle": Field("Collection Angle", "mrad", None, "MilliRAD", SPECTRA),
    "entrance_aperture": Field("Entrance Aperture", "mm", None, "MilliM"),
    "slit_width": Field("Energy Slit Width", "eV", None, "EV"),
    "energy_loss": Field("Energy Loss", "eV", None, "EV"),
    "elements": Field("Elements", types=SPECTRA | IMAGES),
    "pixel_time": Field("Pixel Time", "s", None, "SEC", MAPS),
    "scan_mode": Field("Scan Mode", types=SCANS),
    "laser_wavelength": Field("Laser Wavelength", "nm", None, "NanoM"),
    "stage_x": Field("Stage X", "µm", None, "MicroM"),
    "stage_y": Field("Stage Y", "µm", None, "MicroM"),
    "stage_z": Field("Stage Z", "mm", None, "MilliM"),
    "stage_rotation": Field("Stage Rotation", "deg", None, "DEG"),
    "stage_tilt": Field("Stage Tilt", "deg", None, "DEG"),
    "stage_alpha": Field("Stage Alpha", "deg", None, "DEG"),
    "stage_beta": Field("Stage Beta", "deg", None, "DEG"),
    "chamber_pressure": Field("Chamber Pressure", "Pa", None, "PA"),
    "temperature": Field("Temperature", "K", None, "K"),
    "illumination_mode": Field("Illumination Mode"),
    "projection_mode": Field("Projection Mode"),
    "microscope": Field("Microscope"),
    "software": Field("Software"),
    "specimen": Field("Specimen"),
    "operator": Field("Operator"),
    "computer": Field("Computer"),
}
