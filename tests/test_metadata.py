"""Checked metadata: units, dimensions, and values that do not fit."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexuslims_pipeline.metadata.checked import checked_metadata, plain
from nexuslims_pipeline.metadata.fields import FIELDS
from nexuslims_pipeline.metadata.linked import context
from nexuslims_pipeline.metadata.models import MODELS, json_schema
from nexuslims_pipeline.metadata.personal import is_personal, part_persons, without_persons
from nexuslims_pipeline.metadata.units import SYMBOLS, quantity, symbol, unit_registry
from nexuslims_pipeline.records.parameters import parameters
from nexuslims_pipeline.signals import DatasetType, Signal, Source

SOURCE = Source(Path("/a.dm3"), datetime(2026, 3, 2, 17, tzinfo=UTC), 10, time_zone="America/Denver")


def checked(signal: Signal, source: Source = SOURCE) -> dict[str, Any]:
    meta = checked_metadata(signal, source, "reader", "1")
    again = MODELS[meta["DatasetType"]].model_validate(json.loads(json.dumps(meta, allow_nan=False)))
    assert again.model_dump(by_alias=True, exclude_none=True) == meta
    return meta


def test_symbols_are_those_of_pint() -> None:
    assert {
        name: f"{unit_registry().Unit(name):~}".replace("μ", "µ").replace(" / ", "/") for name in SYMBOLS
    } == SYMBOLS
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
    "wrong",
    [5, "5 kV", float("nan"), None, True, {"value": 5, "unit": "no unit"}, lambda: quantity(5, "second")],
    ids=["bare", "text", "nan", "none", "bool", "unit", "time"],
)
def test_wrong_value_becomes_an_extension_with_a_warning(wrong: Any) -> None:
    value = wrong() if callable(wrong) else wrong
    meta = checked(Signal("Image", "TEM_Imaging", fields={"acceleration_voltage": value, "magnification": 5000}))
    assert "acceleration_voltage" not in meta
    assert meta["magnification"] == 5000
    assert [w["field"] for w in meta["warnings"]] == ["Acceleration Voltage"]
    assert value is None or "Acceleration Voltage" in meta["extensions"]


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("frames", 8.0, 8),
        ("frames", "8", 8),
        ("frames", 8.5, None),
        ("magnification", True, None),
        ("magnification", float("inf"), None),
        ("magnification", "5000", 5000.0),
        ("elements", ["Fe", "O", "Fe"], ["Fe", "O"]),
        ("elements", "Fe, O", ["Fe", "O"]),
        ("elements", ["Fe Ka"], None),
        ("elements", 26, None),
        ("binning", 2, "2"),
        ("detector_type", ["ETD", "TLD"], "ETD, TLD"),
        ("detector_type", {"Name": "ETD"}, None),
        ("detector_type", False, None),
        ("acceleration_voltage", {"value": 300_000, "unit": "volt"}, {"value": 300.0, "unit": "kilovolt"}),
    ],
)
def test_every_kind_of_value_is_checked(name: str, given: Any, kept: Any) -> None:
    meta = checked(Signal("Image", "TEM_Imaging", fields={name: given}))
    assert meta.get(name) == kept
    assert [warning["field"] for warning in meta["warnings"]] == ([FIELDS[name].display_name] if kept is None else [])
    assert type(meta.get(name)) is type(kept)


def test_a_type_that_there_is_not_costs_the_type() -> None:
    hologram: Any = "Hologram"
    meta = checked(Signal(hologram, "", fields={"acceleration_voltage": quantity(300, "kV")}))
    assert (meta["DatasetType"], meta["Data Type"]) == ("Unknown", "Unknown")
    assert meta["acceleration_voltage"]["value"] == 300
    assert meta["warnings"][0]["field"] == "DatasetType"


def test_schema_and_table_tell_of_every_field_once() -> None:
    schema = json_schema()
    names = [field.display_name for field in FIELDS.values()]
    assert len(set(names)) == len(names)
    for name, field in FIELDS.items():
        assert field.meaning.endswith(".")
        told: DatasetType
        for told in MODELS:
            assert (name in schema["$defs"][told]["properties"]) is (told in field.types), (name, told)
    voltage = schema["$defs"]["Image"]["properties"]["acceleration_voltage"]
    assert voltage["properties"]["unit"] == {"const": "kilovolt"}
    assert schema["$defs"]["Image"]["additionalProperties"] is False


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


def test_summer_time_leaves_hours_out_and_repeats_others() -> None:
    def taken(moment: datetime, modified: datetime, offset: float = 0) -> tuple[str, list[str]]:
        source = Source(SOURCE.path, modified, 10, time_zone="America/Denver", clock_offset_seconds=offset)
        meta = checked(Signal("Image", "x", acquired=moment), source)
        return meta["Creation Time"], [warning["field"] for warning in meta["warnings"]]

    gap, repeated = datetime(2026, 3, 8, 2, 30), datetime(2026, 11, 1, 1, 30)
    after = datetime(2026, 12, 1, tzinfo=UTC)
    assert taken(gap, after) == ("2026-03-08T03:30:00-06:00", ["Creation Time"])
    assert taken(repeated, after) == ("2026-11-01T01:30:00-07:00", ["Creation Time"])
    assert taken(repeated, datetime(2026, 11, 1, 7, 31, tzinfo=UTC)) == ("2026-11-01T01:30:00-06:00", ["Creation Time"])
    assert taken(datetime(2026, 11, 1, 3), after, 5400) == ("2026-11-01T01:30:00-07:00", []), "the clock was ahead"


# JSON-LD


def triples(element: dict[str, Any]) -> set[tuple[str, ...]]:
    """What a JSON-LD processor makes of an element, as far as our contexts go: (path of predicates …, object)."""
    terms = element["@context"]

    def iri(term: str) -> str | None:
        meaning = terms.get(term)
        return meaning["@id"] if isinstance(meaning, dict) else meaning

    def expanded(node: dict[str, Any]) -> set[tuple[str, ...]]:
        found = set()
        for key, value in node.items():
            predicate = iri(key)
            if key == "@context" or predicate is None:
                continue
            if predicate == "@nest":
                found |= expanded(value)
            elif isinstance(value, dict):
                found |= {(predicate, *rest) for rest in expanded(value)}
            elif isinstance(terms[key], dict) and terms[key]["@type"] == "@vocab":
                found.add((predicate, iri(value) or ""))
            else:
                found.add((predicate, str(value)))
        return found

    return expanded(element)


def test_an_element_means_the_same_to_others() -> None:
    fields = {"acceleration_voltage": quantity(200_000, "V"), "pixel_width": quantity(2, "nm"), "operator": "jdoe"}
    meta = checked(Signal("Image", "x", acquired=datetime(2026, 3, 2, 9), fields=fields))
    element = {"@context": context(meta), "nx_meta": meta, "original_metadata": {"value": 5}}
    emg, qudt = "https://purls.helmholtz-metadaten.de/emg/v2.0.0/EMG_00000004", "http://qudt.org/schema/qudt/"
    assert triples(element) == {
        ("http://purl.org/dc/terms/created", "2026-03-02T09:00:00-07:00"),
        (emg, f"{qudt}numericValue", "200.0"),
        (emg, f"{qudt}hasUnit", "http://qudt.org/vocab/unit/KiloV"),
    }
    assert not {"pixel_width", "operator"} & element["@context"].keys(), "they have no public term"
    assert element["@context"]["nanometer"] == "http://qudt.org/vocab/unit/NanoM"


def test_no_term_looks_like_an_address() -> None:
    """JSON-LD refuses a context with such a term."""
    for name, field in FIELDS.items():
        value = {"value": 1.0, "unit": str(unit_registry().Unit(field.unit))} if field.unit else "x"
        assert not [term for term in context({name: value}) if ":" in term or "/" in term], name


# Personal data


@pytest.mark.parametrize(
    "name",
    ["UserName", "User Name", "SV_USER_NAME", "Core/UserID", "$CM_OPERATOR", "OWNER", "User", "E-Mail", "ComputerName",
     "Last Modified By", "XPAuthor", "USERNAME", "Header/Author", "HostComputer", "CreatedBy"],
)  # fmt: skip
def test_names_of_personal_values(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize(
    ("groups", "name"),
    [((), "User Text"), ((), "UserMode"), ((), "Use Beam"), ((), "DP_USER"), ((), "Operation Mode"), ((), "Host"),
     (("Calibration",), "Author"), (("Filter",), "Operator"), (("Font",), "FamilyName"), (("Microscope",), "Name"),
     ((), "Specimen"), ((), "Owner ID"), ((), "Microphone"), (("User",), "Date")],
)  # fmt: skip
def test_names_of_science(groups: tuple[str, ...], name: str) -> None:
    assert not is_personal(name, groups)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (r"C:\Users\jdoe\data\a.dm3", r"C:\Users\…\data\a.dm3"),
        ("D:/Documents and Settings/J Doe/a.tif", "D:/Documents and Settings/…/a.tif"),
        (r"C:\Users\Public\a.dm3", r"C:\Users\Public\a.dm3"),
        ("file /home/jdoe/a.hspy", "file /home/…/a.hspy"),
        ("ask j.doe@lab.example.org for it", "ask … for it"),
        ("15kV@10.5mm", "15kV@10.5mm"),
        ("<UserName>jdoe</UserName><UserText>hi</UserText>", "<UserName>…</UserName><UserText>hi</UserText>"),
        ("Operator = jdoe\nMode = TEM", "Operator = …\nMode = TEM"),
    ],
)  # fmt: skip
def test_persons_within_texts(text: str, kept: str) -> None:
    assert without_persons(text) == kept
    assert without_persons(kept) == kept


def test_a_name_that_was_found_is_looked_for_in_the_vendors_tree() -> None:
    native = {"430": "jdoe", "Info": "User jdoe\u2028Gun FEG", "8": "Terms agreed by = jdoe", "Note": "by the jdoes"}
    element = {"nx_meta": {"operator": "jdoe", "microscope": "JDOE", "extensions": {}}, "original_metadata": native}
    parted, _ = part_persons(element)
    assert parted["nx_meta"]["microscope"] == "JDOE"
    assert parted["original_metadata"] == {
        "430": "…",
        "Info": "User …\u2028Gun FEG",
        "8": "Terms agreed by = …",
        "Note": "by the jdoes",
    }


def test_what_tells_of_persons_is_found_wherever_it_stands() -> None:
    element = {
        "nx_meta": {
            "operator": "Charlotte", "specimen": "Charlotte's steel", "spot_size": 3.0,
            "extensions": {"Login": {"User ID": 17, "Level": 3}, "Images": "D:\\data\\charlotte\\steel\\a.tif"},
        },
        "original_metadata": {
            "User": {"User": "Charlotte", "User Text": "at the edge"},
            "List": [{"Label": "Operator", "Value": "Charlotte"}, {"Label": "Mode", "Value": "TEM"}],
            "Authors": ["C. Doe"], "a/b": {"Computer": "-"},
        },
    }  # fmt: skip
    parted, places = part_persons(element)
    assert parted == {
        "nx_meta": {
            "specimen": "Charlotte's steel", "spot_size": 3.0,
            "extensions": {"Login": {"Level": 3}, "Images": "D:\\data\\…\\steel\\a.tif"},
        },
        "original_metadata": {
            "User": {"User Text": "at the edge"},
            "List": [{"Label": "Operator"}, {"Label": "Mode", "Value": "TEM"}],
            "a/b": {"Computer": "-"},
        },
    }  # fmt: skip
    assert places == [
        "/nx_meta/extensions/Images",
        "/nx_meta/extensions/Login/User ID",
        "/nx_meta/operator",
        "/original_metadata/Authors",
        "/original_metadata/List/0/Value",
        "/original_metadata/User/User",
    ]


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.sets(st.text()),
    max_leaves=20,
)


@given(JSON_LIKE)
def test_anything_becomes_json(value: Any) -> None:
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == plain(plain(value))


# What readers of other people may give


@pytest.mark.parametrize(
    "unit", ["10**10**10", "m**9**9**9", "(m**99)**99", "m⁹⁹⁹⁹⁹", "minute**9_9_9_9_9_9", "kV" * 50, "furlongs & co"]
)
def test_text_that_is_no_unit_is_refused_at_once(unit: str) -> None:
    """Pint would work on some of these for hours."""
    meta = checked(Signal("Image", "x", fields={"stage_x": {"value": 1, "unit": unit}}))
    assert meta["warnings"][0]["reason"].endswith("is no unit")
    assert [(each.text, each.unit_symbol) for each in parameters(meta) if each.name == "Stage X"] == [("1", unit)]


def test_numbers_of_numpy_have_no_digits_that_they_never_had() -> None:
    field, extension = quantity(1, "V") * np.float32(3300.1), [np.float32(0.1), np.array([0.1], "f4"), np.int16(3)]
    meta = checked(Signal("Image", "x", fields={"acceleration_voltage": field}, extensions={"E": extension}))
    assert (meta["acceleration_voltage"]["value"], meta["extensions"]["E"]) == (3.3001, [0.1, [0.1], 3])


@pytest.mark.parametrize("unit", ["", "percent", "count", "sr"])
def test_an_angle_is_no_plain_number(unit: str) -> None:
    meta = checked(Signal("Image", "x", fields={"stage_tilt": quantity(1, unit), "magnification": quantity(1, "deg")}))
    assert {warning["field"] for warning in meta["warnings"]} == {"Stage Tilt", "Magnification"}


def test_degrees_celsius_have_another_zero() -> None:
    meta = checked(Signal("Image", "x", fields={"temperature": quantity(25, "degC")}))
    assert meta["temperature"] == {"value": 298.15, "unit": "kelvin"}


@pytest.mark.parametrize("acquired", [datetime(1, 1, 1), datetime(9999, 12, 31, 23), datetime(1601, 1, 1, tzinfo=UTC)])
def test_a_date_at_the_end_of_time_is_a_placeholder(acquired: datetime) -> None:
    meta = checked(Signal("Image", "x", acquired=acquired))
    assert meta["Extraction Details"]["Creation Time From"] == "modification time"
    assert "which is a placeholder" in meta["warnings"][0]["reason"]


def test_endless_values_end() -> None:
    values = {"List": list(range(20_000)), "Array": np.arange(20_000), "Number": 10**6000, "Text": "x" * 30_000}
    extensions = checked(Signal("Image", "x", extensions=values))["extensions"]
    assert (len(extensions["List"]), extensions["List"][-1]) == (10_001, "… (20000 in all)")
    assert extensions["Array"] == extensions["List"]
    assert extensions["Number"] == "1.00000000000000e+6000"
    assert extensions["Text"].endswith("… (cut)")
