"""What a facility may add to nexuslims-pipeline without changing it: a reader, a preview and a profile.

The reader knows the files of the facility's own photon counter: the word ``CNT1``, then numbers of counts.
"""

from io import BytesIO
from typing import ClassVar

from nexuslims_pipeline.extraction.model import ExtractionError, Extractor
from nexuslims_pipeline.extraction.profiles.model import Profile, Rule
from nexuslims_pipeline.metadata.units import quantity
from nexuslims_pipeline.previews.model import Preview
from nexuslims_pipeline.signals import Axis, Pixels, Signal, Source

MAGIC = b"CNT1"
LONGEST = 1 << 20


class Counter(Extractor):
    """Counts of the facility's own detector."""

    name: ClassVar[str] = "facility_counter"
    format_name: ClassVar[str] = "Facility photon counter"
    version: ClassVar[str] = "1"
    extensions: ClassVar[frozenset[str]] = frozenset({".cnt"})
    is_conclusive: ClassVar[bool] = True

    def accepts(self, source: Source, head: bytes) -> bool:  # noqa: ARG002
        """Whether it begins with the counter's word."""
        return head.startswith(MAGIC)

    def extract(self, source: Source) -> list[Signal]:
        """Read the one spectrum of the file."""
        import numpy as np

        if source.size > LONGEST:
            msg = f"it has {source.size} bytes, where the counter writes at most {LONGEST}"
            raise ExtractionError(msg)
        counts = np.array(source.path.read_text().split()[1:], dtype=float)
        return [
            Signal(
                "Spectrum",
                "SEM_CL",
                shape=counts.shape,
                fields={"live_time": quantity(10, "s"), "acquisition_device": "Photon counter"},
                extensions={"Highest Count": int(counts.max())},
                pixels=Pixels(counts, (Axis(counts.size, name="Channel"),)),
            )
        ]


class CounterPreview(Preview):
    """One bar per channel."""

    name: ClassVar[str] = "facility_counter"
    version: ClassVar[str] = "1"

    def accepts(self, signal: Signal) -> bool:
        """Whether it is a spectrum of the counter."""
        return signal.fields.get("acquisition_device") == "Photon counter" and signal.pixels is not None

    def draw(self, signal: Signal, caption: str) -> bytes | None:
        """Draw blue bars below the caption."""
        from PIL import Image, ImageDraw

        if signal.pixels is None:
            return None
        counts = signal.pixels.array
        picture = Image.new("RGB", (500, 300), "white")
        draw = ImageDraw.Draw(picture)
        draw.text((10, 10), caption.encode("latin-1", "replace").decode("latin-1"), fill="black")
        width = 480 / len(counts)
        for channel, count in enumerate(counts):
            top = 290 - 250 * count / max(counts.max(), 1)
            draw.rectangle((10 + channel * width, top, 10 + (channel + 0.8) * width, 290), fill="navy")
        file = BytesIO()
        picture.save(file, "PNG")
        return file.getvalue()


def room_of_the_counter(signal: Signal) -> None:
    """Say where the counter stands: a parser, which may do what rules cannot."""
    signal.extensions["Room"] = "B 217" if signal.data_type == "SEM_CL" else "unknown"


PROFILE = Profile(
    name="facility-counter",
    instruments=("*",),
    parsers=(room_of_the_counter,),
    rules=(Rule.model_validate({"when": {"reader": "facility_counter"}, "fields": {"working_distance": "12 mm"}}),),
)
