"""Records: what they say, that nothing is lost on the way, and that both schema files agree on them."""

import copy
import os
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from nexuslims_pipeline.activities.model import Activity
from nexuslims_pipeline.files import display_name, to_location
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.metadata.elements import ELEMENTS
from nexuslims_pipeline.records.build import build_record
from nexuslims_pipeline.records.parameters import Parameter, number_text, parameters, split
from nexuslims_pipeline.records.schema import NAMESPACE, SCHEMA_FILE, SchemaFault, validate
from nexuslims_pipeline.records.text import clean, token
from nexuslims_pipeline.sessions.model import Person, Project, Sample, Session, SessionState

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
REFERENCE = CORPUS.parent / "reference"
PUBLISHED = REFERENCE / "nexus-experiment.xsd"
needs_published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published schema is not here")

XS = "{http://www.w3.org/2001/XMLSchema}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
NS = {"nx": NAMESPACE}

SESSION = Session(
    key="2026-03-02_FEI-Titan-STEM_nemo-4711",
    instrument_id="FEI-Titan-STEM",
    server="nemo",
    usage_event_id=4711,
    start=datetime(2026, 3, 2, 16, 5, tzinfo=UTC),
    end=datetime(2026, 3, 2, 19, 41, tzinfo=UTC),
    state=SessionState.READY,
    tier="run_data",
    title="Precipitates in <7075> & others",
    motivation="Compare T6\nand overaged",
    user=Person(username="ada", first_name="Ada", last_name="Adeyemi"),
    operator=Person(username="bo", first_name="Bo", last_name="Berg"),
    project=Project(project_id="AL-4", name="Aluminium"),
    samples=(
        Sample(
            id="s-1",
            name="T6-a",
            description="twin-jet foil\n\nfrom  sheet",
            elements=("Al", "Zn", "Al", "Xx"),
        ),
        Sample(id="s-2", pid="hdl:20.500/abc-17"),
    ),
    link="https://nemo.example.org/event_details/usage/4711/",
)
REFUSED = [
    InventoryEntry("/Titan/b%20.dm3", "refused", "It is a link that leads out of the root."),
    InventoryEntry("/Titan/a&b.dm3", "contested", "Session 12 of <bo> claims it too."),
]


def volts(value: float, unit: str = "kilovolt") -> dict[str, Any]:
    return {"value": value, "unit": unit}


def dataset(name: str, second: int = 0, index: int = 0, **more: Any) -> Dataset:
    nx_meta = {
        "DatasetType": "Image",
        "Data Type": "STEM_Imaging",
        "Creation Time": f"2026-03-02T09:10:{second:02}-07:00",
        "extensions": {},
        "warnings": [],
        "Extraction Details": {"Reader": "digital_micrograph"},
        **more,
    }
    location = f"/Titan/{name}"
    return Dataset(location, 0, 1, index, 1, name, "DM3", "", f"{location}.thumb.png", nx_meta)


def activity(*datasets: Dataset, start: int = 1_772_467_800) -> Activity:
    locations = tuple(dict.fromkeys(each.location for each in datasets))
    return Activity(start * 10**9 + 987_654_321, start * 10**9, locations)


def record(
    *datasets: Dataset,
    session: Session = SESSION,
    name: str = "FEI Titan",
    zone: str = "America/Denver",
    refused: list[InventoryEntry] | None = None,
) -> bytes:
    return build_record(session, name, zone, datasets, [activity(*datasets)], refused or [])


def read(xml: bytes) -> Any:
    assert validate(xml) == []
    return etree.fromstring(xml)


def texts(root: Any, path: str) -> list[str]:
    return [each if isinstance(each, str) else each.text or "" for each in root.xpath(path, namespaces=NS)]


def by_name(items: list[Parameter]) -> dict[str, Parameter]:
    assert len({item.name for item in items}) == len(items)
    return {item.name: item for item in items}


FULL = [
    dataset(
        "a.dm3",
        1,
        acceleration_voltage=volts(300.0),
        magnification={"value": 13000.0, "unit": "dimensionless"},
        specimen=" t6-A ",
        extensions={"EDS": {"Live Time": {"value": 0.1 + 0.2, "unit": "second"}}, "Spot": 2},
        warnings=[{"field": "EDS – Live Time", "reason": "The clock was off."}],
    ),
    dataset("b.dm3", 2, acceleration_voltage=volts(300_000, "volt"), extensions={"Spot": 2, "Notch": True}),
]


# --- the record ---------------------------------------------------------------------------------------------


def test_record_in_full() -> None:
    alone = dataset("c.dm3", 3, elements=["Fe", "Cr"], scan_rotation={"value": 1e-07, "unit": "degree"})
    activities = [activity(*FULL), activity(alone, start=1_772_468_800)]
    xml = build_record(SESSION, "FEI Titan", "America/Denver", [alone, *FULL[::-1]], activities, REFUSED)
    assert validate(xml) == []
    assert xml.decode() == GOLDEN


GOLDEN = """\
<?xml version='1.0' encoding='UTF-8'?>
<Experiment xmlns="https://data.nist.gov/od/dm/nexus/experiment/v1.0" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" pid="2026-03-02_FEI-Titan-STEM_nemo-4711">
  <title>Precipitates in &lt;7075&gt; &amp; others</title>
  <id>4711</id>
  <summary ref="https://nemo.example.org/event_details/usage/4711/">
    <experimenter>Ada Adeyemi (ada)</experimenter>
    <collaborator>Bo Berg (bo)</collaborator>
    <instrument pid="FEI-Titan-STEM">FEI Titan</instrument>
    <reservationStart>2026-03-02T09:05:00-07:00</reservationStart>
    <reservationEnd>2026-03-02T12:41:00-07:00</reservationEnd>
    <motivation>Compare T6
and overaged</motivation>
  </summary>
  <sample id="s-1">
    <name>T6-a</name>
    <description>twin-jet foil</description>
    <description>from sheet</description>
    <elements>
      <Al/>
      <Zn/>
    </elements>
  </sample>
  <sample id="s-2" ref="hdl:20.500/abc-17"/>
  <project>
    <name>Aluminium</name>
    <project_id>AL-4</project_id>
  </project>
  <acquisitionActivity seqno="0">
    <startTime>2026-03-02T09:10:00-07:00</startTime>
    <sampleID>s-1</sampleID>
    <setup>
      <param name="Acceleration Voltage" unit="kV">300</param>
      <param name="Data Type">STEM_Imaging</param>
      <param name="Extraction Details – Reader">digital_micrograph</param>
      <param name="Spot">2</param>
    </setup>
    <notes source="nexuslims-pipeline">
      <entry xsi:type="TextEntry">
        <p>EDS – Live Time: The clock was off.</p>
      </entry>
    </notes>
    <dataset type="Image" role="Experimental">
      <name>a.dm3</name>
      <location>/Titan/a.dm3</location>
      <format>DM3</format>
      <preview>/Titan/a.dm3.thumb.png</preview>
      <meta name="Creation Time">2026-03-02T09:10:01-07:00</meta>
      <meta name="EDS – Live Time" unit="s" warning="true">0.3</meta>
      <meta name="Magnification">13000</meta>
      <meta name="Specimen">t6-A</meta>
    </dataset>
    <dataset type="Image" role="Experimental">
      <name>b.dm3</name>
      <location>/Titan/b.dm3</location>
      <format>DM3</format>
      <preview>/Titan/b.dm3.thumb.png</preview>
      <meta name="Creation Time">2026-03-02T09:10:02-07:00</meta>
      <meta name="Notch">True</meta>
    </dataset>
  </acquisitionActivity>
  <acquisitionActivity seqno="1">
    <startTime>2026-03-02T09:26:40-07:00</startTime>
    <setup/>
    <dataset type="Image" role="Experimental">
      <name>c.dm3</name>
      <location>/Titan/c.dm3</location>
      <format>DM3</format>
      <preview>/Titan/c.dm3.thumb.png</preview>
      <meta name="Creation Time">2026-03-02T09:10:03-07:00</meta>
      <meta name="Data Type">STEM_Imaging</meta>
      <meta name="Elements">Fe, Cr</meta>
      <meta name="Extraction Details – Reader">digital_micrograph</meta>
      <meta name="Scan Rotation" unit="deg">1e-07</meta>
    </dataset>
  </acquisitionActivity>
  <notes source="nexuslims-pipeline">
    <entry xsi:type="TableEntry">
      <table>
        <title>Files of this session that are not in the record</title>
        <header>
          <column id="location">Location</column>
          <column id="status">Status</column>
          <column id="reason">Reason</column>
        </header>
        <rows>
          <row seqno="0">
            <cell colid="location">/Titan/a&amp;b.dm3</cell>
            <cell colid="status">contested</cell>
            <cell colid="reason">Session 12 of &lt;bo&gt; claims it too.</cell>
          </row>
          <row seqno="1">
            <cell colid="location">/Titan/b%20.dm3</cell>
            <cell colid="status">refused</cell>
            <cell colid="reason">It is a link that leads out of the root.</cell>
          </row>
        </rows>
      </table>
    </entry>
  </notes>
</Experiment>
"""


def test_bare_session_has_a_title_and_no_empty_project() -> None:
    bare = SESSION.model_copy(
        update={
            "title": " \n",
            "project": Project(),
            "samples": (),
            "user": None,
            "operator": None,
            "motivation": "",
        }
    )
    root = read(build_record(bare, "FEI Titan", "Asia/Tokyo", [], [], []))
    assert texts(root, "nx:title") == ["Experiment on the FEI Titan on Tuesday Mar. 03, 2026"]
    assert [etree.QName(child).localname for child in root] == ["title", "id", "summary"]
    assert texts(root, "//nx:reservationStart") == ["2026-03-03T01:05:00+09:00"]


def test_answers_of_a_reservation_give_its_number() -> None:
    session = SESSION.model_copy(update={"tier": "reservation", "reservation_id": 77})
    assert texts(read(record(session=session)), "nx:id") == ["77"]


def test_operator_is_a_collaborator_only_beside_another_user() -> None:
    same = SESSION.model_copy(update={"operator": SESSION.user})
    assert texts(read(record(session=same)), "//nx:collaborator") == []


def test_times_follow_the_clock_change() -> None:
    """Clocks in Denver went from 02:00 to 03:00 on 8 March 2026, at 09:00 UTC."""
    session = SESSION.model_copy(
        update={"start": datetime(2026, 3, 8, 8, tzinfo=UTC), "end": datetime(2026, 3, 8, 10, tzinfo=UTC)}
    )
    root = read(record(session=session))
    assert texts(root, "//nx:reservationStart") == ["2026-03-08T01:00:00-07:00"]
    assert texts(root, "//nx:reservationEnd") == ["2026-03-08T04:00:00-06:00"]


@pytest.mark.parametrize(
    ("names", "specimens", "expected"),
    [
        (["one"], [None, "another"], ["0"]),
        ([None], [None], ["0"]),
        (["one", "Two"], ["two ", " TWO", None, " "], ["1"]),
        (["one", "two"], ["one", "two"], []),
        (["one", "two"], [None, None], []),
        (["one", "ONE"], ["one"], []),
        (["one", None], ["three"], []),
        ([], ["one"], []),
    ],
)
def test_sample_of_an_activity(names: list[str | None], specimens: list[str | None], expected: list[str]) -> None:
    samples = tuple(Sample(id=str(number), name=name) for number, name in enumerate(names))
    datasets = [
        dataset(f"{number}.dm3", **({} if specimen is None else {"specimen": specimen}))
        for number, specimen in enumerate(specimens)
    ]
    root = read(record(*datasets, session=SESSION.model_copy(update={"samples": samples})))
    assert texts(root, "//nx:sampleID") == expected


def test_signals_of_a_file_stay_together_in_their_order() -> None:
    signals = [replace(dataset("a.dm4", index=index), name=f"a.dm4 ({index + 1} of 3)") for index in (2, 0, 1)]
    root = read(record(dataset("z.dm3"), *signals))
    assert texts(root, "//nx:dataset/nx:name") == ["z.dm3", *(f"a.dm4 ({n} of 3)" for n in (1, 2, 3))]


def test_no_file_is_lost_in_silence() -> None:
    with pytest.raises(ValueError, match=r"1 file\(s\) belong to no activity, the first is /Titan/b\.dm3"):
        build_record(SESSION, "FEI Titan", "UTC", FULL, [activity(FULL[0])], [])
    root = read(build_record(SESSION, "FEI Titan", "UTC", FULL[:1], [activity(*FULL)], []))
    assert "/Titan/b.dm3: no dataset could be read from this file" in texts(root, "//nx:p")


def test_same_input_gives_the_same_bytes() -> None:
    def reverse(tree: Any) -> Any:
        return {key: reverse(tree[key]) for key in reversed(tree)} if isinstance(tree, dict) else tree

    turned = [replace(each, nx_meta=reverse(each.nx_meta)) for each in FULL]
    again = build_record(SESSION, "FEI Titan", "UTC", turned[::-1], [activity(*FULL)], REFUSED[::-1])
    assert again == build_record(SESSION, "FEI Titan", "UTC", FULL, [activity(*FULL)], REFUSED)


def test_elements_are_those_of_the_schema() -> None:
    everything = Sample(id="s", elements=(*sorted(ELEMENTS), "Fe", "fe", "Uue", "<"))
    root = read(record(session=SESSION.model_copy(update={"samples": (everything,)})))
    assert len(root.find(".//nx:elements", NS)) == 118


# --- text from outside --------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(
    [
        'A&B <c> &amp; "d" \']]>',
        "\x00\x0b\x1f\x7f\x85",
        "\ud800 \udfff",
        "\ufffe\uffff",
        "a\r\nb\tc \n",
        "é" * 127 + "x",
    ]
)


def test_cleaning() -> None:
    assert clean("a\x00b\ud800\uffff\r\nc\rd\te") == "a\ufffdb\ufffd\ufffd\nc\nd\te"
    assert token(" a\t\r\n b\x00\u00a0 ") == "a b\ufffd\u00a0"


@given(title=ANY_TEXT, name=ANY_TEXT, key=ANY_TEXT, value=ANY_TEXT, description=ANY_TEXT, reason=ANY_TEXT)
def test_any_text_reads_back(title: str, name: str, key: str, value: str, description: str, reason: str) -> None:
    session = SESSION.model_copy(
        update={
            "title": title,
            "motivation": description,
            "user": Person.model_construct(username=name, first_name="", last_name=""),
            "samples": (Sample.model_construct(id=name, name=name, pid=key, description=description, elements=()),),
            "project": Project.model_construct(name=name, project_id=value),
        }
    )
    warnings = [{"field": key, "reason": reason}]
    item = replace(
        dataset("x", extensions={key: value}, warnings=warnings),
        name=name,
        description=description,
        format=value,
    )
    refused = [InventoryEntry(to_location(Path("x")), "refused", reason)]
    xml = record(item, session=session, name=name, refused=refused)
    root = read(xml)
    if PUBLISHED.exists():
        assert faults(published(), root) == []
    if token(title):
        assert texts(root, "nx:title") == [token(title)]
    assert texts(root, "//nx:dataset/nx:name") == [clean(name)]
    assert texts(root, "//nx:cell[@colid='reason']") == [token(reason)]
    assert texts(root, "nx:sample/@id") == [clean(name)]
    (meta,) = (each for each in root.iterfind(".//nx:meta", NS) if each.get("warning"))
    assert meta.get("name").removesuffix(" (vendor)") == (token(key) or "(unnamed)")
    assert (meta.text or "") == token(value)
    for path in ("//nx:motivation", "//nx:dataset/nx:description"):
        assert texts(root, path) in ([clean(description)], [])


@given(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47} and name not in {b".", b".."}))
def test_any_file_name(name: bytes) -> None:
    path = Path("Titan") / os.fsdecode(name)
    item = replace(dataset("x"), name=display_name(path), location=to_location(path))
    root = read(record(item))
    assert texts(root, "//nx:location") == [to_location(path)]
    assert texts(root, "//nx:dataset/nx:name") == [clean(name.decode("utf-8", "replace"))]


# --- parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (300, "300"),
        (300.0, "300"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (177.3544464111328, "177.3544464"),
        (8.14174999999999, "8.14175"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1e15, "1000000000000000"),
        (1e16, "1e+16"),
        (sys.float_info.max, "1.7976931348623157e+308"),
    ],
)
def test_number_text(number: float, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_text_keeps_ten_digits(number: float) -> None:
    assert float(number_text(number)) == pytest.approx(number, rel=1e-9, abs=5e-324)


def test_values_and_units() -> None:
    found = by_name(
        parameters(
            {
                "extensions": {
                    "Width": {"value": 2.0, "unit": "micrometer"},
                    "Ranges": [volts(1.0), volts(2.5)],
                    "Matrix": [[1, 2], [3.0, 4]],
                    "Peaks": [{"At": 1}, {"At": 2}],
                    "Profile": {"value": [0, 1.0, 2.5], "unit": "nanometer"},
                    "Odd": {"value": "nan", "unit": "volt"},
                    "Strange": {"value": 1, "unit": "furlongs & co"},
                    "Nothing": None,
                    "Empty": [],
                }
            }
        )
    )
    assert {name: (each.text, each.unit_symbol) for name, each in found.items()} == {
        "Width": ("2", "µm"),
        "Ranges": ("1 kV, 2.5 kV", ""),
        "Matrix": ("(1, 2), (3, 4)", ""),
        "Peaks – 1 – At": ("1", ""),
        "Peaks – 2 – At": ("2", ""),
        "Profile": ("0, 1, 2.5", "nm"),
        "Odd": ("nan", "V"),
        "Strange": ("1", "furlongs & co"),
        "Empty": ("", ""),
    }


def test_names_that_clash_lose_nothing() -> None:
    nx_meta = {
        "detector_type": "HAADF",
        "extensions": {
            "Detector": "vendor's",
            "Detector\x00": "1",
            "Detector\x01": "2",
            "A": {"B": 1},
            "A – B": 2,
        },
    }
    assert [(each.name, each.text) for each in parameters(nx_meta)] == [
        ("A – B", "1"),
        ("A – B (vendor)", "2"),
        ("Detector", "HAADF"),
        ("Detector (vendor)", "vendor's"),
        ("Detector\ufffd", "1"),
        ("Detector\ufffd (vendor)", "2"),
    ]


def test_order_of_names() -> None:
    names = [each.name for each in parameters({"extensions": dict.fromkeys(["b", "a", "B", "A", "Äb", "_"], 1)})]
    assert names == ["_", "A", "a", "B", "b", "Äb"]


@pytest.mark.parametrize(
    ("field", "doubted"),
    [
        ("Acceleration Voltage", {"Acceleration Voltage"}),
        ("acceleration_voltage", {"Acceleration Voltage"}),
        ("EDS – Live Time", {"EDS – Live Time"}),
        ("EDS", {"EDS – Live Time", "EDS – Tube – Age"}),
        ("Tube", set()),
    ],
)
def test_doubts_reach_nested_values(field: str, doubted: set[str]) -> None:
    nx_meta = {
        "acceleration_voltage": volts(300),
        "extensions": {"EDS": {"Live Time": 1, "Tube": {"Age": 3}}, "Spot": 2},
        "warnings": [{"field": field, "reason": "Known to be wrong."}],
    }
    assert {each.name for each in parameters(nx_meta) if each.warning} == doubted


def test_setup_compares_quantities_by_value() -> None:
    def voltage(value: float, unit: str, **more: Any) -> list[Parameter]:
        return parameters({"extensions": {"HT": volts(value, unit)}, **more})

    setup, own = split([voltage(1, "kilovolt"), voltage(1000, "volt")])
    assert (setup, own) == (voltage(1, "kilovolt"), [[], []])
    for other in (
        voltage(1001, "volt"),
        voltage(1, "volt"),
        voltage(1, "kilometer"),
        voltage(1, "nonsense"),
        voltage(1, "dimensionless"),
        voltage(1, "kilovolt", warnings=[{"field": "HT", "reason": "?"}]),
    ):
        assert split([voltage(1, "kilovolt"), other]) == ([], [voltage(1, "kilovolt"), other])


SCALAR = (
    st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2).map(lambda number: round(number, 1))
    | st.sampled_from(["", "on", "300"])
    | st.builds(
        volts,
        st.sampled_from([1, 1000, 0.001]),
        st.sampled_from(["volt", "kilovolt", "meter", "dimensionless"]),
    )
)
NAME = st.sampled_from(["A", "a", "B", "B – C", "C", "Detector", "magnification", "Creation Time"])
NX_META = st.fixed_dictionaries(
    {
        "DatasetType": st.just("Image"),
        "Creation Time": st.just("2026-03-02T09:10:00-07:00"),
        "extensions": st.dictionaries(NAME, SCALAR | st.dictionaries(NAME, SCALAR, max_size=2), max_size=5),
        "warnings": st.lists(st.fixed_dictionaries({"field": NAME, "reason": st.just("why")}), max_size=2),
    },
    optional={"detector_type": st.just("HAADF"), "magnification": st.integers(1, 2)},
)


def leaf_count(tree: Any) -> int:
    nested = isinstance(tree, dict) and tree.keys() != {"value", "unit"}
    return sum(map(leaf_count, tree.values())) if nested else 1


@given(st.lists(NX_META, min_size=1, max_size=4))
def test_setup_and_own_parameters_are_all_there_is(trees: list[dict[str, Any]]) -> None:
    every = [parameters(tree) for tree in trees]
    for tree, found in zip(trees, every, strict=True):
        own = {key: value for key, value in tree.items() if key not in {"DatasetType", "warnings"}}
        assert len(by_name(found)) == leaf_count(own)
    setup, rest = split(every)
    assert "Creation Time" not in by_name(setup)
    assert setup == [] or len(trees) > 1
    for found, own in zip(every, rest, strict=True):
        joined = by_name([*setup, *own])
        assert joined.keys() == by_name(found).keys()
        for parameter in found:
            assert same_value(parameter, joined[parameter.name])
    if len(trees) > 1:
        for parameter in every[0]:
            everywhere = all(
                parameter.name in names and same_value(parameter, names[parameter.name])
                for names in map(by_name, every)
            )
            assert (parameter in setup) == (everywhere and parameter.name != "Creation Time")


def same_value(one: Parameter, other: Parameter) -> bool:
    """Whether two parameters mean the same, by arithmetic that the product does not use."""
    scale = {"kilovolt": ("volt", 1000.0)}
    (unit, factor), (other_unit, other_factor) = (scale.get(each.unit, (each.unit, 1.0)) for each in (one, other))
    if not unit or one.unit == other.unit:
        return (one.text, one.unit, one.warning) == (other.text, other.unit, other.warning)
    if unit != other_unit or one.warning != other.warning:
        return False
    return bool(float(one.text) * factor == pytest.approx(float(other.text) * other_factor))


# --- the schema ---------------------------------------------------------------------------------------------


@cache
def published() -> Any:
    return etree.XMLSchema(etree.parse(PUBLISHED))


@cache
def ours() -> Any:
    return etree.XMLSchema(etree.parse(SCHEMA_FILE))


def faults(schema: Any, root: Any) -> list[str]:
    schema.validate(root)
    return [fault.message for fault in schema.error_log]


def expanded(node: Any, name: str | None) -> str | None:
    """Expand a prefixed name of a schema file."""
    if name is None:
        return None
    prefix, _, local = name.rpartition(":")
    return f"{{{node.nsmap[prefix or None]}}}{local}"


def structure(path: Path) -> dict[str, Any]:
    """Every named type of a schema file: its base, groups, children, attributes and enumerated values."""
    root = etree.parse(path).getroot()
    found: dict[str, Any] = {
        "": [(each.get("name"), expanded(each, each.get("type"))) for each in root.findall(f"{XS}element")]
    }
    for kind in root.iterchildren(f"{XS}complexType", f"{XS}simpleType"):
        found[kind.get("name")] = {
            "base": [
                (each.tag, expanded(each, each.get("base")))
                for each in kind.iter(f"{XS}extension", f"{XS}restriction")
                if each.getparent().getparent().tag != f"{XS}attribute"
            ],
            "ordered": kind.find(f"{XS}all") is None,
            "children": [
                (
                    each.get("name"),
                    expanded(each, each.get("type")),
                    each.get("minOccurs", "1"),
                    each.get("maxOccurs", "1"),
                )
                for each in kind.iter(f"{XS}element")
            ],
            "attributes": sorted(
                (each.get("name"), attribute_type(each), each.get("use", "optional"))
                for each in kind.iter(f"{XS}attribute")
            ),
            "values": [each.get("value") for each in kind.iter(f"{XS}enumeration")],
        }
    return found


def attribute_type(attribute: Any) -> str:
    restriction = attribute.find(f"{XS}simpleType/{XS}restriction")
    named = attribute if restriction is None else restriction
    return expanded(named, named.get("type" if restriction is None else "base")) or "untyped"


@needs_published
def test_both_schemas_have_the_same_structure() -> None:
    mine = structure(SCHEMA_FILE)
    assert mine == structure(PUBLISHED)
    assert len(mine["PeriodicTableElementType"]["children"]) == 118
    for name in ("targetNamespace", "elementFormDefault", "attributeFormDefault"):
        assert len({etree.parse(path).getroot().get(name) for path in (SCHEMA_FILE, PUBLISHED)}) == 1


@needs_published
@pytest.mark.parametrize("path", sorted((REFERENCE / "example_records").glob("*.xml")), ids=lambda path: path.stem)
def test_records_of_the_existing_system_are_valid(path: Path) -> None:
    assert validate(path.read_bytes()) == []


@cache
def full_record() -> bytes:
    """Return a valid record that has every element and every attribute of the schema."""
    xml = build_record(SESSION, "FEI Titan", "America/Denver", FULL, [activity(*FULL)], REFUSED).decode()
    for before, after in (
        ("<project_id>", "<division>d</division><group>g</group><project_id>"),
        ("</project_id>", "</project_id><ref>https://example.org/p</ref>"),
        (
            "<elements>",
            '<notes><entry xsi:type="ImageEntry"><imageURL>a.png</imageURL></entry></notes><elements>',
        ),
        ("</dataset>", "<curation><rating>4</rating><featured>true</featured></curation></dataset>"),
        ("<instrument pid", '<instrument ref="https://example.org/i" pid'),
        ("</format>", "</format><description>first</description>"),
    ):
        assert before in xml
        xml = xml.replace(before, after)
    return re.sub(r">\s+<", "><", xml).encode()


BROKEN = {
    "no summary": lambda root: root.remove(root.find("nx:summary", NS)),
    "two titles": lambda root: root.insert(0, copy.deepcopy(root[0])),
    "wrong order": lambda root: root.append(root[0]),
    "other namespace": lambda root: setattr(root[0], "tag", "{urn:other}title"),
    "unknown dataset type": lambda root: root.find(".//nx:dataset", NS).set("type", "Movie"),
    "unknown role": lambda root: root.find(".//nx:dataset", NS).set("role", "experimental"),
    "extra attribute": lambda root: root.find(".//nx:param", NS).set("term", "EMG_00000004"),
    "warning that is no boolean": lambda root: root.find(".//nx:param", NS).set("warning", "yes"),
    "bad time": lambda root: setattr(root.find(".//nx:startTime", NS), "text", "2026-03-02 09:10"),
    "no location": lambda root: root.find(".//nx:dataset", NS).remove(root.find(".//nx:location", NS)),
    "element twice": lambda root: root.find(".//nx:elements", NS).append(etree.Element(f"{{{NAMESPACE}}}Al")),
    "unknown element": lambda root: setattr(root.find(".//nx:elements", NS)[0], "tag", f"{{{NAMESPACE}}}Xx"),
    "text between elements": lambda root: setattr(root, "text", "hello"),
    "unknown kind of entry": lambda root: root.find(".//nx:entry", NS).set(f"{XSI}type", "VideoEntry"),
    "entry without a kind": lambda root: root.find(".//nx:entry", NS).attrib.pop(f"{XSI}type"),
    "sequence number": lambda root: root.find(".//nx:acquisitionActivity", NS).set("seqno", "one"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_records_are_refused_with_a_reason(name: str) -> None:
    root = etree.fromstring(full_record())
    assert validate(etree.tostring(root)) == []
    BROKEN[name](root)
    found = validate(etree.tostring(root))
    assert found
    assert all(fault.line > 0 and NAMESPACE not in fault.reason for fault in found)
    if PUBLISHED.exists():
        assert faults(published(), root) == faults(ours(), root)


VALUES = st.sampled_from(
    [
        "",
        "1",
        "-7",
        "x y",
        "true",
        "yes",
        "Image",
        "Notes",
        "Derived",
        "2026-03-02T09:10:00",
        "TextEntry",
        "Table",
        "http://[",
        "FEI Helios",
    ]
)


@st.composite
def mutated_records(draw: st.DrawFn) -> Any:
    """Build a full record with a few random changes, most of which make it invalid."""
    root = etree.fromstring(full_record())
    tags = sorted({element.tag for element in root.iter()})
    attributes = sorted({name for element in root.iter() for name in element.attrib})
    for _ in range(draw(st.integers(1, 3))):
        element = draw(st.sampled_from(list(root.iter())))
        parent = element.getparent()
        change = draw(st.sampled_from(["text", "set", "unset", "rename", "drop", "double", "move"]))
        if change == "text":
            element.text = draw(VALUES)
        elif change == "set":
            element.set(draw(st.sampled_from(attributes)), draw(VALUES))
        elif change == "unset":
            for name in element.attrib:
                del element.attrib[name]
        elif change == "rename":
            element.tag = draw(st.sampled_from(tags))
        elif change == "drop" and parent is not None:
            parent.remove(element)
        elif change == "double" and parent is not None:
            element.addnext(copy.deepcopy(element))
        elif change == "move" and parent is not None:
            parent.insert(draw(st.integers(0, len(parent))), element)
    return root


@needs_published
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(mutated_records())
def test_both_schemas_find_the_same_faults(root: Any) -> None:
    assert faults(ours(), root) == faults(published(), root)


def test_what_is_not_xml_is_a_fault() -> None:
    for text in (b"", b"no", b"<Experiment>", b"<a/>\xff", b"<a>\x00</a>"):
        (fault,) = validate(text)
        assert fault.reason


def test_document_types_and_entities_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    xml = re.sub(r"<title>[^<]*", "<title>&e;", full_record().decode().partition("?>")[2]).strip()
    (fault,) = validate(f'<!DOCTYPE Experiment [<!ENTITY e SYSTEM "{secret.as_uri()}">]>{xml}'.encode())
    assert fault == SchemaFault(1, "A record has no document type declaration.")


def test_fault_beyond_line_65535() -> None:
    xml = full_record().replace(b"</Experiment>", b"\n" * 70_000 + b"<more/></Experiment>")
    (fault,) = validate(xml)
    assert fault.line > 70_000


def test_large_record() -> None:
    settings_of_scan = {f"Setting {number}": volts(number) for number in range(40)}
    datasets = [dataset(f"{n}.dm3", extensions={**settings_of_scan, "Frame": n}) for n in range(1500)]
    activities = [Activity(0, 0, (each.location,)) for each in datasets]
    xml = build_record(SESSION, "FEI Titan", "UTC", datasets, activities, [])
    assert validate(xml) == []
    assert xml.count(b"<meta ") == 1500 * 44
