"""The catalogue: DuckDB views over the store's files, for SQL beside running builds.

The views read the files anew at each query, so the catalogue is never the truth and never out of date. A new one is
made beside the old one and then takes its place, so that whoever has the old one open reads on.
"""

import glob
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import ConfigurableResource

from nexuslims_pipeline.files import write_bytes
from resources.store import Store

if TYPE_CHECKING:
    import pandas

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
    "session_key": {"key": "VARCHAR"},
    "session_status": {"session_key": "VARCHAR", "published": "BOOLEAN"},
    "unfinished": {"key": "VARCHAR"},
}
JSON_ELSEWHERE = {
    "tombstone": ("tombstones", {"key": "VARCHAR", "time": "TIMESTAMPTZ", "why": "VARCHAR", "remains": "VARCHAR"}),
    "ledger": (
        "exports/*",
        {
            "key": "VARCHAR",
            "doing": "VARCHAR",
            "remote": "JSON",
            "sha256": "VARCHAR",
            "version": "BIGINT",
            "at": "TIMESTAMPTZ",
            "failure": "JSON",
            "filename": "VARCHAR",
        },
    ),
}
"""Further files of the store: their folder, in which ``*`` stands for any one, and what they hold."""
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
NOTHING = ".nothing"
"""Name of an empty file in each stage's folder: DuckDB refuses a pattern that no file fits."""
VIEWS = {
    "sessions": """
        SELECT k.key AS session_key, split_part(k.key, '_', 2) AS instrument,
               split_part(split_part(k.key, '_', 3), '-', 1) AS server,
               CAST(split_part(k.key, '-', -1) AS BIGINT) AS usage_event,
               CAST(session->>'start' AS TIMESTAMPTZ) AS started, CAST(session->>'end' AS TIMESTAMPTZ) AS ended,
               CASE WHEN t.key IS NOT NULL AND u.key IS NULL THEN 'WITHDRAWN'
                    WHEN f.key IS NOT NULL THEN 'FAILED'
                    WHEN s.session_key IS NULL OR u.key IS NOT NULL THEN 'NOT_BUILT'
                    WHEN session->>'state' <> 'READY' THEN session->>'state'
                    WHEN i.state <> 'READY' THEN i.state
                    WHEN i.state IS NOT NULL AND r.session_key IS NOT NULL THEN 'BUILT'
                    ELSE 'NOT_BUILT' END AS state,
               coalesce(CASE WHEN u.key IS NULL THEN trim(t.why || ' ' || t.remains) END,
                        f.asset || ': ' || f.error, nullif(session->>'reason', ''), nullif(i.reason, '')) AS reason,
               coalesce(p.published, false) AS published,
               session->>'title' AS title, session->'user'->>'username' AS "user",
               session->'operator'->>'username' AS operator, session->'project'->>'project_id' AS project,
               session->>'tier' AS answers_from, r.files, r.datasets, r.activities
        FROM (SELECT key FROM session_key_stage UNION SELECT session_key FROM session_stage
              UNION SELECT key FROM failures_stage UNION SELECT key FROM tombstone_stage) k
        LEFT JOIN session_stage s ON s.session_key = k.key LEFT JOIN failures_stage f ON f.key = k.key
        LEFT JOIN unfinished_stage u ON u.key = k.key LEFT JOIN inventory_state i ON i.session_key = k.key
        LEFT JOIN record_stage r ON r.session_key = k.key LEFT JOIN tombstone_stage t ON t.key = k.key
        LEFT JOIN session_status_stage p ON p.session_key = k.key""",
    "copies": """
        SELECT parse_filename(parse_dirpath(filename)) AS destination, e.key AS session_key,
               CASE WHEN t.key IS NOT NULL THEN 'WITHDRAWING'
                    WHEN doing = '' AND remote IS NOT NULL AND e.sha256 = r.sha256 THEN 'PUBLISHED'
                    WHEN failure IS NOT NULL THEN 'FAILED'
                    ELSE 'WAITING' END AS state,
               remote->>'id' AS remote_id, remote->>'url' AS url, e.version, e."at", failure->>'reason' AS failure,
               CAST(failure->>'passing' AS BOOLEAN) AS passing
        FROM ledger_stage e LEFT JOIN record_stage r ON r.session_key = e.key
        LEFT JOIN tombstone_stage t ON t.key = e.key WHERE e.key IS NOT NULL""",
    "files": """
        SELECT session_key, location, status, reason, size AS bytes, make_timestamp_ns(modified_ns) AS modified_utc,
               companions
        FROM file_inventory_stage""",
    "datasets": """
        SELECT session_key, location, "index" AS signal, name, dataset_type, data_type, format, description,
               CAST(creation_time AS TIMESTAMPTZ) AS created, size AS bytes, preview,
               from_json(json_extract(CAST(nx_meta AS JSON), '$.warnings'),
                         '[{"field":"VARCHAR","reason":"VARCHAR"}]') AS warnings
        FROM file_metadata_stage""",
    "fields": """
        SELECT session_key, location, signal, entry.key AS field,
               coalesce(entry.value->>'value', entry.value->>'$') AS value,
               TRY_CAST(coalesce(entry.value->>'value', entry.value->>'$') AS DOUBLE) AS number,
               entry.value->>'unit' AS unit, extension
        FROM (
            SELECT session_key, location, "index" AS signal, false AS extension,
                   unnest(map_entries(CAST(CAST(nx_meta AS JSON) AS MAP(VARCHAR, JSON)))) AS entry
            FROM file_metadata_stage
            UNION ALL
            SELECT session_key, location, "index", true,
                   unnest(map_entries(CAST(CAST(nx_meta AS JSON)->'extensions' AS MAP(VARCHAR, JSON))))
            FROM file_metadata_stage
        ) WHERE extension OR entry.key NOT IN ('extensions', 'warnings')""",
    "activities": """
        SELECT session_key, number - 1 AS activity,
               make_timestamp_ns(CAST(entry->>'start_ns' AS BIGINT)) AS started_utc,
               make_timestamp_ns(CAST(entry->>'end_ns' AS BIGINT)) AS ended_utc,
               json_array_length(entry, '$.locations') AS files, bandwidth_seconds
        FROM (SELECT session_key, bandwidth_seconds,
                     unnest(CAST(activities AS JSON[])) AS entry,
                     generate_subscripts(CAST(activities AS JSON[]), 1) AS number FROM activities_stage)""",
    "records": """
        SELECT session_key, left(session_key, 4) || '/' || session_key || '.xml' AS path, sha256, files, datasets,
               activities
        FROM record_stage""",
}


class Catalog(ConfigurableResource[Any]):
    """``catalog.duckdb`` in the store."""

    data_path: str

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.data_path) / "catalog.duckdb"

    def rebuild(self, store: Store) -> None:
        """Make the catalogue anew."""
        import duckdb

        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{secrets.token_hex(8)}.duckdb.tmp")
        try:
            with duckdb.connect(str(temporary)) as connection:
                for statement in _statements(store.root):
                    connection.execute(statement)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def query(self, sql: str) -> "pandas.DataFrame":
        """Answer of the catalogue to one question in SQL."""
        import duckdb

        with duckdb.connect(str(self.path), read_only=True) as connection:
            return connection.execute(sql).df()


def _statements(root: Path) -> Iterator[str]:
    stages = root / "stages"
    json_folders = {name: (f"stages/{name}", columns) for name, columns in JSON_STAGES.items()} | JSON_ELSEWHERE
    for name, (folder, columns) in json_folders.items():
        fields = ", ".join(
            f"{_name(column)}: {_text(kind)}" for column, kind in columns.items() if column != "filename"
        )
        write_bytes(root / folder.replace("*", NOTHING) / f"{NOTHING}.json", b"")
        files = _text(f"{glob.escape(str(root))}/{folder}/*.json")
        yield _stage_view(name, columns, f"read_json({files}, columns = {{{fields}}}, filename = true)")
    for name, columns in PARQUET_STAGES.items():
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {_name(column)}" for column, kind in columns.items())
        empty = stages / name / f"{NOTHING}.parquet"
        empty.parent.mkdir(parents=True, exist_ok=True)
        if not empty.exists():
            yield f"COPY (SELECT {nothing} WHERE false) TO {_text(str(empty))} (FORMAT parquet)"
        yield _stage_view(name, columns, f"read_parquet({_files(stages, name, 'parquet')})")
    yield _inventory_state(stages)
    for name, query in VIEWS.items():
        yield f"CREATE VIEW {name} AS {query}"


def _stage_view(name: str, columns: dict[str, str], source: str) -> str:
    return f"CREATE VIEW {name}_stage AS SELECT {', '.join(map(_name, columns))} FROM {source}"  # noqa: S608


def _files(stages: Path, name: str, suffix: str) -> str:
    return _text(f"{glob.escape(str(stages / name))}/*.{suffix}")


def _inventory_state(stages: Path) -> str:
    """State of each inventory, which even one without files has, from the headers of its Parquet file."""
    return f"""
        CREATE VIEW inventory_state AS
        SELECT parse_filename(file_name, true) AS session_key, header->>'state' AS state, header->>'reason' AS reason
        FROM (SELECT file_name, CAST(decode(value) AS JSON) AS header
              FROM parquet_kv_metadata({_files(stages, "file_inventory", "parquet")})
              WHERE decode(key) = 'nexuslims')"""  # noqa: S608  (the file names are quoted)


def _name(column: str) -> str:
    return f'"{column}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
