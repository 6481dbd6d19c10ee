"""What cannot be true is doubted and kept; what vendors do differently is not doubted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance
from facility import CERAMIC, Facility, built, instance

from nexuslims_pipeline.metadata.plausibility import Circumstances, doubts

__all__ = ["built", "instance"]

MODIFIED = datetime(2026, 3, 4, 21, tzinfo=UTC)


def meta(kind: str = "Image", shape: str = "(1024, 1536)", **fields: Any) -> dict[str, Any]:
    units = {"width": "nm", "time": "s"}
    values = {
        name: value if isinstance(value, str) else {"value": value, "unit": units} for name, value in fields.items()
    }
    details = {"Creation Time From": "file", "Reader": "x"}
    frame = {"DatasetType": kind, "Data Dimensions": shape, "Creation Time": "2026-03-04T14:00:00-07:00"}
    return {**frame, "Extraction Details": details, **values}


def found(nx_meta: dict[str, Any], voltage_kv: tuple[float, float] | None = None) -> dict[str, str]:
    return doubts(nx_meta, Circumstances(MODIFIED, voltage_kv))


@pytest.mark.parametrize(
    ("fields", "doubted"),
    [
        ({"pixel_width": 10.0, "horizontal_field_width": 15.36}, None),
        ({"pixel_width": 10.0, "horizontal_field_width": 15.4}, None),
        ({"pixel_width": 10.0, "horizontal_field_width": 15360.0}, "Horizontal Field Width"),
        ({"pixel_height": 10.0, "vertical_field_width": 15.36}, "Vertical Field Width"),
        ({"pixel_height": 10.0, "vertical_field_width": 9.6}, None),
        ({"magnification": 10_000.0, "pixel_width": 8.27}, None),
        ({"magnification": 10_000.0, "horizontal_field_width": 12.7}, None),
        ({"magnification": 10_000.0, "pixel_width": 8270.0}, "Magnification"),
        ({"magnification": 10_000_000.0, "horizontal_field_width": 12.7}, "Magnification"),
        ({"magnification": 10.0, "horizontal_field_width": 12.7}, "Magnification"),
        ({"acceleration_voltage": 0.0}, "Acceleration Voltage"),
        ({"acceleration_voltage": 300_000.0}, "Acceleration Voltage"),
        ({"stage_x": 2e6}, "Stage X"),
        ({"temperature": -5.0}, "Temperature"),
    ],
)
def test_images(fields: dict[str, float], doubted: str | None) -> None:
    assert list(found(meta(**fields))) == ([doubted] if doubted else [])


def test_a_data_bar_lies_below_the_field() -> None:
    assert found(meta(shape="(1103, 1536)", pixel_height=10.0, vertical_field_width=10.24)) == {}


def test_a_cut_out_bears_the_magnification_of_the_whole() -> None:
    assert found(meta(shape="(8, 8)", magnification=1000.0, pixel_width=10.0)) == {}


def test_sizes_are_those_of_the_scan_in_maps_and_patterns() -> None:
    fields = {"pixel_width": 10.0, "horizontal_field_width": 0.64}
    assert found(meta("SpectrumImage", "(32, 64, 2048)", **fields)) == {}
    assert found(meta("Diffraction", "(32, 64, 256, 256)", **fields)) == {}
    assert list(found(meta("SpectrumImage", "(64, 32, 2048)", **fields))) == ["Horizontal Field Width"]
    assert found(meta("Image", "(64, 64, 3)", **fields)) == {}


def test_spectra() -> None:
    assert found(meta("Spectrum", live_time=50.0, real_time=60.0, dead_time=17.0)) == {}
    assert found(meta("Spectrum", live_time=60.0, real_time=60.0)) == {}
    assert list(found(meta("Spectrum", live_time=60.0, real_time=50.0))) == ["Live Time"]
    assert list(found(meta("Spectrum", dead_time=101.0))) == ["Dead Time"]
    assert found(meta("Spectrum", live_time=60.0, real_time=0.0)) == {}, "zero is what vendors write for unknown"


def test_the_instruments_own_range() -> None:
    assert found(meta(acceleration_voltage=300.4), (60, 300)) == {}
    reason = found(meta(acceleration_voltage=30.0), (60, 300))["Acceleration Voltage"]
    assert reason == "30 kV, but the instrument has 60 to 300 kV"


@pytest.mark.parametrize(
    ("taken", "reason"),
    [
        (MODIFIED + timedelta(hours=20), ""),
        (MODIFIED + timedelta(days=2), "it lies after 2026-03-04T21:00:00+00:00, when the file was last written"),
        (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01 is older than digital microscopes: the clock had stopped"),
    ],
)
def test_times_in_files(taken: datetime, reason: str) -> None:
    told = meta() | {"Creation Time": taken.isoformat()}
    assert found(told).get("Creation Time", "") == reason
    told["Extraction Details"] = {"Creation Time From": "modification time"}
    assert found(told) == {}


def test_nothing_known_nothing_doubted() -> None:
    bare = meta(shape="", operator="x")
    del bare["Data Dimensions"]
    assert found(bare) == {}


def test_the_asset_names_doubtful_files_and_goes_on(built: Facility, instance: DagsterInstance) -> None:
    path = built.folder / "instruments.yaml"
    content = yaml.safe_load(path.read_text())
    for entry in content["instruments"]:
        entry["voltage_kv"] = [100, 300]
    path.write_text(yaml.safe_dump(content))
    result = built.materialise(instance, CERAMIC)
    assert result.success
    outcomes = {
        e.asset_check_evaluation_data.check_name: e.asset_check_evaluation_data
        for e in result.all_events
        if e.event_type_value == "ASSET_CHECK_EVALUATION"
    }
    plausible = outcomes["metadata_plausible"]
    assert (plausible.passed, plausible.severity.value) == (False, "WARN")
    assert "ZTA area.msa, Acceleration Voltage: 10 kV, but the instrument has 100 to 300 kV" in plausible.description
    assert outcomes["times_inside_session"].passed
    (dataset,) = (each for each in built.store.datasets(CERAMIC) or () if each.name == "ZTA area.msa")
    assert {
        "field": "Acceleration Voltage",
        "reason": "10 kV, but the instrument has 100 to 300 kV",
    } in dataset.nx_meta["warnings"]
