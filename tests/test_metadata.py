"""Checked metadata: units, dimensions, and values that do not fit."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuslims_pipeline.metadata.checked import checked_metadata, plain
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.units import SYMBOLS, quantity, symbol, unit_registry
from nexuslims_pipeline.signals import Signal, Source

SOURCE = Source(Path("/a.dm3"), datetime(2026, 3, 2, 17, tzinfo=UTC), 10, time_zone="America/Denver")


def checked(signal: Signal) -> dict[str, Any]:
    meta = checked_metadata(signal, SOURCE, "reader", "1")
    json.dumps(meta, allow_nan=False)
    return meta


def test_symbols_are_those_of_pint() -> None:
    assert {name: f"{unit_registry().Unit(name):~}".replace("μ", "µ") for name in SYMBOLS} == SYMBOLS
    preferred = {str(unit_registry().Unit(field.unit)) for field in FIELDS.values() if field.unit}
    assert preferred <= SYMBOLS.keys(), "the units that records are full of need no pint"
    assert (symbol("dimensionless"), symbol("torr")) == ("", "torr")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(300_000, "V", 300.0), (0.3, "MV", 300.0), (300, "kV", 300.0), (200000.1, "V", 200.0001)],
)
def test_fields_come_in_their_preferred_unit(value: float, unit: str, expected: float) -> None:
    meta = checked(Signal("Image", "TEM_Imaging", fields={"acceleration_voltage": quantity(value, unit)}))
    assert meta["acceleration_voltage"] == {"value": expected, "unit": "kilovolt"}


@pytest.mark.parametrize(
    "wrong", [5, "5 kV", float("nan"), None, lambda: quantity(5, "second")], ids=["bare", "text", "nan", "none", "time"]
)
def test_wrong_value_becomes_an_extension_with_a_warning(wrong: Any) -> None:
    value = wrong() if callable(wrong) else wrong
    meta = checked(Signal("Image", "TEM_Imaging", fields={"acceleration_voltage": value, "magnification": 5000}))
    assert "acceleration_voltage" not in meta
    assert meta["magnification"] == 5000
    assert [w["field"] for w in meta["warnings"]] == ["Acceleration Voltage"]
    assert value is None or "Acceleration Voltage" in meta["extensions"]


def test_field_of_another_type_is_an_extension() -> None:
    meta = checked(Signal("Diffraction", "TEM_Diffraction", fields={"magnification": 5000}))
    assert (meta["extensions"], meta["warnings"]) == ({"Magnification": 5000}, [])


def test_field_and_extension_of_one_name_are_both_kept() -> None:
    signal = Signal("Diffraction", "x", fields={"magnification": 5000}, extensions={"Magnification": "5k"})
    assert checked(signal)["extensions"] == {"Magnification": 5000, "Magnification (vendor)": "5k"}


def test_creation_time_says_where_it_comes_from() -> None:
    none = checked(Signal("Image", "x"))
    naive = checked(Signal("Image", "x", acquired=datetime(2026, 3, 2, 9)))
    aware = checked(Signal("Image", "x", acquired=datetime(2026, 3, 2, 16, tzinfo=UTC) + timedelta(minutes=1)))
    assert none["Creation Time"] == "2026-03-02T10:00:00-07:00"
    assert none["Extraction Details"]["Creation Time From"] == "modification time"
    assert naive["Creation Time"] == "2026-03-02T09:00:00-07:00"
    assert aware["Creation Time"] == "2026-03-02T09:01:00-07:00"
    assert aware["Extraction Details"]["Creation Time From"] == "file"


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.text()),
    max_leaves=20,
)


@given(JSON_LIKE)
def test_anything_becomes_json(value: Any) -> None:
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == plain(plain(value))
