"""Datasets of a session: metadata and previews of its files."""

from assets.pictures import contact_sheet
from assets.session_asset import Done, session_asset
from assets.tables import table
from nexuslims_pipeline.extraction.extract import FileDatasets, extract_files
from nexuslims_pipeline.extraction.registry import readers_version
from nexuslims_pipeline.files import from_location
from resources.storage import InstrumentStorage, StorageUnavailableError
from resources.store import Store

VERSION = f"1;{readers_version()}"


@session_asset(
    group_name="files", kinds={"hyperspy", "parquet"}, code_version=VERSION, deps=["file_inventory"], pool="extraction"
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
    files = list(
        extract_files(
            inventory.with_status("included"),
            storage.instrument(session.instrument_id),
            storage.library(store.datasets_folder),
            storage.sandbox,
        )
    )
    unsettled = [f"{file.location}: {file.transient}" for file in files if file.transient]
    if unsettled and not storage.is_overdue(session):
        raise StorageUnavailableError(f"{len(unsettled)} files could not be read for now: {'; '.join(unsettled[:10])}")
    datasets = [dataset for file in files for dataset in file.datasets]
    store.write_datasets(key, datasets, inventory.fingerprint, VERSION)
    previews = [store.datasets_folder / from_location(d.preview) for d in datasets if d.preview]
    return Done(_report(files) | {"previews": contact_sheet(previews)})


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
