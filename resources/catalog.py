"""The catalogue: DuckDB views over the store's files, for SQL beside running builds.

The views read the files anew at each query, so the catalogue is never the truth and never out of date. It is made
again to learn of a stage that had no files before, beside the old one and then in its place, so that whoever has the
old one open reads on.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource

from resources.store import Store

if TYPE_CHECKING:
    import duckdb

JSON_STAGES = {
    "session": {"session_key": "VARCHAR", "session": "JSON"},
    "activities": {"session_key": "VARCHAR", "activities": "JSON", "bandwidth_seconds": "DOUBLE"},
    "record": {
        "session_key": "VARCHAR",
        "sha256": "VARCHAR",
        "files": "BIGINT",
        "datasets": "BIGINT",
        "activities": "BIGINT",
    },
    "failures": {"key": "VARCHAR", "asset": "VARCHAR", "error": "VARCHAR", "run_id": "VARCHAR"},
}
PARQUET_STAGES = {
    "file_inventory": {
        "session_key": "VARCHAR",
        "location": "VARCHAR",
        "status": "VARCHAR",
        "reason": "VARCHAR",
        "size": "BIGINT",
        "modified_ns": "BIGINT",
        "companions": "VARCHAR[]",
    },
    "file_metadata": {
        "session_key": "VARCHAR",
        "location": "VARCHAR",
        "modified_ns": "BIGINT",
        "size": "BIGINT",
        "index": "BIGINT",
        "count": "BIGINT",
        "name": "VARCHAR",
        "format": "VARCHAR",
        "description": "VARCHAR",
        "preview": "VARCHAR",
        "dataset_type": "VARCHAR",
        "data_type": "VARCHAR",
        "creation_time": "VARCHAR",
        "nx_meta": "VARCHAR",
    },
}
VIEWS = {
    "sessions": """
        SELECT session_key, session->>'instrument_id' AS instrument, session->>'server' AS server,
               CAST(session->>'usage_event_id' AS BIGINT) AS usage_event,
               CAST(session->>'start' AS TIMESTAMPTZ) AS started, CAST(session->>'end' AS TIMESTAMPTZ) AS ended,
               CASE WHEN f.key IS NOT NULL THEN 'FAILED'
                    WHEN session->>'state' <> 'READY' THEN session->>'state'
                    WHEN i.state <> 'READY' THEN i.state
                    WHEN r.session_key IS NOT NULL THEN 'BUILT' END AS state,
               coalesce(f.error, nullif(session->>'reason', ''), nullif(i.reason, '')) AS reason,
               session->>'title' AS title, session->'user'->>'username' AS "user",
               session->'operator'->>'username' AS operator, session->'project'->>'project_id' AS project,
               session->>'tier' AS answers_from, r.files, r.datasets, r.activities
        FROM session_stage LEFT JOIN failures_stage f ON f.key = session_key
        LEFT JOIN inventory_state i USING (session_key) LEFT JOIN record_stage r USING (session_key)""",
    "files": """
        SELECT session_key, location, status, reason, size AS bytes, make_timestamp_ns(modified_ns) AS modified_utc,
               companions
        FROM file_inventory_stage""",
    "datasets": """
        SELECT session_key, location, "index" AS signal, name, dataset_type, data_type, format, description,
               CAST(creation_time AS TIMESTAMPTZ) AS created, size AS bytes, preview
        FROM file_metadata_stage""",
    "fields": """
        SELECT session_key, location, signal, field, coalesce(entry->>'value', entry->>'$') AS value,
               TRY_CAST(coalesce(entry->>'value', entry->>'$') AS DOUBLE) AS number, entry->>'unit' AS unit, extension
        FROM (
            SELECT session_key, location, "index" AS signal, field,
                   json_extract(CAST(nx_meta AS JSON), '$."' || field || '"') AS entry, false AS extension
            FROM (SELECT *, unnest(json_keys(CAST(nx_meta AS JSON))) AS field FROM file_metadata_stage)
            WHERE field NOT IN ('extensions', 'warnings')
            UNION ALL
            SELECT session_key, location, "index", field,
                   json_extract(CAST(nx_meta AS JSON), '$.extensions."' || field || '"'), true
            FROM (SELECT *, unnest(json_keys(CAST(nx_meta AS JSON), '$.extensions')) AS field FROM file_metadata_stage)
            WHERE NOT contains(field, '"')
        )""",
    "activities": """
        SELECT session_key, number - 1 AS activity,
               make_timestamp_ns(CAST(entry->>'start_ns' AS BIGINT)) AS started_utc,
               make_timestamp_ns(CAST(entry->>'end_ns' AS BIGINT)) AS ended_utc,
               json_array_length(entry, '$.locations') AS files, bandwidth_seconds
        FROM (SELECT session_key, bandwidth_seconds,
                     unnest(CAST(activities AS JSON[])) AS entry,
                     generate_subscripts(CAST(activities AS JSON[]), 1) AS number FROM activities_stage)""",
    "records": """
        SELECT session_key, sha256, files, datasets, activities FROM record_stage""",
}


class Catalog(ConfigurableResource[Any]):
    """``catalog.duckdb`` in the store."""

    data_path: str

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.data_path) / "catalog.duckdb"

    def rebuild(self, store: Store) -> dict[str, int]:
        """Make the catalogue anew.

        Returns
        -------
        dict
            Number of rows of each view.
        """
        import duckdb

        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{secrets.token_hex(8)}.duckdb.tmp")
        try:
            with duckdb.connect(str(temporary)) as connection:
                for statement in _statements(store.root / "stages"):
                    connection.execute(statement)
                counts = {name: _count(connection, name) for name in VIEWS}
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        return counts

    @contextmanager
    def connect(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """The catalogue, read-only."""
        import duckdb

        with duckdb.connect(str(self.path), read_only=True) as connection:
            yield connection


def _statements(stages: Path) -> Iterator[str]:
    for name, columns in JSON_STAGES.items():
        fields = ", ".join(f"{_name(column)}: {_text(kind)}" for column, kind in columns.items())
        yield _stage_view(stages, name, "json", columns, f"read_json({{files}}, columns = {{{{{fields}}}}})")
    for name, columns in PARQUET_STAGES.items():
        yield _stage_view(stages, name, "parquet", columns, "read_parquet({files})")
    yield _inventory_state(stages)
    for name, query in VIEWS.items():
        yield f"CREATE VIEW {name} AS {query}"


def _stage_view(stages: Path, name: str, suffix: str, columns: dict[str, str], reader: str) -> str:
    if not any((stages / name).glob(f"*.{suffix}")):
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {_name(column)}" for column, kind in columns.items())
        return f"CREATE VIEW {name}_stage AS SELECT {nothing} WHERE false"
    files = _text(f"{stages / name}/*.{suffix}")
    names = ", ".join(map(_name, columns))
    return f"CREATE VIEW {name}_stage AS SELECT {names} FROM {reader.format(files=files)}"  # noqa: S608


def _inventory_state(stages: Path) -> str:
    """State of each inventory, which even one without files has, from the headers of its Parquet file."""
    if not any((stages / "file_inventory").glob("*.parquet")):
        return (
            "CREATE VIEW inventory_state AS SELECT CAST(NULL AS VARCHAR) AS session_key, "
            "CAST(NULL AS VARCHAR) AS state, CAST(NULL AS VARCHAR) AS reason WHERE false"
        )
    files = _text(f"{stages / 'file_inventory'}/*.parquet")
    return f"""
        CREATE VIEW inventory_state AS
        SELECT parse_filename(file_name, true) AS session_key, header->>'state' AS state, header->>'reason' AS reason
        FROM (SELECT file_name, CAST(decode(value) AS JSON) AS header FROM parquet_kv_metadata({files})
              WHERE decode(key) = 'nexuslims')"""  # noqa: S608  (the file names are quoted)


def _count(connection: "duckdb.DuckDBPyConnection", view: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {view}").fetchone()  # noqa: S608  (names of this module)
    return int(row[0]) if row else 0


def _name(column: str) -> str:
    return f'"{column}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
