"""Datasets of a session: metadata and previews of its files."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from assets.checks import METADATA_CHECKS
from assets.pictures import contact_sheet
from assets.session_asset import Check, Done, session_asset
from assets.tables import table
from nexuslims_pipeline.extraction.extract import FileDatasets, extract_files
from nexuslims_pipeline.extraction.registry import readers_version
from nexuslims_pipeline.files import from_location
from nexuslims_pipeline.instruments import Instrument
from nexuslims_pipeline.inventory.clock import moment
from nexuslims_pipeline.metadata.checked import VERSION as METADATA
from nexuslims_pipeline.metadata.dataset import Dataset
from nexuslims_pipeline.metadata.plausibility import Circumstances, doubts
from nexuslims_pipeline.sessions.model import Session
from resources.storage import InstrumentStorage, StorageUnavailableError
from resources.store import Store

VERSION = f"3;{METADATA};{readers_version()}"
CLOCK_SLACK = timedelta(minutes=15)
"""How far the clocks of instrument, share and NEMO may be apart before a time is outside of its session."""
SHOWN = 20
"""Datasets that a check names in words; its table has all."""


@session_asset(
    group_name="files",
    kinds={"hyperspy", "parquet"},
    code_version=VERSION,
    deps=["file_inventory"],
    checks=METADATA_CHECKS,
    pool="extraction",
)
def file_metadata(key: str, storage: InstrumentStorage, store: Store) -> Done | None:
    """Every dataset of the session's files, with checked metadata in preferred units and a preview.

    Files are read in a sandbox; one that cannot be read becomes a dataset of type Unknown with the reason. Files that
    have not changed are not read again. While the share fails, the session is tried again until its delay is over.
    """
    inventory = store.ready_inventory(key)
    if inventory is None:
        return None
    session = store.require_session(key)
    instrument, library = storage.instrument(session.instrument_id), storage.library(store.datasets_folder)
    files = list(extract_files(inventory.with_status("included"), instrument, library, storage.sandbox))
    unsettled = [f"{file.location}: {file.transient}" for file in files if file.transient]
    if unsettled and not storage.is_overdue(session):
        raise StorageUnavailableError(f"{len(unsettled)} files could not be read for now: {'; '.join(unsettled[:10])}")
    datasets = [dataset for file in files for dataset in file.datasets]
    store.write_datasets(key, datasets, inventory.fingerprint, VERSION, library.rules.in_words(instrument.id))
    previews = [store.datasets_folder / from_location(d.preview) for d in datasets if d.preview]
    checks = (_plausible(datasets, instrument), _inside(datasets, session))
    return Done(_report(files) | {"previews": contact_sheet(previews)}, checks=checks)


def _plausible(datasets: Sequence[Dataset], instrument: Instrument) -> Check:
    found = [
        {"dataset": dataset.name, "field": field, "reason": reason}
        for dataset in datasets
        for field, reason in doubts(
            dataset.nx_meta, Circumstances(moment(dataset.modified_ns), instrument.voltage_kv)
        ).items()
    ]
    return _warning("metadata_plausible", found, "Every value can be true.")


def _inside(datasets: Sequence[Dataset], session: Session) -> Check:
    found = [
        {"dataset": dataset.name, "field": "Creation Time", "reason": f"{taken} is outside of the session"}
        for dataset in datasets
        if dataset.nx_meta["Extraction Details"]["Creation Time From"].startswith("file")
        and (taken := dataset.nx_meta["Creation Time"])
        and not session.start - CLOCK_SLACK <= datetime.fromisoformat(taken) <= session.end + CLOCK_SLACK
    ]
    return _warning("times_inside_session", found, "Every file was taken within the session, as far as it tells.")


def _warning(name: str, found: Sequence[Mapping[str, str]], fine: str) -> Check:
    told = "; ".join(f"{each['dataset']}, {each['field']}: {each['reason']}" for each in found[:SHOWN])
    more = f" … and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Check(name, not found, told + more or fine, {"doubts": table(found)}, severe=False)


def _report(files: list[FileDatasets]) -> dict[str, object]:
    datasets = [dataset for file in files for dataset in file.datasets]
    unread = [{"file": file.location, "reason": file.error} for file in files if file.error]
    return {
        "datasets": len(datasets),
        "files": len(files),
        "files not opened again": sum(file.cached for file in files),
        "files that could not be read": table(unread),
        "table of datasets": table(
            [
                {
                    "dataset": d.name,
                    "type": d.nx_meta["DatasetType"],
                    "technique": d.nx_meta["Data Type"],
                    "shape": d.nx_meta.get("Data Dimensions", ""),
                    "taken": d.nx_meta["Creation Time"],
                    "doubtful": ", ".join(w["field"] for w in d.nx_meta["warnings"]),
                }
                for d in datasets
            ]
        ),
    }
