"""The folder of crates as tests of any destination see it."""

import io
import tempfile
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Self


class CratesFolder:
    """A folder for crates; use it as a context manager."""

    name = "crates"
    url = ""

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="crates-")
        self.folder = Path(self._temporary.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def variables(self, url: str) -> dict[str, str]:
        """Settings of a site that publishes here."""
        return {"NX_CRATES_PATH": str(self.folder)}

    def copies(self, key: str) -> list[bytes]:
        """The record out of each crate of a session."""
        return [record_in(path.read_bytes(), key) for path in sorted(self.folder.rglob(f"*{key}.eln"))]

    def clear(self) -> None:
        """Remove every file, as somebody might by hand."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                path.unlink()


def record_in(eln: bytes, key: str) -> bytes:
    """The record in a crate."""
    with zipfile.ZipFile(io.BytesIO(eln)) as archive:
        return archive.read(f"{key}/session/{key}.xml")
