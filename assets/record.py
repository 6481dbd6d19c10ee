"""The record of a session: one XML document after the Nexus Experiment schema."""

from collections.abc import Sequence

from dagster import MetadataValue

from assets.checks import RECORD_CHECKS
from assets.session_asset import Check, Done, StageFailedError, session_asset
from assets.tables import table
from nexuslims_pipeline.inventory.model import Inventory
from nexuslims_pipeline.records.build import build_record
from nexuslims_pipeline.records.contents import unaccounted_files
from nexuslims_pipeline.records.schema import SchemaFault, validate
from resources.storage import InstrumentStorage
from resources.store import Store

VERSION = "2"
XML_SHOWN = 20_000
"""Characters of a record that the UI shows; the whole lies in the store."""


@session_asset(
    group_name="records",
    kinds={"xml"},
    code_version=VERSION,
    deps=["activities", "file_metadata"],
    checks=RECORD_CHECKS,
)
def record(key: str, storage: InstrumentStorage, store: Store) -> Done | None:
    """The Nexus Experiment record of one session: a function of its inputs, the same bytes for the same inputs."""
    datasets, found = store.ready_datasets(key), store.activities(key)
    if datasets is None or found is None:
        return None
    session, inventory = store.require_session(key), store.require_inventory(key)
    instrument = storage.instrument(session.instrument_id)
    refused = inventory.with_status("refused", "contested")
    xml = build_record(session, instrument.name, instrument.time_zone, datasets, found, refused)
    checks = (_schema_check(validate(xml)), _completeness_check(xml, inventory))
    if not checks[0].passed:
        raise StageFailedError(f"the record is not valid and was not kept: {checks[0].description}", checks)
    summary = {
        "files": len(inventory.with_status("included")),
        "datasets": len(datasets),
        "activities": len(found),
    }
    about = {"instrument": instrument.in_words()}
    store.write_record(key, xml, summary | about, VERSION)
    return Done(
        {
            **summary,
            "valid": True,
            "path": MetadataValue.path(store.record_path(key)),
            "refused files": table([{"file": e.location, "reason": e.reason} for e in refused]),
            "xml": MetadataValue.md(f"```xml\n{xml.decode()[:XML_SHOWN]}\n```"),
        },
        checks=checks,
    )


def _schema_check(faults: Sequence[SchemaFault]) -> Check:
    return Check(
        "valid_against_schema",
        passed=not faults,
        description="; ".join(f"line {f.line}: {f.reason}" for f in faults[:5]) or "The schema accepts it.",
        metadata={"faults": table([{"line": f.line, "reason": f.reason} for f in faults])},
    )


def _completeness_check(xml: bytes, inventory: Inventory) -> Check:
    missing = unaccounted_files(xml, inventory.entries)
    return Check(
        "every_file_accounted_for",
        passed=not missing,
        description=f"Missing: {', '.join(missing[:20])}" if missing else "No file is missing.",
    )
