"""DICOM of any encoding becomes the picture that a viewer shows, or a one-line refusal that names the file."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from monai_sagan.data.cache import HowToDecode, load_image
from monai_sagan.data.formats.decode import decode, decode_file, read_image
from monai_sagan.errors import SaganError
from monai_sagan.methods import resolve_settings

GREY = (np.arange(35, dtype=np.uint8) * 7 % 251).reshape(5, 7)  # not square, so that a transposition shows
COLOR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
DEEP = (GREY.astype(np.uint16) + 3) * 16
PYDICOM = Path(pydicom.__file__).parent / "data"


def pixels_of(path, preparation="display"):
    return np.asarray(read_image(path, preparation))


def spread(values):
    """0 to 255 from the least to the greatest value."""
    values = np.asarray(values, float)
    return np.rint((values - values.min()) / (values.max() - values.min()) * 255)


def lut(entries, first, bits):
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def test_8_bits_are_not_stretched(tmp_path, write_dicom):
    for bits in (np.uint8, np.uint16):
        path = write_dicom(tmp_path / "image.dcm", GREY.astype(bits), BitsStored=8)
        assert read_image(path).mode == "L"
        np.testing.assert_array_equal(pixels_of(path), GREY)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_deeper_pixels_are_scaled_from_least_to_greatest(tmp_path, write_dicom, bits):
    deep = GREY.astype(np.uint16) * (2**bits // 256) + 1
    path = write_dicom(tmp_path / "image.dicom", deep, BitsStored=bits)
    np.testing.assert_array_equal(pixels_of(path), spread(deep))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_lossless_encodings_give_the_same_picture(tmp_path, write_dicom, dtype):
    stored = (np.arange(35 * 47).reshape(35, 47) * 37 % 211 - (100 if dtype == np.int16 else 0)).astype(dtype)
    bits = {"BitsStored": 8 if dtype == np.uint8 else 12}
    plain = write_dicom(tmp_path / "plain.dcm", stored, data=stored.tobytes() + b"\0" * (stored.nbytes % 2), **bits)
    swapped = stored.byteswap().tobytes() + b"\0" * (stored.nbytes % 2)
    files = [write_dicom(tmp_path / "big.dcm", stored, syntax=ExplicitVRBigEndian, data=swapped, **bits)]
    for syntax, plugin in ((RLELossless, "pydicom"), (JPEG2000Lossless, "pylibjpeg"), (JPEGLSLossless, "pyjpegls")):
        dataset = pydicom.dcmread(plain)
        dataset.compress(syntax, encoding_plugin=plugin)
        files.append(tmp_path / f"{plugin}.dcm")
        dataset.save_as(files[-1])
    for preparation in ("display", "med_ad"):
        for file in files:
            np.testing.assert_array_equal(pixels_of(file, preparation), pixels_of(plain, preparation))


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 1023), (np.uint16, 4095), (np.uint16, 65535)])
def test_monochrome1_is_the_same_as_its_twin(tmp_path, write_dicom, dtype, top):
    stored = (20 + GREY.astype(int) * top // 600).astype(dtype)
    bits = {"BitsStored": top.bit_length()}
    plain = write_dicom(tmp_path / "plain.dcm", stored, **bits)
    twin = write_dicom(tmp_path / "twin.dcm", (top - stored).astype(dtype), "MONOCHROME1", **bits)
    np.testing.assert_array_equal(pixels_of(plain), pixels_of(twin))


def test_signed_pixels_do_not_wrap_around(tmp_path, write_dicom):
    for dtype, low, high in ((np.int16, -32768, 32767), (np.int8, -128, 127)):
        stored = np.linspace(low, high, 35).round().astype(dtype).reshape(5, 7)
        path = write_dicom(tmp_path / "signed.dcm", stored)
        np.testing.assert_array_equal(pixels_of(path), spread(stored))
        path = write_dicom(tmp_path / "signed.dcm", stored, "MONOCHROME1")
        np.testing.assert_array_equal(pixels_of(path), spread(-stored.astype(int)))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_unused_bits_do_not_matter(tmp_path, write_dicom, dtype):
    garbage = np.random.default_rng(0).integers(0, 16, (5, 7)).astype(np.uint16) << 12
    stored = (DEEP.astype(int) - (2048 if dtype == np.int16 else 0)).astype(dtype)
    clean = write_dicom(tmp_path / "clean.dcm", stored, BitsStored=12)
    low_bits = stored.view(np.uint16) & 0x0FFF
    dirty = write_dicom(tmp_path / "dirty.dcm", (low_bits | garbage).view(dtype), BitsStored=12)
    for preparation in ("display", "med_ad"):
        np.testing.assert_array_equal(pixels_of(clean, preparation), pixels_of(dirty, preparation))
    np.testing.assert_array_equal(pixels_of(clean), spread(stored))


def test_pixels_in_the_upper_bits(tmp_path, write_dicom):
    stored = (DEEP >> 2) & 0x0FFF
    path = write_dicom(tmp_path / "u.dcm", (stored << 4) | 0b1011, BitsStored=12)
    dataset = pydicom.dcmread(path)
    dataset.HighBit = 15
    dataset.save_as(path)
    np.testing.assert_array_equal(pixels_of(path), spread(stored))


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_32_bits(tmp_path, write_dicom, dtype):
    stored = GREY.astype(dtype) * 10_000_000 - (2**30 if dtype == np.int32 else 0)
    np.testing.assert_array_equal(pixels_of(write_dicom(tmp_path / "d.dcm", stored.astype(dtype))), spread(stored))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2000, 1000), (100, 3000), (5000, 10000), (2000.5, 1)])
def test_the_windows_range_is_the_pictures(tmp_path, write_dicom, function, center, width):
    stored = np.arange(0, 4080, 60, dtype=np.uint16).reshape(4, 17)
    window = {"WindowCenter": center, "WindowWidth": width, "VOILUTFunction": function}
    path = write_dicom(tmp_path / "w.dcm", stored, BitsStored=12, **window)
    if function == "LINEAR" and width == 1:
        wanted = np.where(stored > center - 0.5, 255, 0)
    else:
        wanted = apply_windowing(stored, pydicom.dcmread(path)) / 4095 * 255
    assert abs(pixels_of(path) - wanted).max() <= 0.51
    path = write_dicom(tmp_path / "w.dcm", stored, "MONOCHROME1", BitsStored=12, **window)
    assert abs(255 - pixels_of(path) - wanted).max() <= 0.51


def test_a_window_covers_rescaled_values(tmp_path, write_dicom):
    stored = np.arange(0, 4080, 60, dtype=np.uint16).reshape(4, 17)
    rescale = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    path = write_dicom(tmp_path / "w.dcm", stored, WindowCenter="40", WindowWidth="401", **rescale)
    wanted = np.clip((stored - 1024.0 - 39.5) / 400 + 0.5, 0, 1) * 255
    assert abs(pixels_of(path) - wanted).max() <= 0.51


def test_the_first_of_several_windows(tmp_path, write_dicom):
    first = write_dicom(tmp_path / "1.dcm", DEEP, WindowCenter="800", WindowWidth="900")
    both = write_dicom(tmp_path / "2.dcm", DEEP, WindowCenter=[800, 2000], WindowWidth=[900, 100])
    np.testing.assert_array_equal(pixels_of(first), pixels_of(both))


@pytest.mark.parametrize(("center", "width"), [("2000", "0"), ("2000", "-5"), ("", ""), (None, "100")])
def test_a_window_that_is_none(tmp_path, write_dicom, center, width):
    path = write_dicom(tmp_path / "w.dcm", DEEP, WindowCenter=center, WindowWidth=width)
    np.testing.assert_array_equal(pixels_of(path), spread(DEEP))


def test_voi_lut(tmp_path, write_dicom):
    """A table of 4096 entries of 8 bits; what lies outside takes its ends."""
    entries = (np.arange(4096) // 16)[::-1]
    path = write_dicom(tmp_path / "v.dcm", DEEP, VOILUTSequence=[lut(entries, 100, 8)], WindowCenter=1, WindowWidth=2)
    wanted = entries[np.clip(DEEP.astype(int) - 100, 0, 4095)]
    np.testing.assert_array_equal(pixels_of(path), wanted)
    path = write_dicom(tmp_path / "v.dcm", DEEP, "MONOCHROME1", VOILUTSequence=[lut(entries, 100, 8)])
    np.testing.assert_array_equal(pixels_of(path), 255 - wanted)


def test_a_voi_lut_that_says_16_bits_and_uses_12(tmp_path, write_dicom):
    said = write_dicom(tmp_path / "a.dcm", DEEP, VOILUTSequence=[lut(np.arange(4096), 0, 16)])
    true = write_dicom(tmp_path / "b.dcm", DEEP, VOILUTSequence=[lut(np.arange(4096), 0, 12)])
    np.testing.assert_array_equal(pixels_of(said), pixels_of(true))
    np.testing.assert_array_equal(pixels_of(true), np.rint(np.minimum(DEEP, 4095) / 4095 * 255))


def test_voi_lut_for_negative_values(tmp_path, write_dicom):
    stored = GREY.astype(np.int16) - 120
    item = lut(np.arange(256), 0, 8)
    item.add_new("LUTDescriptor", "SS", [256, -128, 8])
    path = write_dicom(tmp_path / "v.dcm", stored, VOILUTSequence=[item])
    np.testing.assert_array_equal(pixels_of(path), stored + 128)


def test_modality_lut_and_rescaling(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "m.dcm", DEEP, RescaleSlope="-2", RescaleIntercept="7")
    np.testing.assert_array_equal(pixels_of(path), spread(-DEEP.astype(float)))
    path = write_dicom(tmp_path / "m.dcm", GREY, RescaleSlope="1", RescaleIntercept="-1024")
    np.testing.assert_array_equal(pixels_of(path), GREY)
    entries = np.arange(1024) ** 2 // 16
    path = write_dicom(tmp_path / "m.dcm", GREY.astype(np.uint16) * 4, ModalityLUTSequence=[lut(entries, 0, 16)])
    np.testing.assert_array_equal(pixels_of(path), spread(entries[GREY.astype(int) * 4]))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(("dtype", "padding"), [(np.uint16, 65535), (np.uint16, 0), (np.int16, -2000)])
def test_padding_is_black_and_has_no_part_in_the_scale(tmp_path, write_dicom, photometric, dtype, padding):
    stored = DEEP.astype(dtype)
    padded = stored.copy()
    padded[:, 0] = padding
    path = write_dicom(tmp_path / "p.dcm", padded, photometric, BitsStored=16, PixelPaddingValue=padding)
    pixels = pixels_of(path)
    assert not pixels[:, 0].any()
    np.testing.assert_array_equal(pixels[:, 1:], spread(stored[:, 1:] * (1.0 if photometric[-1] == "2" else -1.0)))
    path = write_dicom(tmp_path / "p.dcm", np.full_like(padded, padding), PixelPaddingValue=padding)
    assert not pixels_of(path).any()


def test_a_range_of_padding(tmp_path, write_dicom):
    padded = DEEP.copy()
    padded[0], padded[1] = 4090, 4095
    path = write_dicom(tmp_path / "p.dcm", padded, BitsStored=12, PixelPaddingValue=4095, PixelPaddingRangeLimit=4090)
    assert not pixels_of(path)[:2].any()
    np.testing.assert_array_equal(pixels_of(path)[2:], spread(DEEP[2:]))


def test_padding_written_as_its_unsigned_twin(tmp_path, write_dicom):
    padded = (DEEP // 2).astype(np.int16)
    padded[0] = -2000
    path = write_dicom(tmp_path / "p.dcm", padded, BitsStored=12)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.save_as(path)
    assert not pixels_of(path)[0].any()
    np.testing.assert_array_equal(pixels_of(path)[1:], spread(padded[1:]))


def test_padding_and_a_window(tmp_path, write_dicom):
    padded = DEEP.copy()
    padded[0] = 65535
    path = write_dicom(tmp_path / "p.dcm", padded, PixelPaddingValue=65535, WindowCenter="800", WindowWidth="900")
    whole = write_dicom(tmp_path / "w.dcm", DEEP, WindowCenter="800", WindowWidth="900")
    assert not pixels_of(path)[0].any()
    np.testing.assert_array_equal(pixels_of(path)[1:], pixels_of(whole)[1:])


def test_color(tmp_path, write_dicom):
    np.testing.assert_array_equal(pixels_of(write_dicom(tmp_path / "c.dcm", COLOR, "RGB")), COLOR)
    deep = COLOR.astype(np.uint16) * 200
    np.testing.assert_array_equal(pixels_of(write_dicom(tmp_path / "c.dcm", deep, "RGB")), spread(deep))
    apart = write_dicom(tmp_path / "c.dcm", COLOR, "RGB", data=np.moveaxis(COLOR, -1, 0).tobytes() + b"\0")
    dataset = pydicom.dcmread(apart)
    dataset.PlanarConfiguration = 1
    dataset.save_as(apart)
    np.testing.assert_array_equal(pixels_of(apart), COLOR)


def test_luminance_is_turned_into_colors(tmp_path, write_dicom):
    coded = np.asarray(Image.fromarray(COLOR).convert("YCbCr"))
    image = pixels_of(write_dicom(tmp_path / "y.dcm", coded, "YBR_FULL"))
    assert abs(image.astype(int) - COLOR).max() <= 3
    plain, subsampled = (pixels_of(PYDICOM / "test_files" / f"SC_rgb_dcmtk_+eb+c{name}.dcm") for name in ("r", "y+np"))
    assert abs(plain.astype(int) - subsampled).mean() < 5


@pytest.mark.parametrize("said", [16, 8])
def test_palette(tmp_path, write_dicom, said):
    table = np.arange(256, dtype="<u2") * (257 if said == 16 else 1)
    lists = {"Red": table, "Green": table[::-1], "Blue": table // 2}
    palette = {f"{name}PaletteColorLookupTableData": values.tobytes() for name, values in lists.items()}
    palette |= {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in lists}
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = pixels_of(write_dicom(tmp_path / "p.dcm", pixels, "PALETTE COLOR", **palette))
    np.testing.assert_array_equal(image[..., 0], pixels)
    np.testing.assert_array_equal(image[..., 1], 255 - pixels)
    assert abs(image[..., 2].astype(int) - pixels // 2).max() <= 1


def test_jpeg_inside(tmp_path, write_dicom):
    for pixels, photometric in ((GREY, "MONOCHROME2"), (COLOR, "YBR_FULL_422")):
        jpeg = io.BytesIO()
        Image.fromarray(pixels).save(jpeg, "JPEG", quality=90)
        path = tmp_path / "j.dcm"
        write_dicom(path, pixels, photometric, syntax=JPEGBaseline8Bit, data=encapsulate([jpeg.getvalue()]))
        np.testing.assert_allclose(pixels_of(path), np.asarray(Image.open(jpeg)), atol=2)


def test_a_frame_of_several_is_named(tmp_path, write_dicom, refused):
    frames = [GREY, 255 - GREY, GREY // 2]
    data = b"".join(frame.tobytes() for frame in frames) + b"\0"
    path = write_dicom(tmp_path / "f.dcm", GREY, NumberOfFrames=3, data=data)
    with refused(path, "3 frames", f"{path}#0"):
        read_image(path)
    with refused(f"{path}#3", "#2"):
        read_image(f"{path}#3")
    for decoded, frame in zip(decode_file([f"{path}#{index}" for index in range(3)]), frames, strict=True):
        np.testing.assert_array_equal(np.asarray(decoded.image), frame)
    one = write_dicom(tmp_path / "one.dcm", GREY, NumberOfFrames=1)
    np.testing.assert_array_equal(pixels_of(one), GREY)


def test_frames_with_windows_of_their_own(tmp_path, write_dicom):
    def group(center):
        window, whole = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = center, 900
        whole.FrameVOILUTSequence = [window]
        return whole

    groups = [group(800), group(2000)]
    path = write_dicom(
        tmp_path / "f.dcm", DEEP, NumberOfFrames=2, data=DEEP.tobytes() * 2, PerFrameFunctionalGroupsSequence=groups
    )
    for index, center in enumerate((800, 2000)):
        single = write_dicom(tmp_path / "s.dcm", DEEP, WindowCenter=center, WindowWidth=900)
        np.testing.assert_array_equal(pixels_of(f"{path}#{index}"), pixels_of(single))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1), (3, 3), (127, 61)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_odd_sizes(tmp_path, write_dicom, shape, dtype):
    stored = (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)
    data = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    path = write_dicom(tmp_path / "o.dcm", stored, data=data)
    assert read_image(path).size == shape[::-1]
    wanted = stored if dtype == np.uint8 or stored.size == 1 else spread(stored)
    np.testing.assert_array_equal(pixels_of(path), wanted)


def plain_med_ad(path):
    """The preparation as its published description goes, step by step."""
    dataset = pydicom.dcmread(path)
    image = dataset.pixel_array
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        image = image.max() - image
    if image.dtype != np.uint8:
        image = image - image.min()
        image = (image * 1.0 / image.max() * 255).astype(np.uint8)
    return image


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_med_ad_preparation(tmp_path, write_dicom, photometric, dtype):
    stored = np.random.default_rng(0).integers(5, 3000 if dtype != np.uint8 else 200, (40, 50)).astype(dtype)
    header = {"RescaleSlope": "2", "RescaleIntercept": "5", "WindowCenter": "800", "WindowWidth": "900"}
    path = write_dicom(tmp_path / "m.dcm", stored, photometric, PixelPaddingValue=5, **header)
    np.testing.assert_array_equal(pixels_of(path, "med_ad"), plain_med_ad(path))
    assert not np.array_equal(pixels_of(path, "med_ad"), pixels_of(path))


def test_med_ad_preparation_of_a_constant_image(tmp_path, write_dicom):
    assert not pixels_of(write_dicom(tmp_path / "m.dcm", np.full_like(DEEP, 700)), "med_ad").any()


@pytest.mark.parametrize(("preset", "published"), [("paper", True), ("official", True), ("recommended", False)])
def test_presets_prepare_dicom_as_they_say_and_prepared_files_alike(preset, published, tmp_path, write_dicom):
    header = {"WindowCenter": "800", "WindowWidth": "900"}
    path = write_dicom(
        tmp_path / "m.dcm", np.random.default_rng(0).integers(5, 3000, (40, 50)).astype(np.uint16), **header
    )
    Image.fromarray(plain_med_ad(path)).save(tmp_path / "m.png")
    how = resolve_settings(preset).decoding()
    prepared = load_image(tmp_path / "m.png", how)
    np.testing.assert_array_equal(prepared, load_image(tmp_path / "m.png", HowToDecode((64, 64))))
    assert np.array_equal(load_image(path, how), prepared) == published


def test_description(tmp_path, write_dicom):
    header = {"Modality": "DX", "ViewPosition": "PA", "PatientSex": "M", "PatientAge": "043Y", "PatientID": "17 b"}
    found = decode(write_dicom(tmp_path / "a.dcm", GREY, **header)).description
    assert found.pop("patient") == decode(write_dicom(tmp_path / "b.dcm", DEEP, **header)).description["patient"]
    assert found == {
        **{"width": 7, "height": 5, "mode": "L", "format": "DICOM"},
        **{"modality": "DX", "view": "PA", "sex": "M", "age": 43},
    }
    header = {"PatientSex": "", "PatientAge": "", "PatientID": "", "Modality": "", "ViewPosition": None}
    found = decode(write_dicom(tmp_path / "c.dcm", GREY, **header)).description
    assert set(found) == {"width", "height", "mode", "format"}


@pytest.mark.parametrize(
    ("said", "years"), [("58", 58), ("006M", 0.5), ("026W", 0.498), ("010D", 0.027), ("old", None), ("-3", None)]
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
def test_ages(tmp_path, write_dicom, said, years):
    assert decode(write_dicom(tmp_path / "a.dcm", GREY, PatientAge=said)).description.get("age") == years


def test_patients(tmp_path, write_dicom):
    def patient(name):
        return decode(write_dicom(tmp_path / "a.dcm", GREY, PatientID=name)).description.get("patient")

    assert all(patient(name) is None for name in ("", " ", "anonymous", "Anonymized", "ANON", "0000", "XXXX", "N/A"))
    assert patient("12 34 ") == patient("12 34") != patient("1235")
    assert patient("ANON0017") != patient("ANON0018")
    assert "12" not in {patient("12")}
    assert len(patient("12")) == 16


def test_without_suffix_and_without_mark(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "IM000001", GREY)
    np.testing.assert_array_equal(pixels_of(path), GREY)
    assert decode(path).description["format"] == "DICOM"
    dataset = pydicom.dcmread(path)
    bare = tmp_path / "bare.dcm"
    with bare.open("wb") as file:  # as old archives wrote it: neither mark nor meta information
        pydicom.dcmwrite(file, Dataset(dataset), implicit_vr=True, little_endian=True)
    assert bare.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(pixels_of(bare), GREY)


def test_broken_files(tmp_path, write_dicom, refused):
    path = write_dicom(tmp_path / "b.dcm", GREY)
    whole = path.read_bytes()
    for content in (b"", b"DICM", b"text", whole[:200], whole[:-20], b"\0" * 1000, whole[:132]):
        path.write_bytes(content)
        with refused(path, "not a readable image"):
            read_image(path)


def test_a_broken_stream_is_told_in_one_line(tmp_path, write_dicom, refused, caplog):
    path = write_dicom(tmp_path / "j.dcm", GREY, syntax=JPEGBaseline8Bit, data=encapsulate([b"no JPEG."]))
    with refused(path, "not a readable image"):
        read_image(path)
    assert not caplog.records  # no stack trace in the log either


@pytest.mark.parametrize("changes", [{50: 125, 58: 69, 78: 30}, {33: 193, 58: 41, 96: 114}])
def test_broken_jpeg_2000_does_not_end_the_process(tmp_path, refused, changes):
    """As it would with these very bytes if it got to GDCM."""
    dataset = pydicom.dcmread(PYDICOM / "test_files" / "MR_small_jp2klossless.dcm")
    data = bytearray(dataset.PixelData)
    for place, value in changes.items():
        data[place] = value
    dataset.PixelData = bytes(data)
    dataset.save_as(tmp_path / "b.dcm")
    with refused(tmp_path / "b.dcm", "not a readable image"):
        read_image(tmp_path / "b.dcm")


def test_a_syntax_without_decoder_is_named(tmp_path, write_dicom, refused):
    path = write_dicom(tmp_path / "s.dcm", GREY, syntax=pydicom.uid.HEVCMP51, data=encapsulate([b"\0" * 10]))
    with refused(path, "HEVC"):
        read_image(path)


def test_what_to_install_is_named():
    """In a Python that has none of the decoders."""
    names = ("SC_rgb_jpeg_gdcm", "JPGExtended", "MR_small_jpeg_ls_lossless")
    code = (
        "import sys; sys.modules |= dict.fromkeys(['gdcm', 'pylibjpeg', 'openjpeg', 'jpeg_ls'])\n"
        "from monai_sagan.data.formats.decode import decode_file\n"
        "for path in sys.argv[1:]: print(*decode_file([path]))"
    )
    files = [str(PYDICOM / "test_files" / f"{name}.dcm") for name in names]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    for file, line, name in zip(files, lines, ("JPEG Lossless", "JPEG Extended", "JPEG-LS Lossless"), strict=True):
        assert line.startswith(file)
        assert name in line
        assert "pip install python-gdcm pylibjpeg pylibjpeg-openjpeg pyjpegls" in line


def pydicom_files():
    """What is in the installed package: `get_testdata_files` would download more."""
    return sorted(path for path in PYDICOM.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.filterwarnings(r"ignore::UserWarning:pydicom\.")
@pytest.mark.parametrize("preparation", ["display", "med_ad"])
def test_each_of_pydicoms_files_is_read_or_refused(preparation):
    read, unread = [], {}
    for path in pydicom_files():
        try:
            image = read_image(path, preparation)
            assert image.mode in ("L", "RGB")
            assert min(image.size) > 0
            read.append(path.name)
        except SaganError as error:
            unread[path.name] = str(error)
    assert len(read) >= 95
    wanted = ["CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_rle_16bit.dcm", "examples_palette.dcm", "JPGExtended.dcm"]
    assert {*wanted, "GDCMJ2K_TextGBR.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jls_lossy_line.dcm"} <= set(read)
    assert {"MR_truncated.dcm", "rtdose.dcm", "badVR.dcm", "rtplan.dcm"} <= set(unread)
    assert all(name in message and "\n" not in message for name, message in unread.items())


@pytest.mark.filterwarnings(r"ignore::UserWarning:pydicom\.")
def test_8_bit_pictures_of_pydicom_are_its_own_arrays():
    compared = 0
    for path in sorted((PYDICOM / "test_files").glob("*.dcm")):
        (decoded,) = decode_file([path])
        if isinstance(decoded, SaganError):
            continue
        dataset = pydicom.dcmread(path)
        plain = not {"WindowCenter", "VOILUTSequence", "RescaleSlope", "PixelPaddingValue"} & set(dataset.dir())
        if dataset.BitsStored == 8 and plain and dataset.PhotometricInterpretation != "PALETTE COLOR":
            np.testing.assert_allclose(np.asarray(decoded.image), dataset.pixel_array, atol=1, err_msg=str(path))
            compared += 1
    assert compared > 20


def test_threads_see_the_same_pictures():
    files = [PYDICOM / "test_files" / f"{name}.dcm" for name in ("CT_small", "MR_small_RLE", "SC_rgb_jpeg_dcmtk")] * 8
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        found = [image.tobytes() for image in pool.map(read_image, files)]
    assert found == [read_image(path).tobytes() for path in files]


def test_real_radiograph_and_its_twin(real_data):
    plain, twin = (
        pixels_of(real_data / "dicom" / f"rsna_sample_{name}.dcm") for name in ("monochrome2", "monochrome1_twin")
    )
    assert plain.shape == (1024, 1024)
    assert plain.std() > 20
    np.testing.assert_array_equal(255 - plain, twin)  # the same stored pixels, another header


def test_real_radiograph_in_six_encodings(real_data):
    """Of 1760 x 1760 pixels, 10 bits, MONOCHROME1, with a window; lossy ones differ by what compression took."""
    lossless = [pixels_of(real_data / "dicom" / f"RG3_{name}.dcm") for name in ("RLE", "J2KR", "JLSL", "JPLL")]
    assert lossless[0].shape == (1760, 1760)
    for other in lossless[1:]:
        np.testing.assert_array_equal(lossless[0], other)
    for name, greatest, mean in (("J2KI", 3, 0.2), ("JPLY", 12, 0.35)):
        difference = abs(pixels_of(real_data / "dicom" / f"RG3_{name}.dcm").astype(int) - lossless[0])
        assert difference.max() <= greatest
        assert difference.mean() <= mean
