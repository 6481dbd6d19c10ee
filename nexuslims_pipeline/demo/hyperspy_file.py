"""Writer of HyperSpy's HDF5 files (``.hspy``, format version 3.3).

::

    /Experiments/<title>/data                      the array, navigation axes first
                        /axis-<n>                  attributes: name, units, scale, offset, size, navigate ...
                        /metadata/<group>/...      attributes: HyperSpy's metadata tree
                        /original_metadata/...

Layout as RosettaSciIO writes it, https://github.com/hyperspy/rosettasciio.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from nexuslims_pipeline.signals import Axis


def hyperspy_file(data: NDArray[Any], axes: Sequence[Axis], title: str, metadata: Mapping[str, Any]) -> bytes:
    """Bytes of a file with one signal.

    Parameters
    ----------
    data
        Shape as the sizes of `axes`.
    axes
        In NumPy order, navigation axes first.
    title
        Name of the experiment group and of the signal.
    metadata
        HyperSpy's tree (``Acquisition_instrument``, ``General``, ``Signal``).
    """
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.3"})
        signal = file.create_group(f"Experiments/{title}")
        signal.attrs.update({"package": "hyperspy", "package_version": "2.4.0"})
        signal.create_dataset("data", data=data, compression="gzip", track_times=False)
        for place, axis in enumerate(axes):
            signal.create_group(f"axis-{place}").attrs.update(
                {
                    "_type": "UniformDataAxis",
                    "is_binned": False,
                    "name": axis.name,
                    "navigate": axis.navigation,
                    "offset": axis.offset,
                    "scale": axis.scale,
                    "size": axis.size,
                    "units": axis.units,
                }
            )
        for name in ("attributes", "learning_results", "original_metadata"):
            signal.create_group(name)
        signal["attributes"].attrs.update({"_lazy": False, "ragged": False})
        _write_tree(signal.create_group("metadata"), metadata)
    return memory.getvalue()


def _write_tree(group: Any, tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            _write_tree(group.create_group(name), value)
        else:
            group.attrs[name] = value
