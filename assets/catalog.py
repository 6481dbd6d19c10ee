"""SQL over all sessions."""

from dagster import MaterializeResult, MetadataValue, asset

from assets.session_asset import CHAIN
from assets.tables import table
from resources.catalog import VIEWS, Catalog
from resources.store import Store

VERSION = "1"


@asset(
    name="catalog",
    group_name="facility",
    kinds={"duckdb"},
    owners=["team:facility"],
    code_version=VERSION,
    deps=[*CHAIN[1:], "session_status"],
)
def catalog_views(catalog: Catalog, store: Store) -> MaterializeResult[None]:
    """Views for SQL over the store: sessions, files, datasets, fields, activities, records, copies."""
    catalog.rebuild(store)
    sessions = catalog.query("SELECT instrument, state, count(*) AS sessions FROM sessions GROUP BY ALL")
    by_state = sessions.pivot_table(index="instrument", columns="state", values="sessions", fill_value=0, aggfunc="sum")
    return MaterializeResult(
        metadata={
            "database": MetadataValue.path(catalog.path),
            **{view: catalog.query(f"SELECT count(*) AS n FROM {view}")["n"].item() for view in VIEWS},  # noqa: S608
            "sessions by state": table(by_state.astype(int).reset_index().to_dict("records")),
        }
    )
