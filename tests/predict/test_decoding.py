"""Files are decoded ahead of the network, as many as memory holds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from monai_sagan.data.formats.tasks import DecodedImage, HowToDecode
from monai_sagan.predict.decoding import decode_all

GREY = HowToDecode((64, 48))


def test_files_in_their_order_whatever_the_wave(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(path)
    decoded = decode_all([[path] for path in paths], GREY, 0, jobs=1, wave=2)
    found = [result for results in decoded for result in results]
    assert [result.image for result in found] == paths
    for i, result in enumerate(found):
        assert isinstance(result, DecodedImage)
        assert (result.pixels == i).all()
    assert list(decode_all([], GREY, 0)) == []
