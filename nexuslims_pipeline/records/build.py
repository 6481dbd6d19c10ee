"""The record of a session: XML of the Nexus Experiment schema.

The order of the elements is the schema's (`nexus-experiment.xsd`). The namespace is the default one, without
a prefix: CDCS does not find the root of a record otherwise.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from nexuslims_pipeline.activities.model import Activity
from nexuslims_pipeline.inventory.model import InventoryEntry
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.metadata.elements import ELEMENTS
from nexuslims_pipeline.records.parameters import Parameter, parameters, split
from nexuslims_pipeline.records.schema import NAMESPACE
from nexuslims_pipeline.records.text import clean, token
from nexuslims_pipeline.sessions.model import Project, Sample, Session

if TYPE_CHECKING:
    from lxml.etree import _Element

XSI = "http://www.w3.org/2001/XMLSchema-instance"
NAMESPACES: Any = {None: NAMESPACE, "xsi": XSI}  # lxml's stubs do not know the default namespace
NOTES_SOURCE = "nexuslims-pipeline"

# Not from `calendar`, which follows the locale of the process.
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def build_record(
    session: Session,
    instrument_name: str,
    time_zone: str,
    datasets: Sequence[Dataset],
    activities: Sequence[Activity],
    refused: Sequence[InventoryEntry],
) -> bytes:
    """Write the record of a session; the same input gives the same bytes.

    Parameters
    ----------
    session
        The session with the user's answers.
    instrument_name
        Name of the instrument for people.
    time_zone
        IANA zone of the instrument, in which all times are written, with their offset.
    datasets
        Every dataset of the session, in any order.
    activities
        Activities in the order of time; each dataset's file is in one of them.
    refused
        Files of the session's window that are not in the record, to be listed with their reasons.

    Returns
    -------
    bytes
        XML 1.0 in UTF-8, indented.

    Raises
    ------
    ValueError
        If a dataset belongs to no activity: it would be lost.
    zoneinfo.ZoneInfoNotFoundError
        If there is no zone of that name.
    """
    from lxml import etree

    zone = ZoneInfo(time_zone)
    by_location = _by_location(datasets, activities)
    root = etree.Element(f"{{{NAMESPACE}}}Experiment", nsmap=NAMESPACES)
    root.set("pid", clean(session.key))
    _add(root, "title", record_title(session, instrument_name, zone))
    _add(root, "id", str(_event_id(session)))
    _add_summary(root, session, instrument_name, zone)
    for sample in session.samples:
        _add_sample(root, sample)
    _add_project(root, session.project)
    for number, activity in enumerate(activities):
        element = _add(root, "acquisitionActivity", seqno=str(number))
        _fill_activity(element, activity, by_location, session.samples, zone)
    _add_refused(root, refused)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _by_location(datasets: Iterable[Dataset], activities: Iterable[Activity]) -> Mapping[str, list[Dataset]]:
    """Datasets of each file, in the order of the file."""
    found: defaultdict[str, list[Dataset]] = defaultdict(list)
    for dataset in sorted(datasets, key=lambda dataset: (dataset.location, dataset.index)):
        found[dataset.location].append(dataset)
    lost = found.keys() - {location for activity in activities for location in activity.locations}
    if lost:
        msg = f"{len(lost)} file(s) belong to no activity, the first is {min(lost)}"
        raise ValueError(msg)
    return found


def _event_id(session: Session) -> int:
    """Return the number of what the link leads to: the reservation that gave the answers, or the event."""
    if session.tier == "reservation" and session.reservation_id is not None:
        return session.reservation_id
    return session.usage_event_id


def record_title(session: Session, instrument_name: str, zone: tzinfo) -> str:
    """Title of a record: the user's, else the instrument and the day."""
    if title := token(session.title or ""):
        return title
    day = session.start.astimezone(zone)
    date = f"{WEEKDAYS[day.weekday()]} {MONTHS[day.month - 1]}. {day.day:02}, {day.year}"
    return token(f"Experiment on the {instrument_name} on {date}")


def _time_text(moment: datetime, zone: tzinfo) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")


def _add(parent: "_Element", tag: str, text: str = "", **attributes: str) -> "_Element":
    from lxml.etree import SubElement

    child = SubElement(parent, f"{{{NAMESPACE}}}{tag}", attributes)
    if text:
        child.text = text
    return child


def _add_known(parent: "_Element", tag: str, text: str | None) -> None:
    """Add an element for a text that may be missing or blank."""
    if text and not text.isspace():
        _add(parent, tag, text)


def _add_summary(root: "_Element", session: Session, instrument_name: str, zone: tzinfo) -> None:
    user, operator = session.user, session.operator
    summary = _add(root, "summary", **({"ref": token(session.link)} if session.link else {}))
    if user:
        _add_known(summary, "experimenter", token(user.display_name))
    if operator and not (user and operator.username == user.username):
        _add_known(summary, "collaborator", token(operator.display_name))
    _add(summary, "instrument", token(instrument_name), pid=token(session.instrument_id))
    _add(summary, "reservationStart", _time_text(session.start, zone))
    _add(summary, "reservationEnd", _time_text(session.end, zone))
    _add_known(summary, "motivation", clean(session.motivation or ""))


def _add_sample(root: "_Element", sample: Sample) -> None:
    element = _add(root, "sample", id=clean(sample.id))
    if sample.pid:
        element.set("ref", clean(sample.pid))
    _add_known(element, "name", token(sample.name or ""))
    for paragraph in clean(sample.description or "").split("\n"):
        _add_known(element, "description", token(paragraph))
    symbols = [symbol for symbol in dict.fromkeys(sample.elements) if symbol in ELEMENTS]
    if symbols:
        elements = _add(element, "elements")
        for symbol in symbols:
            _add(elements, symbol)


def _add_project(root: "_Element", project: Project | None) -> None:
    if project and (project.name or project.project_id):
        element = _add(root, "project")
        _add_known(element, "name", token(project.name or ""))
        _add_known(element, "project_id", token(project.project_id or ""))


def _fill_activity(
    element: "_Element",
    activity: Activity,
    by_location: Mapping[str, list[Dataset]],
    samples: Sequence[Sample],
    zone: tzinfo,
) -> None:
    datasets = [dataset for location in activity.locations for dataset in by_location.get(location, ())]
    setup, own = split([parameters(dataset.nx_meta) for dataset in datasets])
    start = datetime.fromtimestamp(activity.start_ns // 1_000_000_000, UTC)
    _add(element, "startTime", _time_text(start, zone))
    _add_known(element, "sampleID", _sample_id(samples, datasets))
    _add_parameters(_add(element, "setup"), "param", setup)
    _add_paragraphs(element, _doubts(datasets) + _unread(activity, by_location))
    for dataset, meta in zip(datasets, own, strict=True):
        _add_dataset(element, dataset, meta)


def _sample_id(samples: Sequence[Sample], datasets: Iterable[Dataset]) -> str | None:
    """Return the identifier of an activity's sample: the only one, or the one that all its files name."""
    if len(samples) > 1:
        named = {_folded(str(dataset.nx_meta.get("specimen", ""))) for dataset in datasets} - {""}
        if len(named) != 1:
            return None
        samples = [sample for sample in samples if sample.name and _folded(sample.name) in named]
    return token(samples[0].id) if len(samples) == 1 else None


def _folded(name: str) -> str:
    return name.strip().casefold()


def _doubts(datasets: Iterable[Dataset]) -> list[str]:
    """Why parameters of the activity are marked with a warning, each reason once."""
    warnings = (warning for dataset in datasets for warning in dataset.nx_meta.get("warnings", ()))
    return sorted({f"{warning['field']}: {warning['reason']}" for warning in warnings})


def _unread(activity: Activity, by_location: Mapping[str, list[Dataset]]) -> list[str]:
    return [
        f"{location}: no dataset could be read from this file"
        for location in activity.locations
        if location not in by_location
    ]


def _add_dataset(activity: "_Element", dataset: Dataset, meta: Iterable[Parameter]) -> None:
    dataset_type = dataset.nx_meta.get("DatasetType", "Unknown")
    element = _add(activity, "dataset", type=dataset_type, role="Experimental")
    _add(element, "name", clean(dataset.name))
    _add(element, "location", clean(dataset.location))
    _add_known(element, "format", clean(dataset.format))
    _add_known(element, "description", clean(dataset.description))
    _add_known(element, "preview", clean(dataset.preview or ""))
    _add_parameters(element, "meta", meta)


def _add_parameters(parent: "_Element", tag: str, values: Iterable[Parameter]) -> None:
    for parameter in values:
        child = _add(parent, tag, parameter.text, name=parameter.name)
        if unit := parameter.unit_symbol:
            child.set("unit", unit)
        if parameter.warning:
            child.set("warning", "true")


def _add_entry(parent: "_Element", entry_type: str) -> "_Element":
    entry = _add(_add(parent, "notes", source=NOTES_SOURCE), "entry")
    entry.set(f"{{{XSI}}}type", entry_type)
    return entry


def _add_paragraphs(parent: "_Element", paragraphs: Sequence[str]) -> None:
    if paragraphs:
        entry = _add_entry(parent, "TextEntry")
        for paragraph in paragraphs:
            _add(entry, "p", token(paragraph))


def _add_refused(root: "_Element", refused: Iterable[InventoryEntry]) -> None:
    entries = sorted(refused, key=lambda entry: entry.location)
    if not entries:
        return
    table = _add(_add_entry(root, "TableEntry"), "table")
    _add(table, "title", "Files of this session that are not in the record")
    header = _add(table, "header")
    for column in ("Location", "Status", "Reason"):
        _add(header, "column", column, id=column.lower())
    rows = _add(table, "rows")
    for number, entry in enumerate(entries):
        row = _add(rows, "row", seqno=str(number))
        _add(row, "cell", token(entry.location), colid="location")
        _add(row, "cell", entry.status, colid="status")
        _add(row, "cell", token(entry.reason), colid="reason")
