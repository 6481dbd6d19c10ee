"""Previews: every kind of data gives a picture, for few bytes, whatever is in it."""

import ctypes
import mmap
import os
import sys
import tracemalloc
from io import BytesIO
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from nexuslims_pipeline.metadata.units import quantity
from nexuslims_pipeline.previews.draw import draw_preview
from nexuslims_pipeline.previews.lettering import printable
from nexuslims_pipeline.previews.mapped import _pieces, mapped_file
from nexuslims_pipeline.previews.patterns import central_disc
from nexuslims_pipeline.previews.sampling import READ_BYTES, TooCoarse, sample
from nexuslims_pipeline.previews.scale_bar import bar_label, pixel_aspect, rounded_down, rounded_up, unit_of
from nexuslims_pipeline.previews.tones import fitted, mean, unit_range
from nexuslims_pipeline.signals import Annotation, Axis, Layer, Pixels, Signal

CORPUS = Path(os.environ.get("NX_TEST_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
MB = 1 << 20


class Distant:
    """An array in a flat file far away: values from a formula, and a count of the blocks that are read."""

    block = 4096

    def __init__(self, shape, dtype="u2"):
        self.shape, self.dtype, self.fetched = shape, np.dtype(dtype), 0

    def __getitem__(self, key):
        picks = [np.arange(size)[part] for size, part in zip(self.shape, key, strict=True)]
        self.fetched += self._blocks(picks) * self.block
        values = np.zeros([len(pick) for pick in picks], self.dtype)
        for axis, pick in enumerate(picks):
            wave = 100 * np.cos(pick / self.shape[axis] * 20) + 100
            values += wave.astype(self.dtype).reshape([-1 if axis == other else 1 for other in range(len(picks))])
        return values

    def _blocks(self, picks):
        """Distinct blocks, row by row of the last axis; rows that share a block are counted once."""
        strides = np.cumprod([1, *self.shape[:0:-1]])[::-1] * self.dtype.itemsize
        starts = np.zeros(1, np.int64)
        for pick, stride in zip(picks[:-1], strides[:-1], strict=True):
            starts = (starts[:, None] + pick * stride).ravel()
        row = picks[-1] * self.dtype.itemsize
        if np.diff(row).max(initial=0) <= self.block:
            first, last = (starts + row[0]) // self.block, (starts + row[-1]) // self.block
            gaps = np.diff(first)
            return int((last - first + 1).sum() - (gaps == 0).sum())
        return len(np.unique((starts[:, None] + row) // self.block))


class Chunked:
    """An array that is loaded in whole chunks, with a count of their bytes; of ones, or of `whole`."""

    def __init__(self, shape, chunks, dtype="u2", whole=None):
        self.shape, self.chunks, self.dtype, self.whole = shape, chunks, np.dtype(dtype), whole
        self.fetched = 0

    def __getitem__(self, key):
        picks = [np.arange(size)[part] for size, part in zip(self.shape, key, strict=True)]
        touched = [len(np.unique(pick // length)) for pick, length in zip(picks, self.chunks, strict=True)]
        self.fetched += int(np.prod(touched)) * int(np.prod(self.chunks)) * self.dtype.itemsize
        return np.ones([len(pick) for pick in picks], self.dtype) if self.whole is None else self.whole[key]


def axes(*sizes, signal=2, scale=0.1, units="nm"):
    return tuple(
        Axis(size, scale, 0.0, units, navigation=index < len(sizes) - signal) for index, size in enumerate(sizes)
    )


def signal_of(array, signal=2, kind="Image", **calibration):
    return Signal(kind, "", name="a.dm3", pixels=Pixels(array, axes(*array.shape, signal=signal, **calibration)))


def opened(png):
    assert png is not None
    picture = Image.open(BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    assert max(picture.size) <= 500
    return picture


def wavy(*shape):
    total = np.zeros(shape)
    for axis, size in enumerate(shape):
        wave = np.sin(np.arange(size) / 3) + 1
        total += wave.reshape([-1 if axis == other else 1 for other in range(len(shape))])
    return total


def pattern(size=64):
    radius = np.hypot(*np.mgrid[-size // 2 : size // 2, -size // 2 : size // 2])
    return 1e5 * np.exp(-((radius / 4) ** 2)) + 300 * np.exp(-((radius - 20) ** 2)) + 1


MARKS = (
    Annotation("line", ((5, 5), (30, 20)), "d"),
    Annotation("arrow", ((30, 40), (10, 40)), "grain"),
    Annotation("rectangle", ((12, 10), (28, 38)), "Spectrum Image"),
    Annotation("ellipse", ((2, 30), (10, 48))),
    Annotation("point", ((20, 25),), "Beam"),
    Annotation("text", ((35, 10),), "試料"),
)
LAYERS = tuple(Layer(name, wavy(20, 30) * shift) for shift, name in enumerate(("Fe K", "Cr K", "O K"), 1))


KINDS = {
    "image": signal_of(wavy(300, 200)),
    "one row": signal_of(wavy(1, 500)),
    "one pixel": signal_of(wavy(1, 1)),
    "fft": signal_of(np.fft.fft2(wavy(64, 64)), units="1/nm"),
    "stack": signal_of(wavy(12, 40, 50)),
    "stack of stacks": signal_of(wavy(2, 5, 40, 50)),
    "five axes": signal_of(wavy(2, 2, 5, 40, 50)),
    "diffraction": signal_of(pattern(), kind="Diffraction", units="1/nm"),
    "pattern stack": signal_of(np.stack([pattern()] * 3), kind="Diffraction", units="1/nm"),
    "4D-STEM": signal_of(wavy(6, 7)[..., None, None] * pattern(32), kind="Diffraction", units="1/nm"),
    "spectrum": signal_of(wavy(1000), signal=1, kind="Spectrum", units="eV"),
    "long spectrum": signal_of(wavy(100_000), signal=1, kind="Spectrum", units="eV"),
    "line scan": signal_of(wavy(20, 300), signal=1, kind="SpectrumImage", units="eV"),
    "spectrum image": signal_of(wavy(20, 30, 300), signal=1, kind="SpectrumImage", units="eV"),
    "wide 4D-STEM": signal_of(wavy(2, 60)[..., None, None] * pattern(32), kind="Diffraction", units="mrad"),
    "one row of 4D-STEM": signal_of(np.stack([[pattern(32)] * 12]), kind="Diffraction", units="1/nm"),
    "marks": Signal("Image", "", pixels=Pixels(wavy(40, 50), axes(40, 50)), annotations=MARKS),
    "maps": Signal("SpectrumImage", "", layers=LAYERS),
    "maps and spectra": Signal(
        "SpectrumImage", "STEM_EDS", pixels=Pixels(wavy(20, 30, 300), axes(20, 30, 300, signal=1)), layers=LAYERS
    ),
    "maps and spectrum": Signal("Spectrum", "SEM_EDS", pixels=Pixels(wavy(300), axes(300, signal=1)), layers=LAYERS),
    "text": Signal("Misc", "", text="one\ttwo\x1b[31m\n" * 50),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_small_picture_twice(kind):
    png = draw_preview(KINDS[kind], "a caption")
    picture = opened(png)
    assert np.ptp(np.asarray(picture.convert("L"))) > 100
    assert png == draw_preview(KINDS[kind], "a caption")


def test_images_are_grey_and_maps_are_coloured():
    assert opened(draw_preview(KINDS["image"])).mode == "L"
    assert opened(draw_preview(KINDS["spectrum image"])).mode == "RGB"


@pytest.mark.parametrize("depth", ["u1", "u2"])
@pytest.mark.parametrize("structured", [True, False])
def test_colours_are_kept(structured, depth):
    full = np.iinfo(depth).max
    pixels = np.zeros((50, 60, 3), depth)
    pixels[:, :30, 0] = full
    pixels[:, 30:, 2] = full
    array = pixels.view([(name, depth) for name in "RGB"])[..., 0] if structured else pixels
    picture = opened(draw_preview(Signal("Image", "", pixels=Pixels(array, axes(50, 60, units="")))))
    assert picture.getpixel((50, 250)) == (255, 0, 0)
    assert picture.getpixel((450, 250)) == (0, 0, 255)


def test_stretch_ignores_a_hot_pixel():
    image = np.tile(np.linspace(100, 200, 64), (64, 1))
    image[3, 3] = 1e9
    shades = np.asarray(opened(draw_preview(signal_of(image, units=""))))
    assert {0, 255} <= set(shades[300])


def test_scale_bar_is_drawn_only_when_calibrated():
    plain = draw_preview(signal_of(np.ones((100, 100)), units="px"))
    assert plain == draw_preview(signal_of(np.ones((100, 100)), units="", scale=3.0))
    assert plain == draw_preview(signal_of(np.ones((100, 100)), units="nm", scale=float("nan")))
    assert plain != draw_preview(signal_of(np.ones((100, 100)), units="nm"))


def test_scale_bar_has_the_length_that_it_names():
    width = 100
    picture = np.asarray(opened(draw_preview(signal_of(np.zeros((width, width)), scale=1.0))))
    white = (picture[-18:-6, 60:440] == 255).sum(axis=1).max()
    grey = (picture[250] == 128).sum()
    # 100 nm across: the bar of 20 nm is a fifth.
    assert white == pytest.approx(grey / 5, abs=2)


@pytest.mark.parametrize(
    ("length", "unit", "label"),
    [
        (5e-9, "m", "5 nm"), (0.5, "nm", "0.5 nm"), (1000.0, "nm", "1 µm"), (0.02, "µm", "20 nm"),
        (5.0, "Å", "0.5 nm"),
        (0.05, "nm", "50 pm"), (2.0, "nm⁻¹", "2 nm⁻¹"), (10.0, "mrad", "10 mrad"), (500.0, "µm", "500 µm"),
    ],
)  # fmt: skip
def test_lengths_are_written_as_people_say_them(length, unit, label):
    assert bar_label(length, unit) == label


@pytest.mark.parametrize(
    ("unit", "shown"),
    [("um", "µm"), ("1/nm", "nm⁻¹"), ("nm^-1", "nm⁻¹"), ("nm^{-1}", "nm⁻¹"), ("$nm$", "nm"), ("Pixels", ""),
     ("<undefined>", ""), ("\u03bcm", "µm"), ("n\x00m", "n m")],
)  # fmt: skip
def test_units_are_read_in_all_their_spellings(unit, shown):
    assert unit_of(Axis(10, 1.0, 0.0, unit)) == shown


@given(st.floats(1e-250, 1e250))
def test_rounded_lengths_lie_within_a_factor_of_two_and_a_half(value):
    assert value / 2.5 * (1 - 1e-6) <= rounded_down(value) <= value * (1 + 1e-6)
    assert value * (1 - 1e-6) <= rounded_up(value) <= value * 2.5 * (1 + 1e-6)


def test_pixels_need_not_be_square():
    rows, columns = Axis(10, 2.0, units="A"), Axis(10, 0.1, units="nm")
    assert pixel_aspect(rows, columns) == pytest.approx(2.0)
    assert pixel_aspect(Axis(10, 900.0, units="nm"), columns) == 1.0
    assert pixel_aspect(Axis(10, 2.0, units="s"), columns) == 1.0
    assert fitted(10, 10, (400, 400), 2.0) == (200, 400)


def test_tiny_images_are_enlarged_in_whole_steps():
    assert fitted(16, 4, (490, 450)) == (480, 120)
    assert fitted(68, 68, (490, 450)) == (408, 408)


def test_one_channel_in_many_is_seen():
    spectrum = np.zeros(100_000)
    spectrum[77_777] = 100
    plot = np.asarray(opened(draw_preview(signal_of(spectrum, signal=1, kind="Spectrum"))).convert("L"))
    assert (plot[100:300, 350:420] < 128).any()


def test_zero_peak_of_an_eds_detector_does_not_flatten_the_lines():
    counts = 50 * np.exp(-(((np.arange(2000) - 640) / 8) ** 2))
    counts[0] = 1e6
    pixels = Pixels(counts, (Axis(2000, 0.01, 0.0, "keV"),))
    plots = [
        np.asarray(opened(draw_preview(Signal("Spectrum", kind, pixels=pixels))).convert("L"))
        for kind in ("EDS_TEM", "X")
    ]
    with_line, without = ((plot[100:300, 180:215] < 128).any() for plot in plots)
    assert with_line
    assert not without


YELLOW = (255, 221, 0)


def places_of(picture, colour, tolerance=60):
    """Rows and columns of pixels of about this colour."""
    return np.argwhere(np.abs(np.asarray(picture).astype(int) - colour).max(axis=-1) < tolerance)


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_marks_lie_where_the_operator_put_them(shade):
    image = np.full((200, 400), shade)
    image[0, 0] = 0.5
    box = Annotation("rectangle", ((50, 100), (150, 300)))
    picture = opened(
        draw_preview(Signal("Image", "", pixels=Pixels(image, axes(200, 400, units="")), annotations=(box,)))
    )
    found = places_of(picture, YELLOW)
    scale = 492 / 400
    top = picture.height - 4 - 200 * scale
    assert found.min(axis=0) == pytest.approx((top + 50 * scale, 4 + 100 * scale), abs=3)
    assert np.ptp(found, axis=0) == pytest.approx((100 * scale, 200 * scale), abs=4)
    assert len(places_of(picture, (20, 20, 20), 20)) > len(found) / 2, "a dark rim"


def test_marks_that_are_far_or_no_numbers_are_left_out():
    nowhere = [
        Annotation("line", ((0, 0), (1e300, 5))),
        Annotation("ellipse", ((-1e9, -1e9), (1e9, 1e9))),
        Annotation("point", ((float("nan"), 3),), "x"),
        Annotation("rectangle", ((1, 1),)),
        Annotation("arrow", ()),
    ]
    pixels = Pixels(wavy(40, 50), axes(40, 50))
    marked = draw_preview(Signal("Image", "", pixels=pixels, annotations=tuple(nowhere)))
    assert marked == draw_preview(Signal("Image", "", pixels=pixels))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.builds(
            Annotation,
            st.sampled_from(["line", "arrow", "rectangle", "ellipse", "point", "text"]),
            st.tuples(*[st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 2)] * 2),
            st.text(max_size=40),
        ),
        max_size=6,
    )
)
def test_any_mark_is_drawn_or_left_out(marks):
    opened(draw_preview(Signal("Image", "", pixels=Pixels(wavy(9, 12), axes(9, 12)), annotations=tuple(marks))))


def test_the_scale_bar_lies_above_the_data_bar_which_does_not_count_for_the_contrast():
    image = np.full((200, 400), 100.0)
    image[:, ::2] = 110
    image[170:] = 0
    image[180:190, ::3] = 1e6
    pixels = Pixels(image, axes(200, 400))
    with_bar = np.asarray(opened(draw_preview(Signal("Image", "", pixels=pixels, extensions={"Data Bar Rows": 30}))))
    plain = np.asarray(opened(draw_preview(Signal("Image", "", pixels=pixels))))
    top = len(with_bar) - 4 - round(30 * 492 / 400)
    assert not (with_bar[top + 2 : -6, 10:150] == 30).any(), "the dark box of the scale bar"
    assert (with_bar[top - 40 : top - 5, 10:150] == 30).any()
    assert (plain[top + 2 : -6, 10:150] == 30).any()
    assert np.ptp(with_bar[100, 200:300]) > 100 > np.ptp(plain[100, 200:300])


@pytest.mark.parametrize("rows", [-3, 0, 200, 10**9, "30", True, None])
def test_odd_data_bars_do_no_harm(rows):
    pixels = Pixels(wavy(200, 100), axes(200, 100))
    odd = draw_preview(Signal("Image", "", pixels=pixels, extensions={"Data Bar Rows": rows}))
    assert opened(odd).size == opened(draw_preview(Signal("Image", "", pixels=pixels))).size


class Broken:
    shape, dtype = (20, 30), np.dtype("f4")

    def __getitem__(self, key):
        raise OSError("gone")


def test_maps_are_added_as_light_and_those_that_cannot_be_are_named():
    left, right = np.zeros((20, 30)), np.zeros((20, 30))
    left[:, :12], right[:, 18:] = 1, 1
    layers = [Layer("Fe", left), Layer("Cr", right)]
    picture = opened(draw_preview(Signal("SpectrumImage", "", layers=tuple(layers))))
    colours = [picture.getpixel((column, 100)) for column in (100, 250, 400)]
    assert colours[1] == (0, 0, 0)
    assert colours[0][2] > colours[0][0]
    assert colours[2][0] > colours[2][2]
    more = [Layer("Broken", Broken()), Layer("Other", np.ones((3, 3))), Layer("Cube", np.ones((2, 3, 4)))]
    named = opened(draw_preview(Signal("SpectrumImage", "", layers=(*layers, *more))))
    assert named.height == picture.height + 20, "a line for what is left out"
    assert draw_preview(Signal("SpectrumImage", "", layers=tuple(more[:1]))) is None


def test_maps_have_the_calibration_of_the_scan_or_of_the_pixel():
    def bars(signal):
        return len(places_of(opened(draw_preview(signal)), (255, 255, 255), 1))

    plain = Signal("SpectrumImage", "", layers=LAYERS)
    sized = Signal("SpectrumImage", "", layers=LAYERS)
    sized.fields.update(pixel_width=quantity(2, "nm"), pixel_height=quantity(2, "nm"))
    assert draw_preview(plain) != draw_preview(sized)
    assert bars(sized) > bars(plain)


def test_the_bright_field_is_what_falls_into_the_central_disc():
    rows, columns = np.mgrid[:64, :64]
    disc, ring = np.hypot(rows - 12, columns - 40) < 5, np.hypot(rows - 12, columns - 40) > 8
    direct, scattered = wavy(24, 24) + 1, 5 - wavy(24, 24)
    scan = 100 * direct[..., None, None] * disc + 10 * scattered[..., None, None] * ring
    part = sample(scan, (24, 24, 64, 64), summed=(0, 1))
    found = central_disc(part.values.mean(axis=(0, 1)), part)
    assert (found.row, found.column) == pytest.approx((12, 40), abs=0.2)
    assert found.radius == pytest.approx(5, abs=0.5)
    picture = np.asarray(opened(draw_preview(signal_of(scan, kind="Diffraction", units=""))).convert("L")).astype(float)
    # 24 × 24 positions of 10 pixels each, to the right of the pattern; the label covers the first two rows.
    field = picture[-242:-2, -244:-4].reshape(24, 10, 24, 10)[:, 3:7, :, 3:7].mean(axis=(1, 3))
    assert np.corrcoef(field[2:].ravel(), direct[2:].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("value", [0.0, -1.0, 7.0, np.inf])
def test_patterns_without_a_beam_have_a_disc_in_the_middle(value):
    scan = np.full((3, 4, 20, 30), value)
    part = sample(scan, (3, 4, 20, 30), summed=(0, 1))
    found = central_disc(mean(part.values, (0, 1)), part)
    assert (found.row, found.column) == (9.5, 14.5)
    assert found.radius <= 20 / 4


def resident_bytes(path):
    """How much of a file is in memory."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        address = ctypes.c_void_p(content.ctypes.data)
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size), pages) == 0
        found = np.frombuffer(pages, np.uint8) & 1
        del content
        return int(found.sum()) * mmap.PAGESIZE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what is in memory")
@pytest.mark.parametrize(
    ("shape", "signal", "kind"),
    [
        ((256, 256, 256, 192), 2, "Diffraction"),
        ((1024, 1024, 3072), 1, "SpectrumImage"),
        ((6, 1, 32768, 16384), 2, "Image"),
    ],
)
def test_a_mapped_file_of_6_gb_is_read_here_and_there_and_no_further(tmp_path, shape, signal, kind):
    path = tmp_path / "scan.mib"
    with path.open("wb") as file:
        file.truncate(384 + 2 * int(np.prod(shape)))
    scan = np.memmap(path, ">u2", "r", 384, shape)
    assert peak_memory(signal_of(scan, signal, kind)) <= 100 * MB
    assert resident_bytes(path) <= 64 * MB


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_the_announced_pieces_hold_all_that_is_read(data, tmp_path_factory):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=60))
    path = tmp_path_factory.getbasetemp() / "announced.raw"
    offset = data.draw(st.integers(0, 5000))
    path.write_bytes(bytes(offset + 4 * int(np.prod(shape))))
    array = np.memmap(path, "i4", "r", offset, shape)
    array = array.transpose(data.draw(st.permutations(range(len(shape)))))
    array = array[tuple(slice(None, None, data.draw(st.sampled_from([1, -1]))) for _ in shape)]
    chosen = [
        np.array(sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=8)))) for size in array.shape
    ]
    file = mapped_file(array)
    pieces = list(_pieces(array, file, chosen))
    base = np.frombuffer(file, np.uint8).ctypes.data
    places = list(np.ndindex(*map(len, chosen)))
    for place in data.draw(st.lists(st.sampled_from(places), max_size=30)):
        element = array[tuple(slice(indices[n], indices[n] + 1) for indices, n in zip(chosen, place, strict=True))]
        first = element.ctypes.data - base
        assert any(start <= first and first + 4 <= start + length for start, length in pieces)
    assert all(start % mmap.PAGESIZE == 0 and start + length <= len(file) for start, length in pieces)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe µm ∅ Ωλ", "Größe µm ∅ Ωλ"),
        ("アルミ_한국", "arumi_hangug"),
        ("試料1", "‹8A66 6599›1"),
        ("ＳＥＭ", "SEM"),
        ("a\u0000b", "a b"),
    ],
)
def test_letters_that_no_font_has_are_spelt_or_shown_as_code_points(text, shown):
    assert printable(text, 40) == shown


def peak_memory(signal):
    draw_preview(KINDS["image"])
    tracemalloc.start()
    try:
        opened(draw_preview(signal))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("array", "signal", "kind"),
    [
        pytest.param(Distant((1250, 2048, 2048)), 2, "Image", id="stack of 10 GB"),
        pytest.param(Distant((128, 128, 256, 256)), 2, "Diffraction", id="4D-STEM of 2 GB"),
        pytest.param(Distant((1024, 1024, 1024, 1024)), 2, "Diffraction", id="4D-STEM of 2 TB"),
        pytest.param(Distant((60_000, 60_000), "f4"), 2, "Image", id="image of 14 GB"),
        pytest.param(Distant((5000, 5000), "f8"), 2, "Image", id="image of 200 MB"),
        pytest.param(Distant((5000, 5000), "c16"), 2, "Image", id="FFT of 400 MB"),
        pytest.param(Distant((1024, 1024, 2048), "f4"), 1, "SpectrumImage", id="spectrum image of 8 GB"),
        pytest.param(Distant((100_000, 20_000), "f4"), 1, "SpectrumImage", id="line scan of 8 GB"),
        pytest.param(Chunked((30_000, 30_000), (512, 512)), 2, "Image", id="image in chunks"),
        pytest.param(Chunked((256, 256, 256, 256), (16, 16, 32, 32)), 2, "Diffraction", id="4D-STEM in chunks"),
        pytest.param(Chunked((512, 512, 4096), (16, 16, 256)), 1, "SpectrumImage", id="spectrum image in chunks"),
    ],
)
def test_huge_arrays_cost_64_mb_read_and_100_mb_of_memory(array, signal, kind):
    assert peak_memory(signal_of(array, signal, kind)) <= 100 * MB
    assert 0 < array.fetched <= 64 * MB


def test_huge_maps_beside_huge_spectra_cost_no_more():
    maps = [Distant((20_000, 30_000), "f4") for _ in range(6)]
    spectra = Distant((1024, 1024, 2048))
    layers = tuple(Layer(f"m/z {number}", each) for number, each in enumerate(maps))
    pixels = Pixels(spectra, axes(*spectra.shape, signal=1))
    assert peak_memory(Signal("SpectrumImage", "", pixels=pixels, layers=layers)) <= 100 * MB
    assert all(each.fetched for each in (*maps, spectra))
    assert sum(each.fetched for each in (*maps, spectra)) <= 64 * MB


def test_files_cost_100_mb_of_memory(tmp_path):
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    array = np.memmap(path, np.float64, "r", shape=(1 << 15, 1 << 15))
    views = [
        signal_of(array),
        signal_of(array.T),
        signal_of(array.reshape(-1)[: 1 << 24], 1, "Spectrum"),
        signal_of(array.reshape(1024, 1024, 1024), 1, "SpectrumImage"),
        signal_of(array.reshape(512, 512, 64, 64), 2, "Diffraction"),
    ]
    for view in views:
        assert peak_memory(view) <= 100 * MB


@pytest.mark.parametrize("chunks", [None, (64, 64), (1, 1024)])
def test_hdf5_and_dask_give_the_picture_of_the_array(tmp_path, chunks):
    image = wavy(1024, 1024).astype("f4")
    expected = draw_preview(signal_of(image))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("image", data=image, chunks=chunks)
        assert draw_preview(signal_of(stored)) == expected
    assert draw_preview(signal_of(da.from_array(image, chunks or 512))) == expected


def test_chunks_beyond_the_budget_give_a_picture_that_says_so():
    array = da.zeros((20_000, 20_000), chunks=(10_000, 10_000), dtype="f8")
    with pytest.raises(TooCoarse):
        sample(array, (100, 100))
    opened(draw_preview(signal_of(array)))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_sample_returns_what_it_says(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=40))
    chunks = tuple(data.draw(st.integers(1, size)) for size in shape)
    whole = np.arange(np.prod(shape), dtype="i4").reshape(shape)
    array = Chunked(shape, chunks, "i4", whole)
    summed = tuple(data.draw(st.sets(st.integers(0, len(shape) - 1))))
    wanted = tuple(data.draw(st.integers(1, 50)) for _ in shape)
    limit = max(int(np.prod(chunks)) * 4, data.draw(st.integers(1, whole.nbytes * 2)))
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    window = tuple(
        range(start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, shape, strict=True)
    )
    may_crop = data.draw(st.booleans())
    part = sample(array, wanted, window=window, summed=summed, limit=limit, may_crop=may_crop)
    assert array.fetched <= limit
    assert np.array_equal(part.values, whole[np.ix_(*part.indices)])
    assert all(set(indices) <= set(inside) for indices, inside in zip(part.indices, window, strict=True))
    assert part.values.size
    for axis, most in enumerate(wanted):
        if axis not in summed:
            assert part.values.shape[axis] == len(part.picked[axis]) <= most
            assert np.array_equal(np.unique(np.unravel_index(part.values, shape)[axis]), part.picked[axis])
    chosen = [np.unique(indices) for indices in np.unravel_index(part.values, shape)]
    assert np.array_equal(part.values, whole[np.ix_(*chosen)])


def test_summed_axes_return_all_that_was_fetched():
    array = Chunked((64, 64, 1024), (8, 8, 128))
    part = sample(array, (64, 64, 32), summed=(2,), limit=4 * MB)
    assert part.values.shape == (64, 64, 512)
    assert array.fetched == 4 * MB


HOSTILE = {
    "empty": np.zeros((0, 5)),
    "no dimension": np.array(3.0),
    "NaN": np.full((9, 9), np.nan),
    "infinite": np.full((9, 9), -np.inf),
    "objects": np.array([[{}, None], [1, "x"]], dtype=object),
    "words": np.array([["a", "b"]]),
    "dates": np.zeros((3, 3), "M8[s]"),
    "records": np.zeros((3, 3), [("R", "O"), ("G", "f4"), ("B", "f4")]),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["Image", "Diffraction", "Spectrum"])
def test_nothing_to_draw(name, kind):
    array = HOSTILE[name]
    assert draw_preview(Signal(kind, "", pixels=Pixels(array, axes(*array.shape)))) is None


def test_no_pixels_and_no_text():
    assert draw_preview(Signal("Unknown", "")) is None
    assert draw_preview(Signal("Unknown", "", text=" \n\t")) is None


@pytest.mark.parametrize("text", ["$^_\\{$", "\x00\x1b[0m\u202e", "試料 \ud800 ﷽", "n" * 100_000, "\U0001f52c"])
def test_strings_from_files_are_only_drawn(text):
    calibrated = (Axis(40, 1.0, 0.0, text, text, navigation=True), Axis(50, 1.0, 0.0, text, text))
    for array, shown in ((wavy(40, 50), calibrated), (wavy(50), calibrated[1:])):
        opened(draw_preview(Signal("Spectrum", text, name=text, pixels=Pixels(array, shown)), text))
    images = tuple(Axis(40, 1.0, 0.0, text, text) for _ in range(2))
    opened(draw_preview(Signal("Image", text, pixels=Pixels(wavy(40, 40), images)), text))
    opened(draw_preview(Signal("Misc", "", text=text + "x"), text))


NUMBERS = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(),
    hnp.complex_number_dtypes(),
)  # fmt: skip
CALIBRATION = st.floats(allow_nan=True, allow_infinity=True)
TYPES = ("Image", "Spectrum", "SpectrumImage", "Diffraction", "Misc", "Unknown")


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)),
    st.sampled_from(TYPES),
    st.integers(0, 5),
    CALIBRATION,
    CALIBRATION,
    st.sampled_from(["", "nm", "eV", "keV", "1/nm", "m", "µ"]),
)
def test_any_small_array_is_a_picture_or_nothing(array, kind, navigation, scale, offset, units):
    shown = tuple(
        Axis(size, scale, offset, units, navigation=index < navigation) for index, size in enumerate(array.shape)
    )
    with np.errstate(all="raise"):
        png = draw_preview(Signal(kind, "EDS_SEM", pixels=Pixels(array, shown)))
    if png is not None:
        opened(png)
    elif array.size and array.ndim < 3:
        assert not np.isfinite(array).any() or np.abs(array[np.isfinite(array)]).max() > 1e290


def test_unit_range_survives_huge_and_missing_values():
    values = np.array([-1.7e308, 0.0, 1.7e308, np.nan, np.inf, -np.inf])
    assert unit_range(values, 0.0) == pytest.approx([0, 0.5, 1, 0, 1, 0])


def test_mean_leaves_out_what_is_not_finite():
    assert mean(np.array([[1.0, np.nan, 3.0], [np.inf, np.nan, np.nan]]), 1) == pytest.approx(
        [2.0, np.nan], nan_ok=True
    )


def test_budget_leaves_room_for_copies():
    assert READ_BYTES <= 64 * MB


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus")
@pytest.mark.parametrize(
    "name", ["dm3/test_STEM_image.dm3", "dm3/Titan_FFT.dm3", "dm3/test-EELS_spectrum.dm3", "dm4/EELS_SI.dm4"]
)
def test_real_files(name):
    from rsciio.digitalmicrograph import file_reader

    for found in file_reader(CORPUS / name, lazy=True):
        shown = tuple(
            Axis(axis["size"], axis["scale"], axis["offset"], axis["units"], axis["name"], axis["navigate"])
            for axis in found["axes"]
        )
        opened(draw_preview(Signal("Unknown", "", name=name, pixels=Pixels(found["data"], shown))))
