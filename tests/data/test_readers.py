"""Files of any format become 8-bit pixels, or a one-line refusal that names the file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from monai_sagan.data.readers import IMAGE_SUFFIXES, is_image_file, read_image
from monai_sagan.errors import SaganError

GREY = (np.arange(35, dtype=np.uint8) * 7 % 251).reshape(5, 7)  # not square, so that a transposition shows
COLOR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def pixels_of(path, mode=None):
    image = read_image(path)
    return np.asarray(image.convert(mode) if mode else image)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_grey_and_color_as_they_are(tmp_path, suffix):
    for pixels, mode in ((GREY, "L"), (COLOR, "RGB")):
        path = tmp_path / f"image{suffix}"
        Image.fromarray(pixels).save(path)
        assert read_image(path).mode == mode
        np.testing.assert_array_equal(pixels_of(str(path)), pixels)


def test_other_modes_of_png(tmp_path):
    path = tmp_path / "image.png"
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)]).save(path)
    np.testing.assert_array_equal(pixels_of(path, "L"), GREY)

    palette = Image.fromarray(GREY)
    palette.putpalette([(255 - i) for i in range(256) for _ in range(3)])
    palette.save(path)
    assert read_image(path).mode == "P"
    np.testing.assert_array_equal(pixels_of(path, "L"), 255 - GREY)

    Image.fromarray(GREY > 100).save(path)
    assert read_image(path).mode == "1"
    np.testing.assert_array_equal(pixels_of(path, "L"), np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled_from_least_to_greatest(tmp_path, suffix):
    deep = 300 + 40 * np.arange(35, dtype=np.uint16).reshape(5, 7)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(deep).save(path)
    assert read_image(path).mode == "L"
    np.testing.assert_array_equal(pixels_of(path), np.round(np.arange(35) / 34 * 255).reshape(5, 7))
    Image.fromarray(np.full((5, 7), 999, np.uint16)).save(path)
    assert not pixels_of(path).any()


def test_floats_and_numbers_that_are_none(tmp_path, refused):
    path = tmp_path / "float.tif"
    values = (np.arange(35, dtype=np.float32) / 2 - 3).reshape(5, 7)
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(pixels_of(path), np.round(np.arange(35) / 34 * 255).reshape(5, 7))
    values[1, 2], values[3, 3], values[4, 0] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(path)
    with refused(path, "3 NaN or infinite pixels"):
        read_image(path)


def test_jpeg(tmp_path):
    for suffix in (".jpg", ".jpeg"):
        path = tmp_path / f"image{suffix}"
        Image.fromarray(GREY).save(path, "JPEG", quality=95)
        with Image.open(path) as image:
            np.testing.assert_array_equal(pixels_of(path), np.asarray(image))
        assert pixels_of(path).shape == (5, 7)


def test_a_stack_of_pages_is_refused(tmp_path, refused):
    path = tmp_path / "stack.tif"
    pages = [Image.fromarray(GREY), Image.fromarray(255 - GREY), Image.fromarray(GREY)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with refused(path, "3 frames"):
        read_image(path)


def test_dicom_of_8_bits_is_not_stretched(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "image.dcm", GREY)
    assert read_image(path).mode == "L"
    np.testing.assert_array_equal(pixels_of(path), GREY)


def test_dicom_of_12_bits(tmp_path, write_dicom):
    deep = GREY.astype(np.uint16) * 16
    path = write_dicom(tmp_path / "image.dicom", deep, BitsStored=12)
    np.testing.assert_array_equal(pixels_of(path), np.round(deep / deep.max() * 255))


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 4095), (np.uint16, 65535)])
def test_monochrome1_is_the_same_as_its_twin(tmp_path, write_dicom, dtype, top):
    stored = (20 + GREY.astype(int) // 2).astype(dtype)
    bits = {"BitsStored": top.bit_length()}
    plain = write_dicom(tmp_path / "plain.dcm", stored, **bits)
    twin = write_dicom(tmp_path / "twin.dcm", (top - stored).astype(dtype), "MONOCHROME1", **bits)
    np.testing.assert_array_equal(pixels_of(plain), pixels_of(twin))


def test_signed_pixels_do_not_wrap_around(tmp_path, write_dicom):
    stored = np.linspace(-32768, 32767, 35).round().astype(np.int16).reshape(5, 7)
    rising = np.round(np.arange(35) / 34 * 255).reshape(5, 7)
    for photometric, wanted in (("MONOCHROME2", rising), ("MONOCHROME1", 255 - rising)):
        path = write_dicom(tmp_path / "signed.dcm", stored, photometric)
        assert abs(pixels_of(path).astype(int) - wanted).max() <= 1


def test_window_is_applied(tmp_path, write_dicom):
    stored = np.arange(0, 4080, 60, dtype=np.uint16).reshape(4, 17)
    path = write_dicom(tmp_path / "w.dcm", stored, BitsStored=12, WindowCenter="2000", WindowWidth="1000")
    pixels = pixels_of(path).astype(int)
    assert (pixels[stored <= 1500] == 0).all()
    assert (pixels[stored >= 2500] == 255).all()
    inside = (stored > 1500) & (stored < 2500)
    wanted = (stored[inside] - 1999.5) / 999 * 255 + 127.5  # the standard's linear function
    assert abs(pixels[inside] - wanted).max() <= 1


def test_modality_lut_is_applied(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "m.dcm", GREY.astype(np.uint16), RescaleSlope="-2", RescaleIntercept="7")
    low, high = int(GREY.min()), int(GREY.max())
    np.testing.assert_array_equal(pixels_of(path), np.round((high - GREY.astype(float)) / (high - low) * 255))


def test_dicom_in_color(tmp_path, write_dicom):
    np.testing.assert_array_equal(pixels_of(write_dicom(tmp_path / "c.dcm", COLOR, "RGB")), COLOR)


def test_dicom_with_a_palette(tmp_path, write_dicom):
    table = np.arange(256, dtype="<u2") * 257
    lists = {"Red": table, "Green": table[::-1], "Blue": table // 2}
    palette = {f"{name}PaletteColorLookupTableData": values.tobytes() for name, values in lists.items()}
    palette |= {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in lists}
    pixels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = pixels_of(write_dicom(tmp_path / "p.dcm", pixels, "PALETTE COLOR", **palette))
    np.testing.assert_array_equal(image[..., 0], pixels)
    np.testing.assert_array_equal(image[..., 1], 255 - pixels)
    assert abs(image[..., 2].astype(int) - pixels // 2).max() <= 1


def test_dicom_with_jpeg_inside(tmp_path, write_dicom):
    jpeg = io.BytesIO()
    Image.fromarray(GREY).save(jpeg, "JPEG", quality=90)
    data = encapsulate([jpeg.getvalue()])
    path = write_dicom(tmp_path / "j.dcm", GREY, syntax=JPEGBaseline8Bit, data=data)
    np.testing.assert_array_equal(pixels_of(path), np.asarray(Image.open(jpeg)))


def test_dicom_of_several_frames_is_refused(tmp_path, write_dicom, refused):
    path = write_dicom(tmp_path / "f.dcm", GREY, NumberOfFrames=3, data=GREY.tobytes() * 3 + b"\0")
    with refused(path, "3 frames"):
        read_image(path)
    one = write_dicom(tmp_path / "one.dcm", GREY, NumberOfFrames=1)
    np.testing.assert_array_equal(pixels_of(one), GREY)


def test_broken_dicom(tmp_path, write_dicom, refused):
    path = write_dicom(tmp_path / "b.dcm", GREY)
    whole = path.read_bytes()
    for content in (b"", b"DICM", b"text", whole[:200], whole[:-20], b"\0" * 1000):
        path.write_bytes(content)
        with refused(path):
            read_image(path)


def test_a_broken_stream_is_told_in_one_line(tmp_path, write_dicom, refused, caplog):
    path = write_dicom(tmp_path / "j.dcm", GREY, syntax=JPEGBaseline8Bit, data=encapsulate([b"no JPEG."]))
    with refused(path, "not a readable image"):
        read_image(path)
    assert not caplog.records  # no stack trace in the log either


def test_a_syntax_without_decoder_is_named(tmp_path, write_dicom, refused):
    path = write_dicom(tmp_path / "s.dcm", GREY, syntax=pydicom.uid.HEVCMP51, data=encapsulate([b"\0" * 10]))
    with refused(path, "HEVC"):
        read_image(path)


def test_real_radiograph_and_its_twin(real_data):
    plain, twin = (
        pixels_of(real_data / "dicom" / f"rsna_sample_{name}.dcm") for name in ("monochrome2", "monochrome1_twin")
    )
    assert plain.shape == (1024, 1024)
    assert plain.std() > 20
    np.testing.assert_array_equal(255 - plain, twin)  # the same stored pixels, another header


def test_real_radiograph_in_two_syntaxes(real_data):
    """One radiograph of 10 bits; the corners are the darkest once MONOCHROME1 is inverted."""
    run_length, jpeg_2000 = (pixels_of(real_data / "dicom" / f"RG3_{name}.dcm") for name in ("RLE", "J2KR"))
    assert run_length.shape == (1760, 1760)
    np.testing.assert_array_equal(run_length, jpeg_2000)


def test_real_radiographs_in_every_syntax(real_data):
    """What no installed decoder reads is refused in its decoders' words."""
    paths = sorted((real_data / "dicom").glob("RG3_*.dcm"))
    assert len(paths) == 6
    for path in paths:
        try:
            assert read_image(path).size == (1760, 1760)
        except SaganError as error:
            message = str(error)
            assert [path.name in message, "plugins" in message, "\n" in message] == [True, True, False]


def pydicom_files():
    """What is in the installed package: `get_testdata_files` would download more."""
    return sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm"))


def test_each_of_pydicoms_files_is_read_or_refused():
    read, unread = [], {}
    for path in pydicom_files():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = read_image(path)
            assert image.mode in ("L", "RGB")
            assert min(image.size) > 0
            read.append(path.name)
        except SaganError as error:
            unread[path.name] = str(error)
    assert len(read) >= 40
    assert {"CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_rle_16bit.dcm", "examples_palette.dcm"} <= set(read)
    assert {"MR_truncated.dcm", "rtdose.dcm", "badVR.dcm"} <= set(unread)
    assert all(name in message and "\n" not in message for name, message in unread.items())


def test_luminance_is_turned_into_colors():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    plain, coded = (pixels_of(folder / f"SC_rgb_dcmtk_+eb+c{name}.dcm") for name in ("r", "y+np"))
    assert abs(plain.astype(int) - coded).mean() < 5


def test_nifti_slice(tmp_path):
    values = np.arange(35, dtype=np.int16).reshape(7, 5) * 10  # x runs along the first axis
    for name, array in (("a.nii", values), ("b.nii.gz", values[:, :, None]), ("c.NII.gz", values[None])):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.size == (7, 5)
        assert image.getpixel((6, 0)) == round(values[6, 0] / 340 * 255)
        assert image.getpixel((0, 4)) == round(values[0, 4] / 340 * 255)


def test_nifti_volume_is_refused(tmp_path, refused):
    path = tmp_path / "v.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)), path)
    with refused(path, "(4, 5, 6)"):
        read_image(path)
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5), np.nan, np.float32), np.eye(4)), path)
    with refused(path, "20 NaN"):
        read_image(path)
    path.write_bytes(b"text")
    with refused(path):
        read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp", "a.dcm", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"just some\ntext\n" * 20])
def test_other_content_under_an_images_name(tmp_path, name, content, refused):
    (tmp_path / name).write_bytes(content)
    with refused(tmp_path / name, "not a readable image"):
        read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_truncated_files(tmp_path, kind, refused):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / f"image.{kind.lower()}"
    Image.fromarray(noise).save(path, kind)
    whole = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with refused(path, "not a readable image"):
            read_image(path)


def test_missing_files(tmp_path, refused):
    for name in ("a.png", "a.dcm", "a.nii"):
        with refused(tmp_path / name, "is not there"):
            read_image(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with refused(tmp_path / "folder.png"):
        read_image(tmp_path / "folder.png")


def test_enormous_images_are_refused(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    Image.fromarray(GREY).save(tmp_path / "large.png")
    with refused(tmp_path / "large.png", "pixels"):
        read_image(tmp_path / "large.png")


def test_names_of_images():
    assert all(is_image_file(Path(f"x/name{suffix}")) for suffix in IMAGE_SUFFIXES)
    assert is_image_file(Path("x/NAME.DCM"))
    assert not any(is_image_file(Path(name)) for name in ("a.txt", "png", ".a.png", "a.png.bak", "a.gz", "a.csv"))
