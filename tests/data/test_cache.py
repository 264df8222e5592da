"""Images are decoded once, to the pixels that Pillow gives, and a broken run leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
import torch
from PIL import Image

from monai_sagan.data import cache
from monai_sagan.data.cache import HowToDecode, ImageCache, decode_images, load_image
from monai_sagan.data.formats.tasks import Unreadable

SIZE = (16, 24)  # height, width
GREY = HowToDecode(SIZE)


@pytest.fixture
def datalist(tmp_path):
    """Five grey images of 20 x 30 (height x width) in two lists."""
    rng = np.random.default_rng(0)
    items = []
    for i in range(5):
        path = tmp_path / "images" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(path)
        items.append({"image": str(path), "label": 0})
    return {"normal": items[:2], "test": items[2:]}


@pytest.fixture
def decoded(monkeypatch):
    """The paths that are decoded from now on."""
    paths = []
    decode = cache.decode_images
    monkeypatch.setattr(cache, "decode_images", lambda found, *rest: paths.extend(found) or decode(found, *rest))
    return paths


def everything(datalist):
    return [item for items in datalist.values() for item in items]


def replace_image(item, size=(30, 20), mode="L"):
    Image.new(mode, size, 77).save(item["image"])


def by_pillow(path, mode):
    with Image.open(path) as image:
        resized = image.convert(mode).resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(resized)).transpose(2, 0, 1)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("stored", ["L", "RGB", "P", "LA", "1"])
def test_pixels_are_pillows(tmp_path, channels, mode, stored):
    path = tmp_path / "image.png"
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(noise).convert(stored).save(path)
    how = HowToDecode(SIZE, channels)
    images = ImageCache({"test": [{"image": str(path)}]}, how, tmp_path / "cache")
    pixels = images.pixels([{"image": str(path)}])
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (1, channels, *SIZE))
    np.testing.assert_array_equal(pixels[0].numpy(), by_pillow(path, mode))
    np.testing.assert_array_equal(load_image(path, how), by_pillow(path, mode))


def test_order_is_that_of_the_items(datalist, tmp_path):
    images = ImageCache(datalist, GREY, tmp_path / "cache")
    items = everything(datalist)
    asked = [items[i] for i in (3, 0, 4, 3)]
    pixels = images.pixels(asked)
    for item, got in zip(asked, pixels, strict=True):
        np.testing.assert_array_equal(got.numpy(), by_pillow(item["image"], "L"))
    assert images.pixels([]).shape == (0, 1, *SIZE)
    pixels.zero_()  # the file does not change
    assert ImageCache(datalist, GREY, tmp_path / "cache").pixels(asked).any()


def test_second_time_nothing_is_decoded(datalist, tmp_path, decoded):
    first = ImageCache(datalist, GREY, tmp_path / "cache")
    assert sorted(decoded) == [item["image"] for item in everything(datalist)]
    again = ImageCache(datalist, GREY, tmp_path / "cache")
    assert len(decoded) == 5
    assert first.folder == again.folder
    assert torch.equal(first.pixels(datalist["test"]), again.pixels(datalist["test"]))
    ImageCache({"a": everything(datalist)[::-1], "b": datalist["test"]}, GREY, tmp_path / "cache")  # the same files
    assert len(decoded) == 5
    assert list((tmp_path / "cache").iterdir()) == [first.folder]


def test_what_changes_the_pixels_is_decoded_anew(datalist, tmp_path, decoded):
    ImageCache(datalist, GREY, tmp_path / "cache")
    for other in (HowToDecode((16, 16)), HowToDecode(SIZE, 3), HowToDecode(SIZE, preparation="med_ad")):
        ImageCache(datalist, other, tmp_path / "cache")
    ImageCache(datalist, HowToDecode(SIZE, min_foreground=0.01), tmp_path / "cache")
    ImageCache({"test": datalist["test"]}, GREY, tmp_path / "cache")
    assert len(decoded) == 5 * 5 + 3
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_a_changed_file_is_decoded_anew(datalist, tmp_path, decoded):
    item = datalist["normal"][1]
    before = ImageCache(datalist, GREY, tmp_path / "cache").pixels([item])
    replace_image(item)  # another size in bytes
    after = ImageCache(datalist, GREY, tmp_path / "cache").pixels([item])
    assert len(decoded) == 10
    assert (after == 77).all()
    assert not torch.equal(before, after)
    stat = os.stat(item["image"])
    os.utime(item["image"], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    ImageCache(datalist, GREY, tmp_path / "cache")
    assert len(decoded) == 15


@pytest.mark.parametrize(("size", "mode", "said"), [((31, 20), "L", "31 x 20 L"), ((30, 20), "RGB", "30 x 20 RGB")])
def test_mixed_images(datalist, tmp_path, size, mode, said, refused):
    items = everything(datalist)
    replace_image(items[3], size, mode)
    with refused(items[3]["image"], said, items[0]["image"], "30 x 20 L", "--mixed_images"):
        ImageCache(datalist, GREY, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    images = ImageCache(datalist, GREY, tmp_path / "cache", mixed_images=True)
    assert len(images.pixels(items)) == 5


def test_mixed_images_of_a_first_look_are_not_let_through_later(datalist, tmp_path, refused):
    replace_image(everything(datalist)[3], (31, 20))
    ImageCache(datalist, GREY, tmp_path / "cache", mixed_images=True)
    with refused("31 x 20"):
        ImageCache(datalist, GREY, tmp_path / "cache")


def test_unreadable_images_have_no_pixels(datalist, tmp_path, decoded):
    items = everything(datalist)
    (tmp_path / "images" / "2.png").write_bytes((tmp_path / "images" / "2.png").read_bytes()[:100])
    (tmp_path / "images" / "0.png").write_bytes(b"")
    for _ in range(2):
        images = ImageCache(datalist, GREY, tmp_path / "cache")
        assert list(images.unreadable) == [items[0]["image"], items[2]["image"]]
        assert all(path in reason and "\n" not in reason for path, reason in images.unreadable.items())
        good = [items[i] for i in (4, 1, 3)]
        assert list(images.images) == [items[i]["image"] for i in (1, 3, 4)]
        for item, got in zip(good, images.pixels(good), strict=True):
            np.testing.assert_array_equal(got.numpy(), by_pillow(item["image"], "L"))
    assert len(decoded) == 5 + 2  # what was unreadable is tried again, and nothing else


def test_an_image_that_becomes_readable(datalist, tmp_path, monkeypatch, decoded):
    """As when its decoder has been installed: the file itself is as it was."""
    item = datalist["test"][0]
    decode = cache.decode_images

    def without_decoder(paths, *rest):
        for result in decode(paths, *rest):
            yield Unreadable(result.image, "no decoder") if result.image == item["image"] else result

    monkeypatch.setattr(cache, "decode_images", without_decoder)
    assert list(ImageCache(datalist, GREY, tmp_path / "cache").unreadable) == [item["image"]]
    monkeypatch.setattr(cache, "decode_images", decode)
    images = ImageCache(datalist, GREY, tmp_path / "cache")
    assert images.unreadable == {}
    for item in everything(datalist):
        np.testing.assert_array_equal(images.pixels([item])[0].numpy(), by_pillow(item["image"], "L"))


def test_the_way_a_path_is_written_does_not_matter(datalist, tmp_path, monkeypatch, decoded):
    ImageCache(datalist, GREY, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    relative = {
        name: [item | {"image": os.path.relpath(item["image"])} for item in items] for name, items in datalist.items()
    }
    images = ImageCache(relative, GREY, tmp_path / "cache")
    assert len(decoded) == 5
    np.testing.assert_array_equal(images.pixels(relative["test"][:1])[0], by_pillow(relative["test"][0]["image"], "L"))


def test_what_a_file_is(datalist, tmp_path):
    for item, size in zip(datalist["test"], [(30, 20), (30, 20), (20, 30)], strict=True):
        replace_image(item, size)
    images = ImageCache(datalist, GREY, tmp_path / "cache", mixed_images=True)
    found = [images.images[item["image"]] for item in datalist["test"]]
    assert [(image["width"], image["height"], image["mode"]) for image in found] == [(30, 20, "L")] * 2 + [
        (20, 30, "L")
    ]
    assert found[0]["digest"] == found[1]["digest"]
    assert len({image["digest"] for image in images.images.values()}) == 4


def test_images_without_foreground_are_left_out(datalist, tmp_path):
    empty = datalist["test"][1]
    Image.new("L", (30, 20), 0).save(empty["image"])
    images = ImageCache(datalist, HowToDecode(SIZE, min_foreground=0.05), tmp_path / "cache")
    assert list(images.left_out) == [empty["image"]]
    assert "0.05" in images.left_out[empty["image"]]
    assert images.unreadable == {}
    assert len(images.images) == 4


def test_one_image_that_is_refused(tmp_path, refused):
    (tmp_path / "a.png").write_bytes(b"no image")
    with refused(tmp_path / "a.png"):
        load_image(tmp_path / "a.png", GREY)
    Image.new("L", (30, 20)).save(tmp_path / "b.png")
    with refused(tmp_path / "b.png", "foreground"):
        load_image(tmp_path / "b.png", HowToDecode(SIZE, min_foreground=0.5))


def test_images_come_in_order_whatever_the_number_of_workers(datalist, tmp_path):
    paths = [item["image"] for item in everything(datalist)]
    (tmp_path / "x.png").touch()
    paths.insert(2, str(tmp_path / "x.png"))
    for jobs in (1, 3):
        found = list(decode_images(paths, GREY, jobs))
        assert [result.image for result in found] == paths
        assert [result.image for result in found if isinstance(result, Unreadable)] == [str(tmp_path / "x.png")]


def test_an_interruption_leaves_nothing(datalist, tmp_path, monkeypatch):
    def interrupt(*rest):
        yield Unreadable(datalist["normal"][0]["image"], "broken")
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "decode_images", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ImageCache(datalist, GREY, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system takes no space ahead")
def test_a_full_disk(datalist, tmp_path, monkeypatch, refused):
    def full(*rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with refused(tmp_path / "cache", "No space left", "--cache_dir"):
        ImageCache(datalist, GREY, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_after_the_pixels(datalist, tmp_path, small_files, refused):
    with (
        small_files(400),
        refused(tmp_path / "cache", "File too large", "--cache_dir"),
    ):  # the notes are larger
        ImageCache(datalist, HowToDecode((4, 4)), tmp_path / "cache", jobs=1)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_made(datalist, tmp_path, refused):
    (tmp_path / "file").touch()
    with refused(tmp_path / "file", "--cache_dir"):
        ImageCache(datalist, GREY, tmp_path / "file" / "cache")


def test_a_missing_image_is_unreadable_until_it_comes_back(datalist, tmp_path):
    path = tmp_path / "images" / "4.png"
    content = path.read_bytes()
    path.unlink()
    images = ImageCache(datalist, GREY, tmp_path / "cache")
    assert images.unreadable == {str(path): f"{path} is not there; restore it or leave it out"}
    assert len(images.images) == 4
    path.write_bytes(content)
    assert not ImageCache(datalist, GREY, tmp_path / "cache").unreadable


@pytest.mark.parametrize(
    ("name", "content"),
    [("pixels.npy", b""), ("pixels.npy", b"text"), ("pixels.npy", None), ("images.json", None), ("images.json", b"{}"),
     ("images.json", b'{"images": [], "unreadable": {}, "left_out": {}}'), ("images.json", b"[1]"),
     ("images.json", b'{"images": [0, 0, 0, 0, 0], "unreadable": {"9": "x"}, "left_out": []}')],
)  # fmt: skip
def test_a_damaged_folder_is_decoded_anew(datalist, tmp_path, decoded, caplog, name, content):
    first = ImageCache(datalist, GREY, tmp_path / "cache")
    pixels = first.pixels(everything(datalist))
    if content is None:
        (first.folder / name).unlink()
    else:
        (first.folder / name).write_bytes(content)
    again = ImageCache(datalist, GREY, tmp_path / "cache")
    assert torch.equal(again.pixels(everything(datalist)), pixels)
    assert len(decoded) == 10
    assert "is damaged" in caplog.text


def test_a_damaged_folder_that_cannot_be_replaced(datalist, tmp_path, monkeypatch, refused):
    images = ImageCache(datalist, GREY, tmp_path / "cache")
    (images.folder / "pixels.npy").write_bytes(b"")
    monkeypatch.setattr(os, "replace", lambda *rest: None)
    with refused(images.folder, "damaged", "remove it"):
        ImageCache(datalist, GREY, tmp_path / "cache")


def decode_together(datalist, folder, barrier, results):
    barrier.wait(timeout=60)
    results.put(int(ImageCache(datalist, GREY, folder).pixels(datalist["test"]).sum()))


def test_two_processes_at_once(datalist, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monai_sagan.data.cache"])
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (datalist, tmp_path / "cache", barrier, results)
    processes = [context.Process(target=decode_together, args=arguments, daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    sums = [results.get(timeout=60) for _ in processes]
    images = ImageCache(datalist, GREY, tmp_path / "cache")
    assert sums == [int(images.pixels(datalist["test"]).sum())] * 2
    assert list((tmp_path / "cache").iterdir()) == [images.folder]
