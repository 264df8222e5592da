"""Files of any format become 8-bit pictures with a description, or a one-line refusal that names the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_sagan.data.datasets.image_table import read_table
from monai_sagan.data.formats.decode import (
    IMAGE_SUFFIXES,
    decode,
    decode_file,
    describe_file,
    foreground_share,
    is_image_file,
    nifti_slices,
    read_image,
    split_fragment,
)
from monai_sagan.errors import SaganError

GREY = (np.arange(35, dtype=np.uint8) * 7 % 251).reshape(5, 7)  # not square, so that a transposition shows
COLOR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)
PAGES = [GREY, 255 - GREY, GREY // 2]


def pixels_of(path, mode=None):
    image = read_image(path)
    return np.asarray(image.convert(mode) if mode else image)


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack.tif"
    first, *others = [Image.fromarray(page) for page in PAGES]
    first.save(path, save_all=True, append_images=others)
    return path


@pytest.fixture
def save_volume(tmp_path):
    def save(values, name="v.nii.gz", affine=None):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), tmp_path / name)
        return tmp_path / name

    return save


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_grey_and_color_as_they_are(tmp_path, suffix):
    for pixels, mode in ((GREY, "L"), (COLOR, "RGB")):
        path = tmp_path / f"image{suffix}"
        Image.fromarray(pixels).save(path)
        assert read_image(path).mode == mode
        np.testing.assert_array_equal(pixels_of(str(path)), pixels)


def test_description(tmp_path):
    Image.fromarray(COLOR).save(tmp_path / "image.png")
    assert decode(tmp_path / "image.png").description == {"width": 7, "height": 5, "mode": "RGB", "format": "PNG"}


def test_other_modes_of_png(tmp_path):
    path = tmp_path / "image.png"
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


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP")])
def test_lossy_files_as_pillow_decodes_them(tmp_path, suffix, kind):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(COLOR).save(path, kind, quality=95)
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of(path), np.asarray(image))
    assert pixels_of(path).shape == (5, 7, 3)


def test_a_page_of_several_is_named(stack, refused):
    for index, page in enumerate(PAGES):
        np.testing.assert_array_equal(pixels_of(f"{stack}#{index}"), page)
    with refused(stack, "3 frames", f"{stack}#0"):
        read_image(stack)
    with refused(f"{stack}#3", "#2"):
        read_image(f"{stack}#3")
    with refused(f"{stack}#z1", "#0"):
        read_image(f"{stack}#z1")


def test_a_table_names_the_pages_that_are_meant(tmp_path, stack):
    """What the refusal of a whole file advises; pages of a file are of one patient."""
    (tmp_path / "images.csv").write_text("image,label\nstack.tif#0,0\nstack.tif#2,1\n")
    items = [item for part in read_table(tmp_path).datalist.values() for item in part]
    assert sorted((item["image"], item["label"], item["patient"]) for item in items) == [
        (f"{stack}#0", 0, str(stack)),
        (f"{stack}#2", 1, str(stack)),
    ]
    for item in items:
        np.testing.assert_array_equal(pixels_of(item["image"]), PAGES[2 * item["label"]])


def test_the_only_page_may_be_named(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels_of(f"{tmp_path}/a.png#0"), GREY)


def test_several_of_one_file(stack):
    names = [f"{stack}#{fragment}" for fragment in (2, 7, 0)]
    last, missing, first = decode_file(names)
    np.testing.assert_array_equal(np.asarray(last.image), PAGES[2])
    np.testing.assert_array_equal(np.asarray(first.image), PAGES[0])
    assert isinstance(missing, SaganError)
    assert names[1] in str(missing)
    stack.write_bytes(b"no image")
    refusals = list(decode_file(names))
    assert [name in str(refusal) for name, refusal in zip(names, refusals, strict=True)] == [True] * 3


def test_split_fragment(tmp_path):
    assert split_fragment("a/v.nii.gz#z41") == ("a/v.nii.gz", "z41")
    assert split_fragment("a#1/cine.dcm#3") == ("a#1/cine.dcm", "3")
    for whole in ("a.png", "a#b.png", "a.png#", "a.png#w3", "a.png#-1"):
        assert split_fragment(whole) == (whole, "")
    (tmp_path / "scan#7").touch()
    assert split_fragment(tmp_path / "scan#7") == (f"{tmp_path}/scan#7", "")


def test_nifti_slice(save_volume):
    values = np.arange(35, dtype=np.int16).reshape(7, 5) * 10  # x runs along the first axis
    for name, array in (("a.nii", values), ("b.nii.gz", values[:, :, None]), ("c.NII.gz", values[None])):
        path = save_volume(array, name)
        image, description = decode(path)
        assert image.size == (7, 5)
        # As slices of volumes: on the left is the patient's right or front, where an axis ends.
        assert image.getpixel((0, 4)) == round(values[6, 0] / 340 * 255)
        assert image.getpixel((6, 0)) == round(values[0, 4] / 340 * 255)
        assert description["format"] == "NIFTI"
        assert nifti_slices(path) == [str(path)]
        axis = "x" if array.shape[0] == 1 else "z"
        np.testing.assert_array_equal(read_image(f"{path}#{axis}0"), image)


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (2, 1)])
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PIR"])
def test_a_slice_cut_out_of_a_volume_is_that_slice(save_volume, tmp_path, axes, axis, codes):
    values = (np.arange(4 * 5 * 6).reshape(4, 5, 6) * 2).astype(np.uint8)
    affine = nibabel.orientations.inv_ornt_aff(nibabel.orientations.axcodes2ornt(axes), values.shape)
    volume = nibabel.Nifti1Image(values, affine)
    volume.set_sform(affine, codes[0])
    volume.set_qform(affine, codes[1])
    nibabel.save(volume, tmp_path / "v.nii")
    along = int(nibabel.io_orientation(nibabel.load(tmp_path / "v.nii").affine)[axis, 0])
    cuts = [slice(2, 3) if i == axis else slice(None) for i in range(3)]
    nibabel.save(volume.slicer[tuple(cuts)], tmp_path / "cut.nii.gz")
    cut = decode(tmp_path / "cut.nii.gz")
    reached = [np.asarray(read_image(name)).tolist() for name in nifti_slices(tmp_path / "v.nii", along)]
    assert np.asarray(cut.image).tolist() in reached
    assert next(describe_file([tmp_path / "cut.nii.gz"])) == cut.description


def test_a_file_as_dcm2niix_writes_it_is_upright(save_volume):
    up = np.zeros((5, 7), np.uint8)
    up[:2, :2], up[4] = 255, np.arange(7) * 9
    flat = up.T[:, ::-1]  # from the patient's right to the left, from back to front
    for name, array in (("a.nii", flat), ("b.nii.gz", flat[..., None]), ("c.nii", flat[..., None, None])):
        path = save_volume(array, name, np.diag([-1, 1, 1, 1.0]))
        np.testing.assert_array_equal(pixels_of(path), up)


def test_slices_stand_upright_in_any_orientation(save_volume):
    """On top is the front or the head, on the left the patient's right or front: a bright voxel in that corner."""
    canonical = np.zeros((4, 5, 6), np.uint8)
    canonical[3, 4, 5] = 200  # right, front, head
    canonical[0, 0, 0] = 90  # left, back, feet
    right_anterior = nibabel.Nifti1Image(canonical, np.eye(4))
    for axes in ("RAS", "LPS", "PIR", "SLA"):
        ornt = nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes)
        )
        turned = right_anterior.as_reoriented(ornt)
        path = save_volume(np.asarray(turned.dataobj), f"{axes}.nii.gz", turned.affine)
        for fragment, size in (("x3", (5, 6)), ("y4", (4, 6)), ("z5", (4, 5))):
            image = read_image(f"{path}#{fragment}")
            assert image.size == size
            assert np.argwhere(np.asarray(image)).tolist() == [[0, 0]]
            assert image.getpixel((0, 0)) == 200  # unsigned bytes stay as they are
        assert np.asarray(read_image(f"{path}#y0"))[-1, -1] == 90
        assert len(nifti_slices(path, 0)) == 4
        assert len(nifti_slices(path, 1)) == 5
        assert len(nifti_slices(path, 2)) == 6


def test_slices_of_a_volume_share_one_scale(save_volume):
    values = np.zeros((20, 20, 20), np.float32)
    values[:, :, 10:] = np.linspace(0, 1000, 10)  # brighter from slice to slice
    values[0, 0, 19] = 1e6  # and one voxel out of all range
    names = nifti_slices(save_volume(values))
    levels = [int(np.median(np.asarray(image))) for image, _ in decode_file(names)]
    low, high = np.percentile(values, (0.5, 99.5))
    wanted = np.clip((np.median(values, axis=(0, 1)) - low) / (high - low), 0, 1) * 255
    np.testing.assert_array_equal(levels, np.rint(wanted))
    assert levels[10:] == sorted(levels[10:])
    assert levels[11] < 40 < 200 < levels[19]


def test_a_rare_label_is_not_lost(save_volume):
    labels = np.zeros((20, 20, 20), np.int16)
    labels[3, 4, 5], labels[6, 7, 5] = 1, 4
    present = np.asarray(read_image(f"{save_volume(labels)}#z5")) > 0
    assert present.sum() == 2
    assert present[19 - 4, 19 - 3]


def test_names_of_slices(save_volume, refused):
    path = save_volume(np.zeros((4, 5, 10), np.int16))
    assert nifti_slices(path) == [f"{path}#z{index}" for index in range(10)]
    assert nifti_slices(path, axis=0) == [f"{path}#x{index}" for index in range(4)]
    assert nifti_slices(path, keep=(0.3, 0.7)) == [f"{path}#z{index}" for index in range(3, 7)]
    assert nifti_slices(path, keep=(0.41, 0.42)) == [f"{path}#z4"]
    for keep in ((0.5, 0.5), (0.7, 0.3), (-0.1, 1.0), (0.0, 1.1)):
        with refused("slice_range", keep[0], keep[1]):
            nifti_slices(path, keep=keep)
    with refused("slice_axis is 3"):
        nifti_slices(path, axis=3)
    path.write_bytes(b"text")
    with refused(path, "not a readable image"):
        nifti_slices(path)


def test_names_of_slices_come_from_the_header_alone(save_volume):
    path = save_volume(np.zeros((4, 5, 6), np.int16), "v.nii")
    path.write_bytes(path.read_bytes()[:352])  # no voxel is left
    assert len(nifti_slices(path)) == 6


def test_nifti_that_is_refused(save_volume, refused):
    path = save_volume(np.zeros((4, 5, 6), np.int16))
    with refused(path, "(4, 5, 6)", f"{path}#z3"):
        read_image(path)
    with refused(f"{path}#y5", "#y4"):
        read_image(f"{path}#y5")
    with refused(f"{path}#3", f"{path}#z3"):
        read_image(f"{path}#3")
    path = save_volume(np.zeros((4, 5, 6, 2), np.int16))
    for name in (path, f"{path}#z1"):
        with refused(name, "(4, 5, 6, 2)"):
            read_image(name)
    path = save_volume(np.full((4, 5), np.nan, np.float32), "n.nii")
    with refused(path, "20 NaN"):
        read_image(path)
    path.write_bytes(b"text")
    with refused(path):
        read_image(path)


def strange_nifti(folder):
    color = np.zeros((4, 5, 6), [(name, "u1") for name in "RGB"])
    nowhere = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    nowhere.set_sform(np.zeros((4, 4)), 1)
    flat = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    flat.set_sform(np.diag([1, 1, 0, 1.0]), 1)
    return {
        "colors": (nibabel.Nifti1Image(color, np.eye(4)), "save it in grey"),
        "complex": (nibabel.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)), "save their magnitude"),
        "series": (nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.int16), np.eye(4)), "(4, 5, 6, 3)"),
        "vectors": (nibabel.Nifti1Image(np.zeros((4, 5, 6, 1, 3), np.float32), np.eye(4)), "(4, 5, 6, 1, 3)"),
        "line": (nibabel.Nifti1Image(np.zeros(4, np.int16), np.eye(4)), "(4,)"),
        "nothing": (nibabel.Nifti1Image(np.zeros((4, 0, 6), np.int16), np.eye(4)), "(4, 0, 6)"),
        "nowhere": (nowhere, "write a valid sform"),
        "flat": (flat, "write a valid sform"),
    }


@pytest.mark.parametrize("name", strange_nifti(None))
def test_what_is_no_volume_is_refused_with_its_fix(tmp_path, refused, name):
    image, fix = strange_nifti(tmp_path)[name]
    path = tmp_path / "strange.nii.gz"
    nibabel.save(image, path)
    for call in (nifti_slices, read_image, lambda path: decode(f"{path}#z2")):
        with refused(path, fix):
            call(path)
    assert fix in str(next(describe_file([path])))


def test_foreground_share():
    half = np.zeros((4, 6), np.uint8)
    half[:2] = 200
    half[2:] = 5  # noise
    assert foreground_share(Image.fromarray(half)) == 0.5
    assert foreground_share(Image.fromarray(half * 0)) == 0
    assert foreground_share(Image.fromarray(np.stack([half] * 3, -1))) == 0.5


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp", "a.dcm", "a.nii", "a.nii.gz", "a"])
@pytest.mark.parametrize("content", [b"", b"just some\ntext\n" * 20, b"\0" * 1000, b"%!PS-Adobe-3.0 EPSF-3.0\n"])
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
    for name in ("a.png", "a.dcm", "a.nii", "a.nii.gz#z4"):
        with refused(tmp_path / name, "is not there"):
            read_image(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with refused(tmp_path / "folder.png"):
        read_image(tmp_path / "folder.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_enormous_images_are_refused(tmp_path, monkeypatch, refused):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    Image.fromarray(GREY).save(tmp_path / "large.png")
    with refused(tmp_path / "large.png", "7 x 5 pixels"):
        read_image(tmp_path / "large.png")


def test_an_unknown_preparation(tmp_path, refused):
    with refused("preparation is 'none'", "display", "med_ad"):
        read_image(tmp_path / "a.png", "none")


def test_every_format_is_found_by_each_of_its_suffixes():
    from monai_sagan.data.formats.pillow import FORMATS

    Image.init()
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known <= set(IMAGE_SUFFIXES)


@pytest.mark.parametrize("suffix", [".gif", ".pgm", ".pnm", ".pfm", ".jfif", ".jpe", ".apng", ".PGM"])
def test_less_common_suffixes(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".gif": "GIF", ".apng": "PNG"}
    deep = suffix == ".pfm"
    Image.fromarray(GREY.astype(np.float32) if deep else GREY).save(path, kinds.get(suffix, "PPM"))
    assert is_image_file(path)
    wanted = np.rint(GREY / GREY.max() * 255) if deep else GREY
    assert np.abs(pixels_of(path, "L").astype(int) - wanted).max() < 12  # JPEG


def test_16_bits_of_pnm(tmp_path):
    deep = 300 + 40 * np.arange(35, dtype=np.uint16).reshape(5, 7)
    (tmp_path / "deep.pgm").write_bytes(b"P5 7 5 4095\n" + deep.astype(">u2").tobytes())
    assert np.abs(pixels_of(tmp_path / "deep.pgm") - np.arange(35).reshape(5, 7) / 34 * 255).max() <= 1


def test_an_animation_is_refused_as_other_files_of_several_frames(tmp_path, refused):
    path = tmp_path / "moves.gif"
    first, *others = [Image.fromarray(page) for page in PAGES]
    first.save(path, save_all=True, append_images=others)
    with refused(path, "3 frames", f"{path}#0", "save each as a file of its own"):
        read_image(path)
    np.testing.assert_array_equal(pixels_of(f"{path}#0", "L"), GREY)
    for index in range(3):
        assert next(describe_file([f"{path}#{index}"])) == decode(f"{path}#{index}").description


def test_names_of_images(tmp_path, write_dicom):
    assert all(is_image_file(Path(f"x/name{suffix}")) for suffix in IMAGE_SUFFIXES)
    assert is_image_file(Path("x/NAME.DCM"))
    assert not any(is_image_file(Path(name)) for name in ("a.txt", "png", ".a.png", "a.png.bak", "a.gz", "a.csv"))
    assert is_image_file(write_dicom(tmp_path / "IM000001", GREY))
    assert is_image_file(write_dicom(tmp_path / "1.2.840.10008.5", GREY))
    assert not is_image_file(write_dicom(tmp_path / "DICOMDIR", GREY))
    (tmp_path / "notes").write_text("text " * 100)
    assert not is_image_file(tmp_path / "notes")


def test_heavy_libraries_wait_until_they_are_needed(tmp_path):
    """Worker processes start quickly."""
    Image.fromarray(GREY).save(tmp_path / "a.png")
    code = (
        "import sys; from monai_sagan.data.formats.decode import read_image; read_image(sys.argv[1]); "
        "print({'torch', 'monai', 'pydicom', 'nibabel'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_headers_tell_what_decoding_finds(tmp_path, stack, save_volume, write_dicom):
    Image.fromarray(COLOR).save(tmp_path / "c.png")
    Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / "deep.png")
    volume = save_volume(np.zeros((4, 5, 6), np.int16), affine=np.diag([-1, 1, -1, 1]) @ np.eye(4)[[1, 2, 0, 3]])
    names = [f"{stack}#1", tmp_path / "c.png", tmp_path / "deep.png", *(f"{volume}#{axis}2" for axis in "xyz")]
    names += [save_volume(np.ones((7, 5), np.int16), "one.nii"), write_dicom(tmp_path / "d", GREY, PatientAge="043Y")]
    names += [write_dicom(tmp_path / "rgb.dcm", COLOR, "RGB")]
    for name in names:
        (found,) = describe_file([name])
        assert found == decode(name).description


def test_headers_tell_what_cannot_be_there(tmp_path, stack, save_volume):
    (tmp_path / "text.dcm").write_text("text")
    (tmp_path / "text.png").write_text("text")
    names = [f"{stack}", f"{stack}#3", f"{save_volume(np.zeros((4, 5, 6), np.int16))}#z6", f"{tmp_path}/missing.tif"]
    for name in [*names, tmp_path / "text.dcm", tmp_path / "text.png"]:
        (told,), (found,) = describe_file([name]), decode_file([name])
        assert isinstance(told, SaganError)
        assert str(told) == str(found)


def test_what_is_no_file_is_refused_at_once(tmp_path, refused):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with refused(tmp_path / name, "not a regular file"):
            read_image(tmp_path / name)
    assert not is_image_file(tmp_path / "pipe")


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_control_characters_of_a_header_reach_nobody(tmp_path, write_dicom, refused):
    write_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), ViewPosition="P\x1b[31mA\x00", Modality="\x00D\x07X")
    found = decode(tmp_path / "a.dcm").description
    assert (found["view"], found["modality"]) == ("P [31MA", "D X")
    write_dicom(tmp_path / "b.dcm", np.zeros((4, 4), np.uint8), photometric="MONO\x00\x1b\x07")
    with refused(tmp_path / "b.dcm") as caught:
        read_image(tmp_path / "b.dcm")
    assert str(caught.value).isprintable()
