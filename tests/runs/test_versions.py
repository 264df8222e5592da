from __future__ import annotations

import torch

from monai_sagan.runs.versions import versions


def test_versions():
    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found) - {"commit"} == {
        *("python", "monai-sagan", "torch", "monai", "pytorch-ignite", "numpy", "pillow", "scikit-learn")
    }
