"""Harvest and build in this process, in the configured Dagster instance, without daemon or webserver."""

import fcntl
import glob
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.extraction.sandbox import prepare
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.sessions.keys import event_of, instrument_of, parse_key
from nexuslims_pipeline.sessions.model import SessionState


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one session."""

    key: str
    state: str
    reason: str = ""
    files: int = 0
    datasets: int = 0
    activities: int = 0
    record: str = ""
    cause: str = ""
    """Why it was built; empty when nothing had changed."""

    @property
    def failed(self) -> bool:
        """Whether a step failed."""
        return self.state == SessionState.FAILED

    @property
    def may_be_sent(self) -> bool:
        """Whether destinations have something to do: publish the record, or withdraw their copy."""
        return bool(self.record) or self.state == SessionState.WITHDRAWN

    def as_dict(self) -> dict[str, Any]:
        """The outcome for JSON."""
        return asdict(self)

    def line(self) -> str:
        """The outcome in one line."""
        counts = f"{self.files} files, {self.datasets} datasets, {self.activities} activities" if self.record else ""
        told = "  ".join(filter(None, [counts, self.record or self.reason, "" if self.cause else "(unchanged)"]))
        return f"{self.key}  {self.state:17}  {told}"


class Building:
    """One call of ``nexuslims-pipeline build``."""

    def __init__(self, site: Settings, *, verbose: bool = False) -> None:
        from nexuslims_pipeline.definitions import build_definitions, resources_of

        self._site = site
        self._verbose = verbose
        self._definitions = build_definitions(site)
        doors: dict[str, Any] = resources_of(site)
        self._store, self._storage, self._catalog = doors["store"], doors["storage"], doors["catalog"]
        self._rule = doors["clustering_rule"]
        self.troubles: list[str] = []
        """Servers that did not answer and folders that are not there: their sessions were not looked at."""

    def run(
        self, first: date | None, last: date | None, keys: list[str], show: Callable[[Outcome], None]
    ) -> list[Outcome]:
        """Build every session that is new or changed.

        Parameters
        ----------
        first, last
            Days on which the sessions to consider began, where the instrument stands; without `first`, as far back as
            ``NX_HARVEST_DAYS``.
        keys
            Build these sessions, whatever has changed, and no others.
        show
            Told of each outcome as it comes.
        """
        due = self._asked_for(keys)
        considered = sorted({*due} or self._discover(first, last, due))
        if due:
            prepare()
        instance = None
        silent: set[str] = set()
        outcomes = []
        for number, key in enumerate(considered, 1):
            if key in due and parse_key(key).server not in silent:
                instance = instance or dagster_instance(self._site.data_path)
                _tell(f"[{number}/{len(considered)}] {key}: {due[key]} …")
                self._materialise(instance, key)
                _tell("")
                silent |= self._gone_silent(key)
            outcomes.append(self.outcome(key, due.get(key, "")))
            show(outcomes[-1])
        if due:
            self._catalog.rebuild(self._store)
        return outcomes

    def preview(
        self, first: date | None, last: date | None, keys: list[str], show: Callable[[Outcome], None]
    ) -> list[Outcome]:
        """Say what `run` would do; reads NEMO and the folders' listings, opens no file, writes nothing."""
        due = self._asked_for(keys)
        considered = sorted({*due} or self._discover(first, last, due, register=False))
        outcomes = []
        for key in considered:
            outcomes.append(self._foresee(key, due[key]) if key in due else self.outcome(key, ""))
            show(outcomes[-1])
        return outcomes

    def _asked_for(self, keys: list[str]) -> dict[str, str]:
        """Keys that somebody named, each with that as the cause.

        Raises
        ------
        ConfigurationError
            When one of them can be no session.
        """
        for key in keys:
            if doubt := self._doubt(key):
                raise ConfigurationError(f"There is no session '{key}': {doubt}.")
        return dict.fromkeys(keys, "asked for")

    def _doubt(self, key: str) -> str:
        from resources.nemo import NemoError, open_server

        server, event_id = event_of(key)
        known = self._store.key_of(server, event_id, "")
        if known == key:
            return ""
        if known:
            return f"that usage event has the key '{known}'"
        if instrument_of(key) not in self._site.instruments:
            return f"{self._site.instruments_file} has no instrument '{instrument_of(key)}'"
        if server not in self._site.nemo_servers:
            return f"the settings have no NEMO server '{server}'"
        try:
            event = open_server(self._site.nemo_servers[server], verify=self._site.verify).usage_event(event_id)
        except NemoError:  # building it says what is wrong with the server
            return ""
        return "" if event else f"NEMO server '{server}' has no usage event {event_id}"

    def _discover(
        self, first: date | None, last: date | None, due: dict[str, str], *, register: bool = True
    ) -> Iterable[str]:
        """Keys of all sessions in the span; those to be built go into `due` with the reason."""
        from nexuslims_pipeline.jobs import span_of
        from resources.harvest import answers_due, discover, files_due
        from resources.nemo import NemoError, open_server

        since, until = span_of(first, last)
        since = since or datetime.now(UTC) - timedelta(days=self._site.harvest_days)
        keys: list[str] = []
        for name, server in self._site.nemo_servers.items():
            try:
                uses = discover(
                    open_server(server, verify=self._site.verify),
                    self._site.instruments,
                    self._store,
                    since=since,
                    until=until,
                    days=(first or date.min, last or date.max),
                    register=register,
                )
            except NemoError as fault:
                self.troubles.append(f"{name}: {fault}")
                continue
            keys += [use.key for use in uses]
            changed = answers_due(uses, self._store)
            due |= {key: changed[key].reason for key in changed}
        due |= {key: reason for key in keys if key not in due and (reason := self._must_repeat(key))}
        sessions = [self._store.ready_session(key) for key in keys if key not in due]
        changed = files_due(filter(None, sessions), self._storage, self._store, report=self.troubles.append)
        due |= {key: changed[key].reason for key in changed}
        return keys

    def _must_repeat(self, key: str) -> str:
        """Why a session must be built again although neither NEMO nor its files changed; empty if it need not."""
        from nexuslims_pipeline.definitions import CODE_VERSIONS
        from resources.harvest import was_read_otherwise

        if self._store.failure(key):
            return "failed before"
        if (tombstone := self._store.tombstone(key)) and tombstone.remains:
            return "something remains of it"
        headers = {stage: self._store.header(stage, key) for stage in CODE_VERSIONS}
        if any(h and h["code_version"] != CODE_VERSIONS[stage] for stage, h in headers.items()):
            return "the software is newer"
        if self._store.state(key)[0] is None:
            return "was left unfinished"
        activities, record = headers["activities"], headers["record"]
        if activities and activities.get("rule") != self._rule.in_words():
            return "the rule for activities changed"
        instrument = self._site.instruments.get(instrument_of(key))
        if record and instrument and record.get("instrument") != instrument.in_words():
            return "the instrument's entry changed"
        if instrument and was_read_otherwise(self._store, key, self._storage.rules().in_words(instrument.id)):
            return "the rules for its files changed"
        return ""

    def _materialise(self, instance: Any, key: str) -> None:
        from assets.partitions import SESSIONS
        from assets.session_asset import NO_RETRY_TAG

        instance.add_dynamic_partitions(SESSIONS.name or "", [key])
        level = "INFO" if self._verbose else "CRITICAL"
        result = self._definitions.resolve_job_def("build_sessions").execute_in_process(
            instance=instance,
            partition_key=key,
            tags={"nexuslims/cause": "command line", NO_RETRY_TAG: "somebody waits"},
            run_config={"loggers": {"console": {"config": {"log_level": level}}}},
            raise_on_error=False,
        )
        if not result.success and not self._store.failure(key):
            self._store.write_failure(key, "usage_event", "the run failed; see it in Dagster.", result.run_id)

    def _gone_silent(self, key: str) -> set[str]:
        """The session's server, when it was out of reach: there is no use in waiting for it once more."""
        failure = self._store.failure(key)
        if not failure or not failure.get("passing") or failure["asset"] != "usage_event":
            return set()
        server = parse_key(key).server
        self.troubles.append(f"{server}: its other sessions were not tried; the next build does.")
        return {server}

    def outcome(self, key: str, cause: str = "") -> Outcome:
        """What the store knows of a session."""
        state, reason = self._store.state(key)
        record = self._store.header("record", key) if state is SessionState.BUILT else None
        return Outcome(
            key=key,
            state=str(state or "NOT_BUILT"),
            reason=reason,
            cause=cause,
            **({n: record[n] for n in ("files", "datasets", "activities")} if record else {}),
            record=str(self._store.record_path(key)) if record else "",
        )

    def _foresee(self, key: str, cause: str) -> Outcome:
        from nexuslims_pipeline.sessions.resolve import claims_of, resolve_session
        from resources.nemo import NemoError, open_server
        from resources.storage import StorageUnavailableError

        parts = parse_key(key)
        if parts.server not in self._site.nemo_servers:
            reason = f"The settings have no NEMO server '{parts.server}'."
            return Outcome(key, SessionState.FAILED, reason, cause=cause)
        server = open_server(self._site.nemo_servers[parts.server], verify=self._site.verify)
        try:
            usage = server.collect(parts.event_id)
            session = resolve_session(
                usage, key=key, instrument_id=parts.instrument_id, nemo_web_address=server.web_address
            )
            if session.state is not SessionState.READY:
                return Outcome(key, str(session.state), session.reason, cause=cause)
            found = self._storage.crawl(self._storage.instrument(parts.instrument_id), [session])
            inventory = self._storage.attribute(found, session, claims=claims_of(usage))
        except (NemoError, StorageUnavailableError, ConfigurationError, OSError, ValueError) as fault:
            return Outcome(key, SessionState.FAILED, str(fault), cause=cause)
        files = len(inventory.with_status("included", "waiting"))
        return Outcome(key, str(inventory.state), inventory.reason or f"{files} files", files=files, cause=cause)


class BusyError(Exception):
    """Another build is at work on the same store."""


@contextmanager
def alone(data_path: Path) -> Iterator[None]:
    """Hold the store's lock, which ends with the process however it ends.

    Raises
    ------
    BusyError
        At once, when another build holds it.
    """
    data_path.mkdir(parents=True, exist_ok=True)
    with (data_path / ".build.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"Another build is at work on {data_path}; this one leaves it to that.") from None
        yield


def _tell(progress: str) -> None:
    """Show what is going on, on a terminal only, in one line that the next overwrites."""
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def dagster_instance(data_path: Path) -> Any:
    """The instance of ``DAGSTER_HOME``; without one, an instance that lies in the store.

    Dagster's log of runs is kept there, so that the UI shows what the command line did.

    Raises
    ------
    ConfigurationError
        When ``DAGSTER_HOME`` is no absolute path, or one that Dagster cannot use.
    """
    from dagster import DagsterInstance

    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(data_path / "dagster_home")
    # A commit for each of the 50 events of a run takes longer than the run.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "50")
    home = Path(os.environ["DAGSTER_HOME"])
    if not home.is_absolute() or glob.escape(str(home)) != str(home):
        # Dagster would look for its settings by a pattern, find none, and switch its telemetry on.
        raise ConfigurationError(f"DAGSTER_HOME: '{home}' must be an absolute path without '[', '*' and '?'.")
    home.mkdir(parents=True, exist_ok=True)
    shipped = Path(__file__).parents[1] / "dagster.yaml"
    if not (home / "dagster.yaml").exists() and shipped.exists():
        shutil.copyfile(shipped, home / "dagster.yaml")
    return DagsterInstance.get()
