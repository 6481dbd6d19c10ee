"""What checked metadata are, by type of dataset: the one place where named fields are declared.

Checks, table of fields (`metadata.fields.FIELDS`), JSON schema, JSON-LD and the documentation are all made from these
models. A field's type is its kind and its preferred unit (`metadata.kinds`); its default carries its name for people,
its meaning, and the EM Glossary term that means the same (https://purls.helmholtz-metadaten.de/emg/v2.0.0/).
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from nexuslims_pipeline.metadata.kinds import (
    Amperes,
    Count,
    Degrees,
    Electronvolts,
    Elements,
    Kelvins,
    Kiloelectronvolts,
    Kilovolts,
    Microamperes,
    Micrometres,
    Microseconds,
    Millimetres,
    Milliradians,
    Nanometres,
    Number,
    Pascals,
    Percent,
    PerNanometre,
    PerSecond,
    Picoamperes,
    Seconds,
    Steradians,
    Text,
)
from nexuslims_pipeline.signals import DatasetType


def named(display_name: str, meaning: str, *, emg: int | None = None, personal: bool = False) -> Any:
    """Declare a named field.

    Parameters
    ----------
    display_name
        Name for people and records.
    meaning
        What the value is, in a few words.
    emg
        Number of the EM Glossary term.
    personal
        Whether it tells of a person.
    """
    marks: dict[str, Any] = {"term": f"{emg:08}" if emg is not None else None, "personal": personal}
    return Field(default=None, title=display_name, description=meaning, json_schema_extra=marks)


def _moment(value: Any) -> str:
    """ISO 8601 with an offset from UTC."""
    if datetime.fromisoformat(value).tzinfo is None:
        msg = f"{value} has no offset from UTC"
        raise ValueError(msg)
    return str(value)


class Doubt(BaseModel):
    """A value to doubt."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    field: str
    """Display name."""
    reason: str


class Metadata(BaseModel):
    """What any dataset may tell."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)

    dataset_type: DatasetType = Field(alias="DatasetType")
    data_type: str = Field(alias="Data Type", min_length=1, description="Technique, e.g. STEM_EELS.")
    creation_time: Annotated[str, BeforeValidator(_moment)] = Field(alias="Creation Time")
    data_dimensions: str | None = Field(None, alias="Data Dimensions", description="Sizes in NumPy order.")
    instrument_id: str | None = Field(None, alias="Instrument ID")
    extraction_details: dict[str, str] = Field(alias="Extraction Details")
    extensions: dict[str, Any] = Field(default_factory=dict)
    warnings: list[Doubt] = Field(default_factory=list)

    acceleration_voltage: Kilovolts = named(
        "Acceleration Voltage", "Potential difference that accelerates the beam's electrons or ions.", emg=4
    )
    extraction_voltage: Kilovolts = named(
        "Extraction Voltage", "Voltage that draws the particles out of the source.", emg=26
    )
    landing_energy: Kiloelectronvolts = named(
        "Landing Energy", "Energy with which the beam reaches the specimen, after deceleration."
    )
    emission_current: Microamperes = named("Emission Current", "Current that leaves the source.", emg=25)
    filament_current: Amperes = named("Filament Current", "Current that heats the filament of the source.", emg=27)
    beam_current: Picoamperes = named("Beam Current", "Current of the beam in the column.", emg=6)
    probe_current: Picoamperes = named("Probe Current", "Current that arrives at the specimen.", emg=41)
    spot_size: Number = named("Spot Size", "The vendor's number of the spot setting.")
    convergence_angle: Milliradians = named("Convergence Angle", "Half the opening angle of the beam's cone.", emg=10)
    camera_length: Millimetres = named(
        "Camera Length", "Effective distance from the specimen to the plane of the diffraction pattern.", emg=8
    )
    working_distance: Millimetres = named(
        "Working Distance", "Distance from the lowest part of the column to the plane in focus.", emg=50
    )
    defocus: Nanometres = named("Defocus", "Distance of the focus from the specimen; negative is underfocus.")
    dwell_time: Microseconds = named("Pixel Dwell Time", "Time that the beam rests at one pixel.", emg=15)
    exposure_time: Seconds = named("Exposure Time", "Time that the camera gathers one frame.")
    frames: Count = named("Frames", "Number of frames that were taken: added up, averaged, or kept one by one.")
    binning: Text = named("Binning", "Detector pixels per pixel of the data, such as 2 × 2.")
    horizontal_field_width: Micrometres = named("Horizontal Field Width", "Width of the imaged field on the specimen.")
    vertical_field_width: Micrometres = named("Vertical Field Width", "Height of the imaged field on the specimen.")
    scan_rotation: Degrees = named("Scan Rotation", "Angle by which the scan is turned.")
    condenser_aperture: Micrometres = named("Condenser Aperture", "Diameter of the condenser aperture.")
    objective_aperture: Micrometres = named("Objective Aperture", "Diameter of the objective aperture.")
    selected_area_aperture: Micrometres = named("Selected Area Aperture", "Diameter of the selected area aperture.")
    aperture_diameter: Micrometres = named("Aperture Diameter", "Diameter of the aperture that limits the beam.")
    detector_type: Text = named("Detector", "Name of the detector: ETD, HAADF, SE2.")
    inner_collection_angle: Milliradians = named(
        "Inner Collection Angle", "Smallest scattering angle that the annular detector sees."
    )
    outer_collection_angle: Milliradians = named(
        "Outer Collection Angle", "Largest scattering angle that the annular detector sees."
    )
    acquisition_device: Text = named("Acquisition Device", "Camera, spectrometer or digitiser that took the data.")
    entrance_aperture: Millimetres = named("Entrance Aperture", "Diameter of the spectrometer's entrance aperture.")
    slit_width: Electronvolts = named("Energy Slit Width", "Range of energies that the slit lets through.")
    energy_loss: Electronvolts = named("Energy Loss", "Energy loss at the middle of the slit or the spectrum.")
    laser_wavelength: Nanometres = named("Laser Wavelength", "Wavelength of the exciting laser.")
    stage_x: Micrometres = named("Stage X", "Position of the stage.")
    stage_y: Micrometres = named("Stage Y", "Position of the stage.")
    stage_z: Millimetres = named("Stage Z", "Height of the stage.")
    stage_rotation: Degrees = named("Stage Rotation", "Rotation of the stage about its normal.")
    stage_tilt: Degrees = named("Stage Tilt", "Tilt of the stage.")
    stage_alpha: Degrees = named("Stage Alpha", "Tilt about the axis of the holder.")
    stage_beta: Degrees = named("Stage Beta", "Tilt across the axis of the holder.")
    chamber_pressure: Pascals = named("Chamber Pressure", "Pressure in the specimen chamber.")
    temperature: Kelvins = named("Temperature", "Temperature of the specimen or its stage.")
    illumination_mode: Text = named("Illumination Mode", "Mode of the illuminating system: TEM, STEM nanoprobe.")
    projection_mode: Text = named("Projection Mode", "Mode of the projecting system: imaging, diffraction.")
    microscope: Text = named("Microscope", "The vendor's name of the model.")
    software: Text = named("Software", "Program that took the data, with its version.")
    specimen: Text = named("Specimen", "What was looked at, as the operator named it.")
    operator: Text = named("Operator", "Account or name of whoever took the data.", personal=True)
    computer: Text = named("Computer", "Name of the computer that took the data.", personal=True)


class RealSpace(Metadata):
    """Datasets of places on the specimen, in contrast to those of its reciprocal space."""

    magnification: Number = named("Magnification", "Magnification that the instrument shows.")
    elements: Elements = named("Elements", "Chemical symbols of what was mapped or identified.")


class Scanned(Metadata):
    """Datasets of areas: images, maps and patterns."""

    frame_time: Seconds = named("Frame Time", "Time to scan one frame.", emg=34)
    flyback_time: Microseconds = named(
        "Flyback Time", "Time in which the beam returns from the end of one line to the start of the next.", emg=28
    )
    pixel_width: Nanometres = named("Pixel Width", "Width of a pixel or scan step on the specimen.")
    pixel_height: Nanometres = named("Pixel Height", "Height of a pixel or scan step on the specimen.")
    tilt_correction: Degrees = named(
        "Tilt Correction", "Tilt for which the scan corrects the perspective of an inclined surface.", emg=47
    )
    scan_mode: Text = named("Scan Mode", "How the beam is led over the area.")


class Spectral(Metadata):
    """Datasets with an axis of energy, mass or wavelength."""

    acquisition_time: Seconds = named("Acquisition Time", "Time from start to end of the acquisition.", emg=55)
    live_time: Seconds = named("Live Time", "Time in which the detector was ready to count.")
    real_time: Seconds = named("Real Time", "Time that passed while the detector counted, dead time included.")
    dead_time: Percent = named("Dead Time", "Part of the real time in which the detector could not count.", emg=54)
    shaping_time: Microseconds = named("Shaping Time", "Time constant of the pulse processor.")
    input_count_rate: PerSecond = named("Input Count Rate", "Pulses that reach the detector.")
    output_count_rate: PerSecond = named("Output Count Rate", "Pulses that are counted.")
    detector_energy_resolution: Electronvolts = named(
        "Energy Resolution", "Width at half maximum of the detector's line, for X-rays that of Mn Kα."
    )
    channel_size: Electronvolts = named("Channel Size", "Energy per channel.")
    starting_energy: Kiloelectronvolts = named("Starting Energy", "Energy of the first channel.")
    azimuthal_angle: Degrees = named("Azimuthal Angle", "Direction of the detector in the plane of the stage.")
    elevation_angle: Degrees = named("Elevation Angle", "Angle of the detector above the plane of the stage.")
    takeoff_angle: Degrees = named("Takeoff Angle", "Angle between the specimen's surface and the detector.")
    solid_angle: Steradians = named("Solid Angle", "Solid angle that the detector covers, seen from the specimen.")
    collection_angle: Milliradians = named("Collection Angle", "Half the angle that the spectrometer accepts.")


class Image(Scanned, RealSpace):
    """An image or a stack of them."""

    dataset_type: Literal["Image"] = Field(alias="DatasetType")


class Spectrum(Spectral, RealSpace):
    """A spectrum."""

    dataset_type: Literal["Spectrum"] = Field(alias="DatasetType")


class SpectrumImage(Scanned, Spectral, RealSpace):
    """A spectrum for each place of a line or an area."""

    dataset_type: Literal["SpectrumImage"] = Field(alias="DatasetType")

    pixel_time: Seconds = named("Pixel Time", "Time to take the spectrum of one place.")


class Diffraction(Scanned):
    """One diffraction pattern or many."""

    dataset_type: Literal["Diffraction"] = Field(alias="DatasetType")

    reciprocal_pixel_width: PerNanometre = named("Reciprocal Pixel Width", "Width of a pixel of the pattern.")
    reciprocal_pixel_height: PerNanometre = named("Reciprocal Pixel Height", "Height of a pixel of the pattern.")
    angular_pixel_width: Milliradians = named("Angular Pixel Width", "Width of a pixel of the pattern, as an angle.")
    angular_pixel_height: Milliradians = named("Angular Pixel Height", "Height of a pixel of the pattern, as an angle.")


class Misc(Metadata):
    """Data of another kind: text, logs."""

    dataset_type: Literal["Misc"] = Field(alias="DatasetType")


class Unknown(Metadata):
    """A file that no reader knows, or that could not be read."""

    dataset_type: Literal["Unknown"] = Field(alias="DatasetType")


MODELS: dict[DatasetType, type[Metadata]] = {
    "Image": Image,
    "Spectrum": Spectrum,
    "SpectrumImage": SpectrumImage,
    "Diffraction": Diffraction,
    "Misc": Misc,
    "Unknown": Unknown,
}


def json_schema() -> dict[str, Any]:
    """JSON schema of the ``nx_meta`` of any dataset."""
    from pydantic import TypeAdapter

    any_of = Image | Spectrum | SpectrumImage | Diffraction | Misc | Unknown
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[any_of, Field(discriminator="dataset_type")])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **adapter.json_schema()}
