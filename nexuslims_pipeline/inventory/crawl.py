"""One walk over an instrument's folder, on a share that may be slow and whose content may be hostile.

No file is opened. Folders are opened name by name from the root downward and never through a link, so a link
put in place of a folder during the walk leads nowhere; a link to a folder is first resolved to its real place
below the root. All this holds for the moment of the walk: who opens a listed file later must check it again.
"""

import errno
import math
import os
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias

from nexuslims_pipeline.files import to_location
from nexuslims_pipeline.inventory.companions import EXTENSIONS, extension_of, related
from nexuslims_pipeline.inventory.model import Crawl, FoundFile, Refusal

Parts: TypeAlias = tuple[str, ...]
"""Names from the root downward."""

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASS = getattr(os, "O_PATH", 0) | _LIST
"""Passing through a folder asks for less than listing it, where the system knows the difference (Linux)."""

_SPECIAL = {
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


class FolderMissingError(FileNotFoundError):
    """The instrument's folder is not there, cannot be listed, or lies outside the root."""


def crawl(
    root: Path,
    folder: Path,
    *,
    since: float | None = None,
    until: float | None = None,
    threads: int = 8,
    other_folders: Collection[Path] = (),
) -> Crawl:
    """List the files below an instrument's folder that were modified in (since, until].

    Each folder is listed once. Links to folders below `root` are followed; what is found there is named by
    its real place, so nothing counts twice and loops end.

    Parameters
    ----------
    root
        Folder of all instruments; nothing outside is listed.
    folder
        The instrument's folder below `root`.
    since, until
        Bounds of the modification time as the file system has it, seconds since 1970; None for no bound.
    threads
        Folders listed at the same time. On a slow share this hides the waiting; local disks gain nothing.
    other_folders
        Folders of other instruments below `root`: never entered, not even through a link.

    Returns
    -------
    Crawl
        Refusals whose time lies outside the bounds are left out. A folder that cannot be listed, or a link to
        one outside `root`, is refused without a time: it may hide files of any time.

    Raises
    ------
    FolderMissingError
        When `folder` is missing, cannot be listed or lies outside `root`.
    """
    base = Path(os.path.realpath(root))
    home = _resolve(base, folder)
    if home is None:
        raise FolderMissingError(f"the folder {folder} leads out of the instrument root {root}")
    others = (_resolve(base, other) for other in other_folders)
    elsewhere = frozenset(other for other in others if other is not None and other != home)
    return _Walk(base, home, elsewhere, _bounds(since, until)).run(threads)


@dataclass(slots=True)
class _Listing:
    """What one folder holds."""

    identity: tuple[int, int] | None = None
    """Device and inode; None when the folder could not be opened."""
    error: str | None = None
    """Why it could not be listed, or not to its end."""
    files: list[FoundFile] = field(default_factory=list)
    neighbours: list[FoundFile] = field(default_factory=list)
    folders: list[Parts] = field(default_factory=list)
    """Folders to list next: real ones and those that links lead to."""
    file_links: list[tuple[Parts, Refusal]] = field(default_factory=list)
    """Where links to files below the root lead; each with its refusal, if the walk does not come by there."""
    refusals: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Walk:
    base: Path
    """The real place of the root."""
    home: Parts
    """The instrument's folder."""
    others: frozenset[Parts]
    """Folders of other instruments."""
    in_bounds: Callable[[int], bool]
    """Whether a modification time in nanoseconds was asked for."""

    def run(self, threads: int) -> Crawl:
        """Walk level by level, so that the result does not depend on which thread was first."""
        listings: list[_Listing] = []
        refusals: list[Refusal] = []
        listed: dict[tuple[int, int], Parts] = {}
        known = {self.home}
        level = [self.home]
        with ThreadPoolExecutor(threads) as pool:
            while level:
                below: set[Parts] = set()
                for folder, listing in zip(level, pool.map(self._list, level), strict=True):
                    if listing.error is not None:
                        refusals.append(_refusal(folder, f"folder cannot be listed: {listing.error}"))
                    if listing.identity is None:
                        continue
                    first = listed.setdefault(listing.identity, folder)
                    if first != folder:
                        same = to_location(Path(*first))
                        refusals.append(_refusal(folder, f"the same folder as {same}, mounted a second time"))
                        continue
                    listings.append(listing)
                    below.update(listing.folders)
                level = sorted(below - known)
                known |= below
        for listing in listings:
            refusals += listing.refusals
            refusals += (refusal for target, refusal in listing.file_links if target[:-1] not in known)
        timely = (each for each in refusals if each.modified_ns is None or self.in_bounds(each.modified_ns))
        files = (file for listing in listings for file in listing.files)
        neighbours = (file for listing in listings for file in listing.neighbours)
        by_location = attrgetter("location")
        return Crawl(
            files=tuple(sorted(files, key=by_location)),
            refusals=tuple(sorted(timely, key=by_location)),
            neighbours=tuple(sorted(neighbours, key=by_location)),
        )

    def _list(self, folder: Parts) -> _Listing:
        listing = _Listing()
        inside: dict[str, os.stat_result] = {}
        outside: dict[str, os.stat_result] = {}
        try:
            with _opened(self.base, folder) as descriptor, os.scandir(descriptor) as entries:
                status = os.fstat(descriptor)
                listing.identity = status.st_dev, status.st_ino
                for entry in entries:
                    self._examine(entry, folder, listing, inside, outside)
        except FileNotFoundError as gone:
            self._must_not_be_home(folder, gone)
        except OSError as error:
            self._must_not_be_home(folder, error)
            listing.error = _words(error)
        listing.files = [_found(folder, name, status) for name, status in inside.items()]
        if inside:
            listing.neighbours = [_found(folder, name, outside[name]) for name in related(inside, outside)]
        return listing

    def _examine(
        self,
        entry: os.DirEntry[str],
        folder: Parts,
        listing: _Listing,
        inside: dict[str, os.stat_result],
        outside: dict[str, os.stat_result],
    ) -> None:
        place = (*folder, entry.name)
        try:
            if entry.is_symlink():
                self._resolve_link(entry, place, listing)
            elif entry.is_dir(follow_symlinks=False):
                if place not in self.others:
                    listing.folders.append(place)
            else:
                status = entry.stat(follow_symlinks=False)
                kind = stat.S_IFMT(status.st_mode)
                if kind in _SPECIAL:
                    listing.refusals.append(_refusal(place, _SPECIAL[kind], status.st_mtime_ns))
                elif kind == stat.S_IFREG and self.in_bounds(status.st_mtime_ns):
                    inside[entry.name] = status
                elif kind == stat.S_IFREG and extension_of(entry.name) in EXTENSIONS:
                    outside[entry.name] = status
        except FileNotFoundError:
            pass  # gone since the folder was listed
        except OSError as error:
            listing.refusals.append(_refusal(place, f"cannot be examined: {_words(error)}"))

    def _resolve_link(self, entry: os.DirEntry[str], place: Parts, listing: _Listing) -> None:
        modified_ns = entry.stat(follow_symlinks=False).st_mtime_ns
        try:
            target = Path(os.path.realpath(self.base.joinpath(*place), strict=True))
            is_folder = stat.S_ISDIR(target.lstat().st_mode)
        except OSError as error:
            listing.refusals.append(_refusal(place, f"link cannot be followed: {_words(error)}", modified_ns))
            return
        parts = _below(self.base, target)
        if parts is None:
            reason = "link leads out of the instrument root"
            listing.refusals.append(_refusal(place, reason, None if is_folder else modified_ns))
        elif not is_folder:
            reason = "link to a file outside the instrument's folder"
            listing.file_links.append((parts, _refusal(place, reason, modified_ns)))
        elif parts != self.home and _holds(parts, self.home):
            reason = "link to a folder that holds the instrument's own folder"
            listing.refusals.append(_refusal(place, reason, modified_ns))
        elif self._is_foreign(parts):
            reason = "link into the folder of another instrument"
            listing.refusals.append(_refusal(place, reason, modified_ns))
        else:
            listing.folders.append(parts)

    def _is_foreign(self, place: Parts) -> bool:
        """Whether the innermost instrument's folder around `place` is another's."""
        around = [folder for folder in (self.home, *self.others) if _holds(folder, place)]
        return max(around, key=len, default=self.home) != self.home

    def _must_not_be_home(self, folder: Parts, error: OSError) -> None:
        if folder == self.home:
            path = self.base.joinpath(*folder)
            raise FolderMissingError(
                f"the instrument's folder {path} cannot be listed: {_words(error)}; "
                "is its name right in the list of instruments, and is the share mounted?"
            ) from error


@contextmanager
def _opened(base: Path, folder: Parts) -> Iterator[int]:
    """Descriptor of a folder below `base`, reached without following a link."""
    *way, last = (".", *folder)
    descriptor = os.open(base, _PASS)
    try:
        for name, flags in (*((each, _PASS) for each in way), (last, _LIST)):
            outer, descriptor = descriptor, os.open(name, flags, dir_fd=descriptor)
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def _resolve(base: Path, folder: Path) -> Parts | None:
    """Names below `base` of the real place of one of its folders; None when that lies elsewhere."""
    return _below(base, Path(os.path.realpath(base / folder.relative_to(folder.anchor))))


def _below(base: Path, path: Path) -> Parts | None:
    return path.relative_to(base).parts if path.is_relative_to(base) else None


def _holds(folder: Parts, place: Parts) -> bool:
    return place[: len(folder)] == folder


def _bounds(since: float | None, until: float | None) -> Callable[[int], bool]:
    low = -math.inf if since is None else math.floor(Fraction(since) * 10**9)
    high = math.inf if until is None else math.floor(Fraction(until) * 10**9)
    return lambda modified_ns: low < modified_ns <= high


def _found(folder: Parts, name: str, status: os.stat_result) -> FoundFile:
    return FoundFile(to_location(Path(*folder, name)), status.st_size, status.st_mtime_ns)


def _refusal(place: Parts, reason: str, modified_ns: int | None = None) -> Refusal:
    return Refusal(to_location(Path(*place)), reason, modified_ns)


def _words(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "there is nothing at this place"
        case errno.ELOOP:
            return "it leads in a circle"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case number:
            return os.strerror(number).lower() if number else "unknown error"
