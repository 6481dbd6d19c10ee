"""A reader for tests: the file is a Python script and its reading is its execution, inside the sandbox.

So whatever a hostile or broken vendor file may bring its reader to do can be written down in the file itself.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nexuslims_pipeline.extraction import registry, sandbox
from nexuslims_pipeline.extraction.model import Extractor
from nexuslims_pipeline.extraction.site_rules import SiteRules
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

REAL_CONFINE = sandbox._confine


@dataclass
class Trap:
    """Pixels that run a script when somebody looks at them."""

    script: str
    shape: tuple[int, int] = (4, 4)
    dtype: Any = field(default_factory=lambda: np.dtype("u1"))
    ndim: int = 2

    def __getitem__(self, item: Any) -> Any:
        exec(self.script, {})
        return np.zeros(self.shape, self.dtype)[item]


class Script(Extractor):
    """Runs the lines up to ``# preview``; those behind it when the preview is drawn."""

    name = "script"
    version = "1"
    extensions = frozenset({".script"})

    def accepts(self, source: Source, head: bytes) -> bool:
        return True

    def extract(self, source: Source) -> list[Signal]:
        reading, _, drawing = source.path.read_text().partition("# preview\n")
        exec(reading, {"path": source.path})
        pixels = Pixels(Trap(drawing), (Axis(4), Axis(4))) if drawing else None
        return [Signal("Image", "SEM_Imaging", shape=(4, 4), pixels=pixels)]


def confine(root: str, mebibytes: int, rules: SiteRules) -> None:
    """Begin a child of the sandbox that reads scripts."""
    registry.extractors = lambda: (Script(),)  # type: ignore[assignment]
    REAL_CONFINE(root, mebibytes, rules)
