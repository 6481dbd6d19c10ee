"""HDF5 files without leaving them: external links, external storage and foreign virtual datasets are refused.

Soft links within a file are allowed to its readers, but not followed by the walk here.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nexuslims_pipeline.extraction.facts import ARRAY_VALUES, TEXT_CHARACTERS
from nexuslims_pipeline.extraction.faults import in_words
from nexuslims_pipeline.extraction.model import ExtractionError
from nexuslims_pipeline.extraction.vendor_text import decode
from nexuslims_pipeline.signals import Source

HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH: Final = 64
MAX_OBJECTS: Final = 200_000
VIRTUAL_LAYOUT: Final = 3
"""``H5D_VIRTUAL`` in HDF5's ``H5Dpublic.h``."""
FIRST_BYTES: Final = 1 << 20
"""Where the names of a damaged file are looked for."""
TREE_OBJECTS: Final = 20_000
"""Objects and attributes of one file that are read as metadata."""
COMPACT_ATTRIBUTES: Final = 64
"""Opening more of them by their numbers would have HDF5 sort them all each time."""


def is_hdf5(head: bytes) -> bool:
    """Whether the first bytes are those of HDF5, at one of the places where its superblock may lie."""
    return any(head.startswith(HDF5_MAGIC, place) for place in (0, 512, 1024, 2048))


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file as a read-only `h5py.File`; nothing has been checked yet.

    Damage found inside the block is an `ExtractionError`.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as fault:
        if isinstance(fault, ExtractionError):
            raise
        msg = f"the HDF5 file is cut off or damaged: {in_words(fault)}"
        raise ExtractionError(msg) from fault


def is_cut_off(source: Source, head: bytes, extensions: Collection[str]) -> bool:
    """Whether a file of one of `extensions`, which no other format has, is HDF5 that cannot be opened.

    Who has the extension accepts it then, to say what is wrong with it.
    """
    if source.path.suffix.lower() not in extensions or not is_hdf5(head):
        return False
    try:
        with open_hdf5(source.path):
            return False
    except ExtractionError:
        return True


def mentions(source: Source, head: bytes, *names: bytes) -> bool:
    """Whether HDF5 that cannot be opened has all these names in its first bytes, so that it is clear whose it was.

    Who has such names accepts it then, to say what is wrong with it.
    """
    if not is_hdf5(head):
        return False
    with source.path.open("rb") as file:
        first = file.read(FIRST_BYTES)
    return all(name in first for name in names)


def check_hdf5(path: Path) -> int:
    """Walk through an HDF5 file without leaving it.

    Parameters
    ----------
    path
        The file; soft links within it are allowed.

    Returns
    -------
    int
        Bytes of all its datasets when unpacked.

    Raises
    ------
    ExtractionError
        When it leads to another file (external links, external storage, virtual datasets), is nested absurdly
        deeply, or is no HDF5 file.
    """
    with open_hdf5(path) as file:
        return sum(_dataset_bytes(dataset) for dataset in datasets(file))


def _dataset_bytes(dataset: Any) -> int:
    if dataset.external:
        msg = f"{dataset.name} keeps its numbers in another file, which is not followed"
        raise ExtractionError(msg)
    if dataset.is_virtual and any(part.file_name != "." for part in dataset.virtual_sources()):
        msg = f"{dataset.name} is put together from other files, which are not followed"
        raise ExtractionError(msg)
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def datasets(file: Any) -> Iterator[Any]:
    """Every dataset once, also where hard links make a ring."""
    import h5py

    waiting = [(file, 0)]
    seen: set[int] = set()
    while waiting:
        group, depth = waiting.pop()
        if depth > MAX_DEPTH or len(seen) > MAX_OBJECTS:
            msg = f"{group.name[:80]} is nested too deeply, or the file has too many objects"
            raise ExtractionError(msg)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                msg = f"{group.name}/{name} is a link to another file, which is not followed"
                raise ExtractionError(msg)
            if not isinstance(link, h5py.HardLink):
                continue
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                waiting.append((found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                yield found


class Unread(str):
    """Words in place of a value that was not read."""

    __slots__ = ()


@dataclass(slots=True)
class Tree:
    """Names and values of a group, and what was found on the way."""

    values: dict[str, Any]
    """Groups are dicts; the attribute ``Unit`` of a dataset ``WD`` is ``WD@Unit``, that of the group ``@Unit``. Large
    arrays are described in words."""
    datasets: dict[str, Any]
    """Every `h5py.Dataset`, by its path below the group; each once, also where several hard links lead to it."""
    links: dict[str, str]
    """Soft and external links, which are not followed: where they lead to, by their own path below the group."""


def tree_of(group: Any, *, mark: str = "@", limit: int = TREE_OBJECTS) -> Tree:
    """Read the attributes and small datasets of a group and of all groups in it.

    Numbers in other files are not read; no link but hard ones is followed.

    Parameters
    ----------
    group
        `h5py.Group` or file.
    mark
        What stands before the names of a group's attributes in `Tree.values`.
    limit
        Attributes and objects that are read; what follows is left out, which the key ``…`` shows.
    """
    reader = _TreeReader(mark, limit)
    return Tree(reader.branch(group, ""), reader.datasets, reader.links)


class _TreeReader:
    def __init__(self, mark: str, limit: int) -> None:
        self.datasets: dict[str, Any] = {}
        self.links: dict[str, str] = {}
        self._mark = mark
        self._left = limit
        self._above: list[int] = []
        self._seen: set[int] = set()

    def branch(self, group: Any, path: str) -> dict[str, Any]:
        import h5py

        values = self._attributes(group, self._mark)
        for name in group:
            if self._left <= 0 or len(self._above) > MAX_DEPTH:
                values["…"] = "left out: too much of it"
                break
            self._left -= 1
            place = f"{path}/{name}".lstrip("/")
            kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
            if kind != h5py.h5l.TYPE_HARD:
                self.links[place] = values[name] = _link_words(group, name)
                continue
            found = group[name]
            if isinstance(found, h5py.Dataset):
                values[name] = _value_of(found)
                values |= self._attributes(found, f"{name}@")
                address = h5py.h5o.get_info(found.id).addr
                if address not in self._seen:
                    self._seen.add(address)
                    self.datasets[place] = found
            elif isinstance(found, h5py.Group):
                values[name] = self._inner(found, place)
        return values

    def _inner(self, group: Any, place: str) -> Any:
        import h5py

        address = h5py.h5o.get_info(group.id).addr
        if address in self._above:
            return "left out: a group within itself"
        self._above.append(address)
        values = self.branch(group, place)
        self._above.pop()
        return values

    def _attributes(self, owner: Any, mark: str) -> dict[str, Any]:
        """Attributes of a group or dataset; those that cannot be read are left out."""
        import h5py

        values: dict[str, Any] = {}
        for place in _attribute_places(owner, self._left):
            self._left -= 1
            with contextlib.suppress(OSError, TypeError, ValueError, KeyError, RuntimeError, UnicodeDecodeError):
                attribute = h5py.h5a.open(owner.id, **place)
                name = attribute.name.decode("utf-8", "replace")
                values[mark + name] = plain_value(_attribute_value(owner, name, attribute))
        return values


def _attribute_places(owner: Any, most: int) -> list[dict[str, Any]]:
    """What `h5py.h5a.open` is given for each of an object's first attributes."""
    import h5py

    count = min(h5py.h5a.get_num_attrs(owner.id), most)
    if count <= COMPACT_ATTRIBUTES:
        return [{"index": number} for number in range(count)]
    names: list[bytes] = []

    def keep(name: bytes) -> bool | None:
        names.append(name)
        return len(names) >= count or None

    h5py.h5a.iterate(owner.id, keep)
    return [{"name": name} for name in names]


def _attribute_value(owner: Any, name: str, attribute: Any) -> Any:
    """Value of an attribute; the common kinds without h5py's detours, which take most of a walk's time."""
    import h5py
    import numpy as np

    kind = attribute.get_type()
    is_plain = kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or (
        kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    )
    if not is_plain or attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return owner.attrs[name]
    value = np.empty(attribute.shape, attribute.dtype)
    attribute.read(value)
    return value[()]


def _link_words(group: Any, name: str) -> Unread:
    import h5py

    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return Unread(f"link to {link.path} in another file, {link.filename}, which is not followed")
    return Unread(getattr(link, "path", "link of an unknown kind"))


def _value_of(dataset: Any) -> Any:
    """Value of a small dataset; words for any other, and for one that cannot be read."""
    if dataset.shape is None:
        return None
    if dataset.size > ARRAY_VALUES or dataset.size * dataset.dtype.itemsize > TEXT_CHARACTERS:
        return Unread(f"array of {' × '.join(map(str, dataset.shape))} values, {dataset.dtype}"[:200])
    try:
        ensure_own_numbers(dataset)
        return plain_value(dataset[()])
    except ExtractionError as fault:
        return Unread(fault)
    except (OSError, TypeError, ValueError, RuntimeError) as fault:
        return Unread(f"it cannot be read: {str(fault)[:120]}")


def plain_value(value: Any) -> Any:
    """Value of an attribute or a dataset as plain Python; an array of one element is that element.

    Single-precision numbers are those that their shortest decimal form says: 0.1, not 0.10000000149.
    """
    if hasattr(value, "dtype"):
        if value.dtype.names is not None or value.size > ARRAY_VALUES:
            return str(value)[:TEXT_CHARACTERS]
        if value.dtype.kind == "f" and value.dtype.itemsize < 8:
            value = value.astype(str).astype(float)
        value = value.reshape(-1)[0] if getattr(value, "size", 0) == 1 and value.ndim else value
        value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, bytes):
        return decode(value.rstrip(b"\0"))[0].strip()
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    return value if isinstance(value, str | bool | int | float) or value is None else str(value)[:TEXT_CHARACTERS]


def ensure_own_numbers(dataset: Any) -> None:
    """Refuse a dataset whose numbers lie in other files.

    Raises
    ------
    ExtractionError
        With the reason.
    """
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == VIRTUAL_LAYOUT:
        _dataset_bytes(dataset)


class Numbers:
    """A dataset of an HDF5 file, opened when it is sliced.

    Parameters
    ----------
    path
        The file.
    dataset
        `h5py.Dataset` of it.
    scan
        Lengths of the axes that the dataset's first axis stands for; empty: the dataset's own shape.

    Raises
    ------
    ExtractionError
        If its numbers lie in another file.
    """

    def __init__(self, path: Path, dataset: Any, scan: tuple[int, ...] = ()) -> None:
        ensure_own_numbers(dataset)
        self.shape: tuple[int, ...] = (*scan, *dataset.shape[1:]) if scan else tuple(dataset.shape)
        self.ndim = len(self.shape)
        self.dtype = dataset.dtype
        self.chunks = self._chunks_of(dataset, scan)
        self._scan = scan
        self._path = path
        self._name = dataset.name
        self._opened: Any = None

    def _chunks_of(self, dataset: Any, scan: tuple[int, ...]) -> tuple[int, ...] | None:
        if dataset.chunks is None or not scan:
            return tuple(dataset.chunks) if dataset.chunks else None
        first, *rest = dataset.chunks
        row = scan[-1]
        inner = (min(first, row),) if len(scan) == 1 else (max(1, min(first // row, scan[-2])), min(first, row))
        return (*(1 for _ in scan[: -len(inner)]), *inner, *rest)

    def __getitem__(self, key: Any) -> Any:
        if self._opened is None:
            import h5py

            self._opened = h5py.File(self._path, "r", locking=False)[self._name]
        parts = complete(key, self.ndim)
        return self._gathered(parts) if len(self._scan) > 1 else self._opened[parts]

    def _gathered(self, parts: tuple[Any, ...]) -> Any:
        """Row by row, since the rows of a scan lie behind one another along the dataset's first axis."""
        import numpy as np

        *outer, columns = (np.arange(size)[part] for size, part in zip(self._scan, parts, strict=False))
        rest = parts[len(self._scan) :]
        row = self._scan[-1]
        starts = np.zeros((), np.int64)
        for size, chosen in zip(self._scan, outer, strict=False):
            starts = np.add.outer(starts * size, chosen)
        found = [self._opened[(_along(int(start) * row, columns), *rest)] for start in starts.ravel()]
        if starts.ndim == 0:
            return found[0]
        inside = found[0].shape if found else np.empty((row, *self.shape[len(self._scan) :]), bool)[columns].shape
        return np.array(found, self.dtype).reshape(starts.shape + tuple(inside))

    def transpose(self, order: Sequence[int]) -> Any:
        """Itself, or its numbers at once when the axes change their places."""
        return self if tuple(order) == tuple(range(self.ndim)) else self[...].transpose(order)


def _along(start: int, columns: Any) -> Any:
    if columns.ndim == 0:
        return start + int(columns)
    if columns.size < 2:
        return slice(start + int(columns[0]), start + int(columns[0]) + 1) if columns.size else slice(0, 0)
    return slice(start + int(columns[0]), start + int(columns[-1]) + 1, int(columns[1] - columns[0]))


def complete(key: Any, count: int) -> tuple[Any, ...]:
    """One index for each of `count` axes, for a key with fewer or with ``...``."""
    parts = key if isinstance(key, tuple) else (key,)
    place = next((n for n, part in enumerate(parts) if part is Ellipsis), len(parts))
    tail = parts[place + 1 :]
    return (*parts[:place], *(slice(None),) * (count - place - len(tail)), *tail)


def resolved(file: Any, path: str | bytes, steps: int = 16) -> Any:
    """Object at an absolute path, through hard links and soft links within the file; None when there is none."""
    import h5py

    if isinstance(path, bytes):  # the name of a damaged link
        return None
    found = file
    names = [name for name in path.split("/") if name and name != "."]
    for place, name in enumerate(names):
        link = found.get(name, getlink=True) if isinstance(found, h5py.Group) else None
        if isinstance(link, h5py.SoftLink):
            target = link.path if link.path.startswith("/") else f"{found.name}/{link.path}"
            rest = "/".join(names[place + 1 :])
            return resolved(found.file, f"{target}/{rest}", steps - 1) if steps > 0 and ".." not in target else None
        if not isinstance(link, h5py.HardLink):
            return None
        found = found[name]
    return found
