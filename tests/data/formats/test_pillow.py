"""A picture is read as a viewer shows it, whatever way its file stores it, or refused by the right name."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.cache import HowToDecode, ImageCache, load_image
from monai_sagan.data.datasets.med_ad import read_med_ad
from monai_sagan.data.formats.decode import decode, describe_file, read_image
from monai_sagan.data.formats.masks import read_mask
from monai_sagan.data.formats.monai_reader import RadiographReader
from monai_sagan.data.prepare import prepare
from monai_sagan.data.unreadable import keep_readable
from monai_sagan.predict.decoding import decode_all

UP = (np.arange(35, dtype=np.uint8) * 7 % 251).reshape(5, 7)
UP[:2, :2], UP[4, 6] = 255, 0  # bright on top to the left
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
LOSSLESS = {".png": {}, ".webp": {"lossless": True}, ".tif": {}}
DEEP = np.arange(5 * 7 * 3, dtype=np.uint16).reshape(5, 7, 3) * 9  # far below 65535, and less than a byte apart


def pixels_of(path):
    return np.asarray(read_image(path))


def stretched(values, seen=None):
    low, high = (float(end(values if seen is None else values[seen])) for end in (np.min, np.max))
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)


def exif_of(turn):
    exif = Image.Exif()
    exif[274] = turn
    return exif


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path, values, color, bits=16, extra=b"", late=b""):
    """Of unsigned 16 bits (H, W, C), or of packed rows (H, bytes), with chunks before and behind the pixels."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() if bits == 16 else b"\0" + row.tobytes() for row in values)
    width = values.shape[1] * 8 // bits if bits < 8 else values.shape[1]
    head = struct.pack(">IIBBBBB", width, len(values), bits, color, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + late + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def write_tiff(path, values, photometric=1, order="<", sample_format=1, extra=None, planar=1, packed=False):
    """Of (H, W) or (H, W, C), uncompressed, or of one strip that is packed by zlib."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, count = values.shape
    stored = np.moveaxis(values, -1, 0) if planar == 2 else values
    data = stored.astype(values.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if packed else data
    bits = values.dtype.itemsize * 8
    start = 8
    rows = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * count), (259, 3, [8 if packed else 1])]
    rows += [(262, 3, [photometric]), (273, 4, None), (277, 3, [count]), (278, 4, [height]), (279, 4, [len(data)])]
    rows += [(284, 3, [planar])] + ([(338, 3, [extra])] if extra is not None else [])
    rows += [(339, 3, [sample_format] * count)]
    if planar == 2:
        rows[5], rows[8] = (273, 4, None), (279, 4, [len(data) // count] * count)
    size = len(data) // count
    rows[5] = (273, 4, [start + size * i for i in range(count)] if planar == 2 else [start])
    place = start + len(data) + len(data) % 2
    after = place + 2 + 12 * len(rows) + 4
    entries, spill = b"", b""
    for tag, kind, numbers in rows:
        body = struct.pack(f"{order}{len(numbers)}{'HI'[kind == 4]}", *numbers)
        if len(body) > 4:
            spill, body = spill + body, struct.pack(f"{order}I", after + len(spill))
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + body.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, place)
    path.write_bytes(
        head + data + bytes(len(data) % 2) + struct.pack(f"{order}H", len(rows)) + entries + bytes(4) + spill
    )
    return path


@pytest.mark.parametrize("turn", range(1, 10))
@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("deep", [False, True])
def test_a_picture_is_turned_as_its_camera_noted(tmp_path, suffix, turn, deep):
    path = tmp_path / f"turned{suffix}"
    image = Image.fromarray(UP)
    stored = image.transpose(STORED[turn]) if turn in STORED else image
    if deep and suffix != ".webp":
        stored = Image.fromarray(np.asarray(stored).astype(np.uint16) * 3)
    stored.save(path, exif=exif_of(turn), **LOSSLESS[suffix])
    found = decode(path)
    np.testing.assert_array_equal(np.asarray(found.image.convert("L")), UP)
    assert (found.description["width"], found.description["height"]) == (7, 5)
    assert next(describe_file([path])) == found.description


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_cameras_file_is_turned(tmp_path, kind):
    smooth = Image.fromarray(UP).resize((70, 50), Image.Resampling.NEAREST)
    path = tmp_path / "camera.jpg"
    preview = {"save_all": True, "append_images": [smooth]} if kind == "MPO" else {}
    smooth.transpose(STORED[6]).save(path, kind, exif=exif_of(6), quality=95, **preview)
    found = decode(path)
    assert found.image.size == (found.description["width"], found.description["height"]) == (70, 50)
    assert np.abs(np.asarray(found.image.convert("L")).astype(int) - np.asarray(smooth)).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_note_behind_the_pixels_counts_and_a_broken_one_does_not(tmp_path):
    note = exif_of(3).tobytes().removeprefix(b"Exif\0\0")
    path = write_png(tmp_path / "late.png", UP[::-1, ::-1], 0, 8, late=chunk(b"eXIf", note))
    np.testing.assert_array_equal(pixels_of(path), UP)
    path = write_png(tmp_path / "broken.png", UP, 0, 8, chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"))
    np.testing.assert_array_equal(pixels_of(path), UP)
    assert next(describe_file([path])) == decode(path).description


def test_boxes_sizes_and_masks_are_of_the_picture_as_it_is_shown(tmp_path):
    """Everything behind the decoder sees a turned file as it sees the upright one."""
    turned = Image.fromarray(UP).transpose(STORED[6])
    turned.save(tmp_path / "t.png", exif=exif_of(6))
    Image.fromarray(UP).save(tmp_path / "u.png")
    how = HowToDecode((4, 4))
    np.testing.assert_array_equal(load_image(tmp_path / "t.png", how), load_image(tmp_path / "u.png", how))
    items = [{"image": f"{tmp_path}/t.png", "label": 1, "boxes": [[6, 3, 1, 2]]}]  # outside of the stored 5 x 7 pixels
    images = ImageCache({"test": items}, how, tmp_path / "cache")
    assert keep_readable({"test": items}, images, tmp_path)["test"][0]["size"] == [7, 5]
    item = {"image": "i", "mask": f"{tmp_path}/t.png"}
    np.testing.assert_array_equal(read_mask(item, (7, 5)), UP > 0)
    reader = RadiographReader()
    pixels, meta = reader.get_data(reader.read(f"{tmp_path}/t.png"))
    np.testing.assert_array_equal(pixels, UP)
    assert list(meta["spatial_shape"]) == [5, 7]
    ((look,),) = decode_all([[f"{tmp_path}/t.png"]], how, 64, jobs=1)
    np.testing.assert_array_equal(look.pixels, load_image(tmp_path / "u.png", how))
    np.testing.assert_array_equal(look.picture, UP)
    prepared = {"normal": [], "unlabeled": [], "test": [items[0] | {"mask": f"{tmp_path}/t.png"}]}
    folder = prepare(prepared, tmp_path / "prepared", 35, jobs=1)
    upright = Image.fromarray(UP).resize((35, 35), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels_of(folder / "images" / "t.png"), upright)
    assert read_med_ad(folder).datalist["test"][0]["boxes"] == [[30.0, 21.0, 5.0, 14.0]]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_white_is_zero(tmp_path, order, kind, refused):
    top = 1.0 if kind == "f4" else np.iinfo(kind).max
    values = (top - (UP / 255 * top)).astype(kind)
    path = write_tiff(tmp_path / "w.tif", values, 0, order, 3 if kind == "f4" else 1)
    if (order, kind) == (">", "u2"):  # of which Pillow knows nothing
        with refused(path, "TIFF of 16 bits"):
            read_image(path)
    else:
        np.testing.assert_array_equal(pixels_of(path), UP)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "sample_format"), [("u4", 1), ("i4", 2), ("i2", 2), ("f4", 3), ("f8", 3), ("u8", 1)])
def test_deep_grey_of_tiff_is_read_or_refused_by_its_bits(tmp_path, order, kind, sample_format, refused):
    low, high = (-1.0, 1.0) if kind[0] == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    shares = np.linspace(0, 1, 35).reshape(5, 7)
    path = write_tiff(tmp_path / "d.tif", (low + shares * (high * 0.999 - low)).astype(kind), 1, order, sample_format)
    if kind in ("f8", "u8") or (order, kind) == (">", "u4"):
        with refused(path, f"a TIFF of {int(kind[1]) * 8} bits", "save it"):
            read_image(path)
        (told,) = describe_file([path])
        assert "a TIFF of" in str(told)
    else:
        assert np.abs(pixels_of(path) - shares * 255).max() <= 1


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_16_bits_a_channel_are_stretched_as_grey_is(tmp_path, color, channels, turn):
    """Colors of 12 bits in 16, with and without alpha: what is wholly transparent has no part in it and is black."""
    values = DEEP[..., :1].repeat(channels, 2) if channels < 3 else np.dstack([DEEP, DEEP[..., 0]])[..., :channels]
    seen = np.ones((5, 7), bool)
    if channels in (2, 4):
        seen[1:3, 2:5] = False
        values = values.copy()
        values[..., -1] = np.where(seen, 65535, 0)
        values[~seen, :-1] = 60000
    stored = values if turn == 1 else np.rot90(values)
    note = exif_of(turn).tobytes().removeprefix(b"Exif\0\0")
    path = write_png(tmp_path / "deep.png", stored, color, extra=chunk(b"eXIf", note))
    colors = values[..., : 1 if channels < 3 else 3]
    wanted = stretched(colors, seen) * seen[..., None]
    found = decode(path)
    np.testing.assert_array_equal(np.asarray(found.image).reshape(wanted.shape), wanted)
    assert found.image.mode == ("L" if channels < 3 else "RGB")
    assert found.description["mode"] == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert next(describe_file([path])) == found.description


def test_half_transparent_is_half_as_bright(tmp_path):
    values = np.dstack([DEEP, np.full((5, 7), 32768, np.uint16)])
    found = pixels_of(write_png(tmp_path / "half.png", values, 6))
    np.testing.assert_array_equal(found, np.rint(stretched(DEEP) * 32768 / 65535))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extra", [None, 0, 1, 2])
def test_deep_color_of_tiff(tmp_path, order, packed, extra):
    """Without alpha, with a fourth channel that is none, and with colors that are, or are not, multiplied by alpha."""
    alpha = np.where(np.arange(35).reshape(5, 7, 1) % 3, 65535, 0).astype(np.uint16)
    shown = DEEP * (alpha > 0) if extra == 1 else DEEP
    values = shown if extra is None else np.dstack([shown, alpha])
    found = pixels_of(write_tiff(tmp_path / "c.tif", values, 2, order, extra=extra, packed=packed))
    seen = (alpha[..., 0] > 0) | (extra in (None, 0))
    np.testing.assert_array_equal(found, stretched(DEEP, seen) * seen[..., None])


def test_a_page_of_deep_color(tmp_path, refused):
    path = tmp_path / "pages.tif"
    Image.fromarray(UP).save(path, save_all=True, append_images=[Image.fromarray(np.dstack([UP] * 3)).resize((9, 4))])
    for index, (size, mode) in enumerate((((7, 5), "L"), ((9, 4), "RGB"))):
        (told,) = describe_file([f"{path}#{index}"])
        assert told == decode(f"{path}#{index}").description
        assert ((told["width"], told["height"]), told["mode"]) == (size, mode)


def test_colors_that_would_be_cut_are_refused(tmp_path, refused):
    planar = write_tiff(tmp_path / "planar.tif", DEEP, 2, planar=2)
    packed = tmp_path / "cmyk.tif"
    write_tiff(packed, np.dstack([DEEP, DEEP[..., 0]]), 5)
    pnm = tmp_path / "deep.ppm"
    pnm.write_bytes(b"P6 7 5 4095\n" + DEEP.astype(">u2").tobytes())
    for path in (planar, packed, pnm):
        with refused(path, "16 bits", "save it"):
            read_image(path)
        (told,) = describe_file([path])
        assert "16 bits" in str(told)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colors_become_rgb(tmp_path, mode):
    colors = np.zeros((8, 8, 3), np.uint8)
    colors[:4], colors[4:] = (200, 40, 90), (20, 120, 60)
    path = tmp_path / "colors.tif"
    Image.fromarray(colors).convert(mode).save(path)
    found = read_image(path)
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found).astype(int) - colors).max() <= 8  # Lab of 8 bits is coarse
    for channels in (1, 3):
        assert load_image(path, HowToDecode((8, 8), channels)).shape == (channels, 8, 8)


ROUND = np.hypot(*np.mgrid[-2:2:5j, -3:3:7j]) < 2.5


@pytest.mark.parametrize("under", [0, 90, 255])
@pytest.mark.parametrize("kind", ["LA", "RGBA", "WEBP", "P", "GIF", "L", "RGB", "I;16", "RGB;16", "L;4"])
def test_what_is_transparent_has_no_part(tmp_path, kind, under):
    """Whatever lies unseen below, the picture is one and the same: composed on black."""
    grey = np.where(ROUND, UP // 2 + 1, under).astype(np.uint8)
    alpha = Image.fromarray(np.where(ROUND, 255, 0).astype(np.uint8))
    image, path = Image.fromarray(grey), tmp_path / "t.png"
    wanted = np.where(ROUND, grey, 0)
    if kind == "LA":
        Image.merge("LA", [image, alpha]).save(path)
    elif kind in ("RGBA", "WEBP"):
        path, options = (path, {}) if kind == "RGBA" else (path.with_suffix(".webp"), {"lossless": True, "exact": True})
        Image.merge("RGBA", [image, image, image, alpha]).save(path, **options)
    elif kind in ("P", "GIF"):
        palette = Image.fromarray(np.where(ROUND, grey, 200))  # of the color that lies below
        palette.putpalette([under if i == 200 else i for i in range(256) for _ in range(3)])
        path = path.with_suffix(".gif" if kind == "GIF" else ".png")
        palette.save(path, transparency=200)
    elif kind == "L":
        write_png(path, np.where(ROUND, grey, 200).astype(np.uint8), 0, 8, chunk(b"tRNS", struct.pack(">H", 200)))
    elif kind == "RGB":
        color = np.dstack([np.where(ROUND, grey, 200).astype(np.uint8)] * 3)
        Image.fromarray(color).save(path, transparency=(200, 200, 200))
    elif kind in ("I;16", "RGB;16"):
        bands = 1 if kind == "I;16" else 3
        values = np.where(ROUND, 500 + 3 * grey.astype(np.uint16), 60000).astype(np.uint16)
        hidden = chunk(b"tRNS", struct.pack(f">{bands}H", *[60000] * bands))
        write_png(path, np.dstack([values] * bands), 0 if bands == 1 else 2, extra=hidden)
        wanted = stretched(values, ROUND) * ROUND
    else:
        grey = np.where(ROUND, 9, 5)[:, :6]
        packed = (grey[:, ::2] << 4 | grey[:, 1::2]).astype(np.uint8)
        write_png(path, packed, 0, 4, chunk(b"tRNS", struct.pack(">H", 5)))
        wanted = np.where(ROUND, 9 * 17, 0)[:, :6]
    found = decode(path)
    np.testing.assert_array_equal(np.asarray(found.image.convert("L")), wanted)
    assert next(describe_file([path])) == found.description


def test_a_mask_is_nothing_where_it_is_transparent(tmp_path):
    alpha = Image.fromarray(np.where(ROUND, 255, 0).astype(np.uint8))
    Image.merge("LA", [Image.new("L", (7, 5), 255), alpha]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask({"image": "i", "mask": f"{tmp_path}/m.png"}, (7, 5)), ROUND)
