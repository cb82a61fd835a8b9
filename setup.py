"""Package metadata: `pip install .` gives the `mmae` command, its recipes, DeepSpeed JSONs and launchers."""

import re
from pathlib import Path

from setuptools import find_packages, setup

VERSION = re.findall(
    r'__version__ = "(.+)"', Path(__file__).with_name("mmae").joinpath("version.py").read_text("utf-8")
)[0]

setup(
    name="mmae",
    version=VERSION,
    description="A DeepSpeed-accelerated scaling framework for multi-modal masked autoencoders on MMEarth",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["mmae", "mmae.*", "data_tools", "data_tools.*", "ds_configs", "launchers"]),
    package_data={
        "mmae": ["py.typed"],
        "mmae.recipes": ["*.yaml"],
        "ds_configs": ["*.json", "README.md"],
        "launchers": ["*"],
    },
    install_requires=[
        "accelerate>=1.0",
        "blosc2>=3.0",
        "deepspeed>=0.19.4,<0.20",
        "deflate>=0.7",
        "fsspec>=2024.2",
        "h5py>=3.10",
        "huggingface_hub>=1.0",
        "ninja",
        "numpy>=1.26",
        "pillow>=10",
        "pydantic>=2.7",
        "pyyaml>=6",
        "requests>=2.31",
        "safetensors>=0.4",
        "timm>=1.0",
        "torch>=2.6",
        "torchvision",
        "tqdm>=4.66",
        "urllib3>=2.2",
        "wandb>=0.17",
        "webdataset>=0.2.100",
        "xxhash>=3.4",
        "zlib-ng>=0.5",
    ],
    extras_require={
        "s3": ["s3fs"],
        "gs": ["gcsfs"],
        "geo": ["pyarrow>=15", "rasterio>=1.4"],
        "eval": ["scikit-learn>=1.4", "scipy>=1.11", "torchmetrics>=1.4"],
        "torchgeo": ["torchgeo>=0.8"],
        "pictures": ["matplotlib>=3.8"],
        "tensorboard": ["tensorboard>=2.14"],
        "float8": ["torchao>=0.18"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.3"],
        "browser": ["axe-playwright-python>=0.1.4", "playwright>=1.48"],
        "dev": [
            "hypothesis>=6.100",
            "matplotlib>=3.8",
            "mypy>=1.10",
            "onnx>=1.16",
            "onnxruntime>=1.18",
            "onnxscript>=0.3",
            "pyarrow>=15",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "rasterio>=1.4",
            "ruff==0.17.6",
            "scikit-learn>=1.4",
            "tensorboard>=2.14",
            "torchao>=0.18",
            "torchmetrics>=1.4",
            "types-PyYAML",
            "types-setuptools",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["mmae = mmae.cli:main"]},
)
