"""HDF5 files without leaving them: external links, external storage and foreign virtual datasets are refused.

Soft links within a file are allowed to its readers, but not followed by the walk here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from nexuslims_pipeline.extraction.model import ExtractionError

HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH: Final = 64
MAX_OBJECTS: Final = 200_000


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
        msg = f"the HDF5 file is cut off or damaged: {str(fault)[:200]}"
        raise ExtractionError(msg) from fault


def text_of(value: Any) -> Any:
    """An attribute or a small dataset's value as plain Python: bytes and arrays of one element unpacked."""
    if hasattr(value, "shape") and value.shape in ((1,), (1, 1)):
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


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
