"""Bring the site's destinations in step with the records, in this process, without daemon or webserver."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from nexuslims_pipeline.configuration import Settings
from nexuslims_pipeline.instruments import ConfigurationError
from nexuslims_pipeline.sessions.keys import event_of, parse_key
from resources.destinations.portal import Portal
from resources.publishing import Publisher


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one session at one destination."""

    key: str
    destination: str
    state: str
    """``PUBLISHED``, ``WITHDRAWN``, ``FAILED``, or what `resources.publishing.CopyStatus` knows."""
    url: str = ""
    reason: str = ""
    cause: str = ""
    """Why it was sent."""

    @property
    def failed(self) -> bool:
        """Whether the destination does not hold what it should."""
        return self.state == "FAILED"

    def as_dict(self) -> dict[str, Any]:
        """The delivery for JSON."""
        return asdict(self)

    def line(self) -> str:
        """The delivery in one line."""
        return f"{self.key}  {self.destination:12}  {self.state:9}  {self.reason or self.url}".rstrip()


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be sent, and where."""

    destinations: Sequence[str] = ()
    """Names of those to send to; none: all."""
    keys: Collection[str] = ()
    """These sessions, due or not, and no others."""
    first: date | None = None
    last: date | None = None
    """Days on which the sessions began, where the instrument stands."""
    again: bool = False
    """Also what a destination holds already."""
    refused_too: bool = False
    """Also what a destination refused for good: somebody has mended something."""

    def includes(self, key: str) -> bool:
        """Whether a session began on the days."""
        return (self.first or date.min) <= parse_key(key).start_date <= (self.last or date.max)


class Deliveries:
    """One call of ``nexuslims-pipeline publish``, or the end of ``build``."""

    def __init__(self, site: Settings, instance: Callable[[], Any], *, verbose: bool = False) -> None:
        from nexuslims_pipeline.definitions import build_definitions, resources_of

        self._instance = instance
        self._level = "INFO" if verbose else "CRITICAL"
        self._definitions = build_definitions(site)
        doors: dict[str, Any] = resources_of(site)
        self._publishing, self._store, self._storage = doors["publishing"], doors["store"], doors["storage"]
        self.unpublished: set[str] = set()
        """Sessions that failed at a destination and are not published as the site's strategy demands."""

    @property
    def destinations(self) -> list[str]:
        """Names of the site's destinations."""
        return list(self._publishing.destinations())

    def run(self, selection: Selection, show: Callable[[Delivery], None]) -> list[Delivery]:
        """Send what is due, to one destination after the other; `show` is told of each delivery as it comes.

        Raises
        ------
        ConfigurationError
            When a destination is not one of the site's, or there is no such session.
        """
        for key in selection.keys:
            if self._store.key_of(*event_of(key), "") != key:
                raise ConfigurationError(f"There is no session '{key}' in the store; build it first.")
        deliveries: list[Delivery] = []
        # One after the other, those that others link to first: Dagster's runs cannot share a process.
        for name in self._known(selection.destinations):
            causes = self._due(name, selection)
            for key in causes if selection.again else ():
                self._publishing.publisher(name, self._store, self._storage).doubt(key)
            if causes:
                deliveries += self._send(self._instance(), name, causes, show)
        if deliveries:
            self._sum_up(self._instance(), {delivery.key for delivery in deliveries})
        if any(delivery.destination == Portal.name for delivery in deliveries):
            self._publishing.portal().refresh()
        failed = {delivery.key for delivery in deliveries if delivery.failed}
        self.unpublished = {key for key in failed if not self._is_published(key)}
        return deliveries

    def preview(self, selection: Selection, show: Callable[[Delivery], None]) -> list[Delivery]:
        """Say what `run` would send; asks no destination, writes nothing."""
        found = [
            Delivery(key, name, "WAITING", cause=cause, reason=cause)
            for name in self._known(selection.destinations)
            for key, cause in self._due(name, selection).items()
        ]
        for delivery in found:
            show(delivery)
        return found

    def _is_published(self, key: str) -> bool:
        return bool(self._publishing.status(key, self._store, self._storage).published)

    def _known(self, destinations: Sequence[str]) -> list[str]:
        if unknown := sorted(set(destinations) - set(self.destinations)):
            known = ", ".join(self.destinations) or "none; set NX_CDCS_URL or the like"
            raise ConfigurationError(f"There is no destination '{unknown[0]}'; configured are: {known}.")
        return [name for name in self.destinations if name in destinations or not destinations]

    def _due(self, name: str, selection: Selection) -> dict[str, str]:
        """Sessions to be sent to a destination, each with the reason."""
        if selection.again or selection.keys:
            chosen = selection.keys or filter(selection.includes, self._store.reached("record"))
            return dict.fromkeys(sorted(chosen), "asked for")
        now = datetime.now(UTC)
        due = self._publishing.due(name, self._store, self._storage, now, refused_too=selection.refused_too)
        return {key: due[key].reason for key in sorted(due) if selection.includes(key)}

    def _send(
        self, instance: Any, name: str, causes: dict[str, str], show: Callable[[Delivery], None]
    ) -> list[Delivery]:
        deliveries: list[Delivery] = []
        publisher = self._publishing.publisher(name, self._store, self._storage)
        outage = None
        for keys in _ranges(instance, list(causes)):
            if outage is None:
                self._run(instance, keys, f"publish_{name}", self._publishing.destinations()[name].asset_name)
            for key in keys:
                made = self._delivery(publisher, key, causes[key])
                deliveries.append(replace(made, reason=f"Not tried: {outage.reason}") if outage else made)
                show(deliveries[-1])
            # Those who wait for the other destinations are not to wait for this one as well.
            outage = outage or publisher.outage(datetime.now(UTC))
        return deliveries

    def _sum_up(self, instance: Any, keys: Collection[str]) -> None:
        """Have the sessions' status tell of all destinations."""
        for some in _ranges(instance, [key for key in keys if self._store.header("record", key)]):
            self._run(instance, some, "build_sessions", "session_status")

    def _run(self, instance: Any, keys: Sequence[str], job: str, asset: str) -> None:
        from dagster import AssetKey

        from assets.session_asset import NO_RETRY_TAG

        tags = {"nexuslims/cause": "command line", NO_RETRY_TAG: "somebody waits"}
        if len(keys) > 1:
            tags |= {
                "dagster/asset_partition_range_start": keys[0],
                "dagster/asset_partition_range_end": keys[-1],
            }
        self._definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            asset_selection=[AssetKey(asset)],
            partition_key=keys[0] if len(keys) == 1 else None,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": self._level}}}},
            raise_on_error=False,
        )

    def _delivery(self, publisher: Publisher, key: str, cause: str) -> Delivery:
        name, entry = publisher.destination.name, publisher.ledger.read(key)
        if entry and publisher.is_to_go(key):
            reason = entry.failure.reason if entry.failure else "not removed yet"
            return Delivery(key, name, "FAILED", reason=reason, cause=cause)
        if self._store.tombstone(key):
            return Delivery(key, name, "WITHDRAWN", cause=cause)
        if self._store.header("record", key) is None:
            state, reason = self._store.state(key)
            return Delivery(key, name, str(state or "NOT_BUILT"), reason=reason or "there is no record", cause=cause)
        copy = publisher.status(key)
        return Delivery(key, name, copy.state, copy.url, copy.reason, cause)


def _ranges(instance: Any, keys: Sequence[str]) -> Iterator[list[str]]:
    """Sessions that Dagster lists one after another, as many as fit one run."""
    from assets.partitions import SESSIONS
    from assets.session_asset import SESSIONS_PER_RUN

    name = SESSIONS.name or ""
    listed = list(instance.get_dynamic_partitions(name))
    if missing := [key for key in keys if key not in set(listed)]:
        instance.add_dynamic_partitions(name, missing)
        listed += missing
    place = {key: number for number, key in enumerate(listed)}
    ordered = sorted(keys, key=place.__getitem__)
    begin = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or place[ordered[end]] != place[ordered[end - 1]] + 1 or end - begin == SESSIONS_PER_RUN:
            yield ordered[begin:end]
            begin = end
