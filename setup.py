"""Packaging of pd_trl: dependencies, the `pd-trl` command and the data files of the wheel."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Every bound is the lowest release the tests run with: the `compat` extra installs exactly these.
# - numpy: pyarrow's newest releases refuse numpy 1.x at import without declaring it, so that 1.26 breaks in a new
#   environment.
# - transformers: `train_sampling_strategy` came with 5.2, which asks for huggingface_hub 1.3.
# - accelerate: before 1.7.0, a run resumed in mid-epoch does not end with the weights of an uninterrupted one.
# - rich: what typer, which transformers asks for, itself asks for.
# - datasets, peft and pyarrow: what trl 1.14 and datasets 4.7 themselves ask for.
LOWEST = {
    "numpy": "2.0.0",
    "trl": "1.14.0",
    "transformers": "5.2.0",
    "datasets": "4.7.0",
    "accelerate": "1.7.0",
    "peft": "0.14.0",
    "huggingface_hub": "1.3.0",
    "pyarrow": "21.0.0",
    "jinja2": "3.1.0",
    "PyYAML": "6.0.1",
    "filelock": "3.12.0",
    "rich": "13.8.0",
}
# 1.15.0's DPOTrainer fails on CPU wheels of torch, which come without Triton.
EXCLUDED = {"trl": ",<2,!=1.15.*"}

# torch stands apart: 2.6 is the first release whose checkpoints transformers agrees to load on resume, and pinning it
# in `compat` would replace a CPU build by a CUDA build of several gigabytes.
INSTALL_REQUIRES = ["torch>=2.6"] + [f"{name}>={low}{EXCLUDED.get(name, '')}" for name, low in LOWEST.items()]

# alpaca_eval imports pkg_resources (gone in setuptools 82) and passes arguments that leave scikit-learn in 1.10; scikit-learn
# 1.8 and newer do not run on Python 3.10.
ALPACA_REQUIRES = [
    "aiohttp>=3.14",
    "alpaca_eval>=0.6.6",
    "openai>=1.40",
    "setuptools<82",
    'scikit-learn>=1.9,<1.10; python_version >= "3.11"',
    'scikit-learn>=1.5,<1.8; python_version < "3.11"',
]

METRICS_REQUIRES = ["evaluate>=0.4.6"]

VLLM_REQUIRES = ["vllm>=0.22.0"]

# Older releases warn of arguments that are named here.
RAY_REQUIRES = ["ray[data]>=2.60"]

REPORT_REQUIRES = ["bokeh>=3.4", "matplotlib>=3.8"]

DOCS_REQUIRES = ["furo>=2024.8.6", "myst-parser>=4.0", "sphinx>=8.1"]

TEST_REQUIRES = ["pytest>=8.0", "pytest-timeout>=2.3", "pytest-xdist>=3.5", "hypothesis>=6.100"]

# The local Hub and judge that the tests talk to, and the browser's driver; the browser itself is the system's (chromium).
SERVER_REQUIRES = ["lz4>=4.3", "playwright>=1.45", "starlette>=0.40", "uvicorn>=0.30"]

DEV_REQUIRES = (
    TEST_REQUIRES
    + ALPACA_REQUIRES
    + METRICS_REQUIRES
    + RAY_REQUIRES
    + REPORT_REQUIRES
    + SERVER_REQUIRES
    + DOCS_REQUIRES
    + [
        "build>=1.2",
        # The baseline of scripts/bench_speed.py for selection out of core.
        "duckdb>=1.0",
        "import-linter>=2.1",
        "markdown-it-py>=3.0",
        "mypy>=1.11",
        "pre-commit>=3.5",
        "ruff>=0.8",
        "setuptools>=77",
        "types-PyYAML>=6.0",
    ]
)

COMPAT_REQUIRES = TEST_REQUIRES + [f"{name}=={low}" for name, low in LOWEST.items()]

# Templates and recipes live at the top of the repository, where people look for them; the wheel carries them inside
# the package. pd_trl/runs/resources.py finds them in either place.
DATA_PACKAGES = {"pd_trl.recipes": "scripts/recipes", "pd_trl.model_cards": "model_cards"}


def read_version() -> str:
    """Reads the version without importing the package, whose dependencies are not there at build time."""
    match = re.search(r'^__version__ = "([^"]+)"$', (ROOT / "pd_trl" / "_version.py").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError('pd_trl/_version.py has no line `__version__ = "…"`: restore it.')
    return match.group(1)


setup(
    name="pd_trl",
    version=read_version(),
    description="Preference Divergence for TRL: score, select and align on preference data whose aspects conflict",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["pd_trl", "pd_trl.*"]) + list(DATA_PACKAGES),
    package_dir=DATA_PACKAGES,
    package_data={
        "pd_trl": ["py.typed"],
        "pd_trl.rating": ["files/*"],
        "pd_trl.data": ["sample/*"],
        "pd_trl.report": ["files/*"],
        "pd_trl.evaluation.alpaca": ["instructions.csv"],
        "pd_trl.recipes": ["*.yaml"],
        "pd_trl.model_cards": ["*"],
    },
    include_package_data=False,
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "alpaca": ALPACA_REQUIRES,
        "metrics": METRICS_REQUIRES,
        "ray": RAY_REQUIRES,
        "vllm": VLLM_REQUIRES,
        "report": REPORT_REQUIRES,
        "docs": DOCS_REQUIRES,
        "dev": DEV_REQUIRES,
        "compat": COMPAT_REQUIRES,
    },
    entry_points={"console_scripts": ["pd-trl = pd_trl.cli.main:main"]},
    keywords=["preference data", "data selection", "DPO", "reward modeling", "RLHF", "TRL", "alignment"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
