"""How monai-sagan is packaged: ``pip install .``; the settings of the tools are in pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
readme = here / "README.md"

# What writes ONNX artifacts and runs them.
EXPORT = ["onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20"]
# Decoders of compressed DICOM under permissive licenses: JPEG lossless and 12-bit JPEG, JPEG 2000, JPEG-LS.
# Not pylibjpeg-libjpeg, which is under the GPL.
DICOM = ["python-gdcm>=3.2", "pylibjpeg>=2.1", "pylibjpeg-openjpeg>=2.3", "pyjpegls>=1.5"]
DOCS = ["sphinx>=8", "myst-nb>=1.4", "furo", "beautifulsoup4"]
NOTEBOOKS = ["nbclient", "nbformat", "ipykernel"]
MLFLOW = ["mlflow-skinny>=3", "sqlalchemy", "alembic"]  # --tracking mlflow, into a SQLite file

setup(
    name="monai-sagan",
    version=runpy.run_path(str(here / "monai_sagan" / "_version.py"))["__version__"],
    description=(
        "Spatial-aware Attention GAN (arXiv 2405.12872) for semi-supervised anomaly detection in medical images, "
        "as a MONAI plugin"
    ),
    long_description=readme.read_text(encoding="utf-8") if readme.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["MONAI", "anomaly detection", "GAN", "semi-supervised", "medical imaging", "chest X-ray", "fundus"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.10",
        "monai>=1.6.1",
        "pytorch-ignite>=0.5.3",
        "numpy",
        "pillow>=11",  # describes and turns TIFF files alike
        "nibabel",
        "pydicom>=3.0.2",
        "scipy",
        "scikit-learn",
        "tensorboard",
        "tqdm",
        "matplotlib",
        "fire",
        "jsonschema",
        "safetensors",
    ],
    extras_require={
        "dicom": DICOM,
        "export": EXPORT,
        "onnx": ["onnxruntime>=1.20"],
        "docs": DOCS,
        "tutorials": NOTEBOOKS,
        "mlflow": MLFLOW,
        "dev": [
            *(*DICOM, *EXPORT, *DOCS, *NOTEBOOKS, *MLFLOW),
            *("pytest", "pytest-cov", "pytest-xdist", "mypy", "ruff"),
            "opencv-python-headless>=4.10",  # what cloning is compared with
            *("playwright>=1.60", "filelock"),  # pages in a browser, which is Debian's
        ],
    },
    entry_points={"console_scripts": ["monai-sagan = monai_sagan.cli:main"]},
    # The bundles stand at the top level, where a user of a checkout looks for them; a wheel carries them inside.
    packages=[*find_packages(include=["monai_sagan", "monai_sagan.*"]), "monai_sagan.bundles"],
    package_dir={"monai_sagan.bundles": "bundles"},
    package_data={
        "monai_sagan": ["py.typed"],
        "monai_sagan.bundles": ["*/*.json", "*/*.conf", "*/*.md", "*/LICENSE"],
    },
    include_package_data=False,
    zip_safe=False,
)
