"""Whether the files of a session are all there: what is still written, how long to wait for the first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nexuslims_pipeline.files import display_name, from_location
from nexuslims_pipeline.inventory.clock import stamp
from nexuslims_pipeline.inventory.companions import Group
from nexuslims_pipeline.inventory.model import FoundFile, Inventory, InventoryEntry, Refusal
from nexuslims_pipeline.sessions.model import Session, SessionState


@dataclass(frozen=True, slots=True)
class Settling:
    """When a file counts as complete.

    Both times are taken on the instrument's clock: against true time, files from a clock that is behind would
    look settled while they grow, and those from one that is ahead would look new for as long.
    """

    now_ns: int
    """True time of the look, as the instrument's clock would show it; nanoseconds since 1970."""
    quiet_ns: int
    """How long a file must not have been modified."""
    previous: Mapping[str, InventoryEntry]
    """Entries of the look before, by location; empty when changes no longer matter."""

    def reason_to_wait(self, group: Group) -> str | None:
        """Why a file or its companions may still change, in words; None when they are complete."""
        file = group.file
        age = self.now_ns - file.modified_ns
        if age < 0:
            return "modified in the future: is the instrument's clock right?"
        if age < self.quiet_ns:
            return f"modified less than {self.quiet_ns / 1e9:g} s ago, may still be written"
        before = self.previous.get(file.location)
        if before is not None and _differs(before, file):
            return "changed since the look before, may still be written"
        for companion in group.companions:
            # The window does not bound a companion's time: one far in the future must hold up nothing.
            if abs(self.now_ns - companion.modified_ns) < self.quiet_ns:
                name = display_name(from_location(companion.location))
                return f"its companion {name} was modified just now, may still be written"
        return None


def _differs(before: InventoryEntry, file: FoundFile) -> bool:
    return (before.size, before.modified_ns) != (file.size, file.modified_ns)


def out_of_sight(previous: Inventory, entries: Sequence[InventoryEntry], refusals: Sequence[Refusal]) -> str:
    """Why files of the look before may still be there although nobody can see them now; empty when all are seen.

    A share that fails for a while must not look like files that were deleted.
    """
    seen = {entry.location for entry in entries}
    gone = [entry.location for entry in previous.with_status("included")]
    for refusal in refusals:
        below = [location for location in gone if location.startswith(f"{refusal.location}/") and location not in seen]
        if below:
            return f"{_files(len(below))} out of sight: {refusal.location} cannot be read ({refusal.reason})"
    return ""


def session_state(
    session: Session, entries: Sequence[InventoryEntry], now: datetime, file_delay: timedelta
) -> tuple[SessionState, str]:
    """How far the session got with these files, and why in words for a facility manager.

    A session without files waits for `file_delay` after its end; then none is expected any more.
    """
    counts = Counter(entry.status for entry in entries)
    if waiting := [entry for entry in entries if entry.status == "waiting"]:
        first = display_name(from_location(waiting[0].location))
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        return SessionState.WAITING_FOR_FILES, f"still arriving: {first}{more} ({waiting[0].reason})"
    if counts["included"]:
        return SessionState.READY, f"{_files(counts['included'])}, all settled"
    others = ", ".join(f"{counts[status]} {status}" for status in ("contested", "refused", "ignored") if counts[status])
    found = f"no file of this session was found{f' ({others})' if others else ''}"
    deadline = session.end + file_delay
    if now > deadline:
        return SessionState.NO_FILES_FOUND, f"{found}; waited until {stamp(deadline)}"
    return SessionState.WAITING_FOR_FILES, f"{found}; waiting until {stamp(deadline)}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"
