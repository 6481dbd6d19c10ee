"""The instruments' files: found, attributed to sessions, and read in a sandbox. Read-only throughout."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dagster import ConfigurableResource
from pydantic import Field

from nexuslims_pipeline.extraction.extract import Library
from nexuslims_pipeline.instruments import ConfigurationError, Instrument, Instruments, load_instruments
from nexuslims_pipeline.inventory.attribution import attribute_files, crawl_window
from nexuslims_pipeline.inventory.crawl import crawl
from nexuslims_pipeline.inventory.model import Crawl, Inventory
from nexuslims_pipeline.sessions.model import Claim, Session


class StorageUnavailableError(Exception):
    """The instrument's share fails, or a file changes while it is read: trying again later may help."""


class InstrumentStorage(ConfigurableResource[Any]):
    """Files below ``NX_INSTRUMENT_DATA_PATH``."""

    root_path: str
    instruments_file: str
    file_strategy: Literal["exclusive", "inclusive"] = "exclusive"
    ignore_patterns: list[str] = Field(default_factory=list)
    file_delay_days: float = 2.0
    settle_seconds: float = 60.0
    extraction_workers: int = 1
    file_time_limit: float = 120.0
    file_memory_limit: int = 2048

    @property
    def root(self) -> Path:
        """Root of instrument data."""
        if not self.root_path:
            msg = "NX_INSTRUMENT_DATA_PATH is not set; set it in the environment or in .env."
            raise ConfigurationError(msg)
        return Path(self.root_path)

    @property
    def instruments(self) -> Instruments:
        """The facility's instruments."""
        return _instruments(self.instruments_file)

    def instrument(self, instrument_id: str) -> Instrument:
        """One instrument.

        Raises
        ------
        ConfigurationError
            When it is not in ``instruments.yaml`` (any more).
        """
        if instrument_id not in self.instruments:
            msg = f"there is no instrument '{instrument_id}' in {self.instruments_file}; add it to build its sessions."
            raise ConfigurationError(msg)
        return self.instruments[instrument_id]

    def crawl(self, instrument: Instrument, sessions: Iterable[Session]) -> Crawl:
        """One walk of an instrument's folder for files of all the given sessions."""
        windows = [crawl_window(session, instrument.clock_offset) for session in sessions]
        return crawl(
            self.root,
            Path(instrument.folder),
            since=min(since for since, _ in windows),
            until=max(until for _, until in windows),
            other_folders=[Path(i.folder) for i in self.instruments.values() if i.id != instrument.id],
        )

    def attribute(
        self,
        found: Crawl,
        session: Session,
        *,
        claims: Iterable[Claim] = (),
        previous: Inventory | None = None,
        now: datetime | None = None,
    ) -> Inventory:
        """Which of the files found belong to a session, and why."""
        from nexuslims_pipeline.extraction.registry import known_extensions

        return attribute_files(
            found,
            session,
            claims=tuple(claims),
            clock_offset=self.instrument(session.instrument_id).clock_offset,
            strategy=self.file_strategy,
            extensions=known_extensions(),
            ignore_patterns=self.ignore_patterns,
            settle_seconds=self.settle_seconds,
            file_delay=timedelta(days=self.file_delay_days),
            now=now or datetime.now(UTC),
            previous=previous,
        )

    def library(self, datasets_folder: Path) -> Library:
        """Where raw files are read from and where their sidecars go."""
        limits = f"{self.file_time_limit:g} s, {self.file_memory_limit} MiB"
        return Library(self.root.resolve(), datasets_folder, limits)

    def sandbox(self) -> AbstractContextManager[Any]:
        """Children that read vendor files within limits."""
        from nexuslims_pipeline.extraction.sandbox import Limits, sandbox

        limits = Limits(self.file_time_limit, self.file_memory_limit)
        return sandbox(self.root, self.extraction_workers, limits)


@cache
def _instruments(path: str) -> Instruments:
    return load_instruments(Path(path))
