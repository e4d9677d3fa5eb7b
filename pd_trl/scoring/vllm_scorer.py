"""[`VllmScorer`]: reward models run by vLLM, which batches and caches prefixes itself."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from ..errors import InputError
from ..models.adapters import is_adapter
from ..models.heads import MultiAspectRewardConfig
from ..models.loading import model_dtype
from ..models.named import ModelOutput
from ..models.outputs import PUBLISHED, outputs_of
from ..models.positions import stated_positions
from ..models.vllm import PLACING, import_vllm, vllm_engine
from ..runs.artifacts import write_json
from ..runs.identity import canonical
from .loading import Wanted
from .tokens import TokenRows


class VllmScorer:
    """
    Rewards of tokenised conversations by vLLM, in the shape of a [`RewardModelScorer`]. Its kernels do not promise the same
    rounding for other batches.

    Args:
        folder (`Path`): The reward model, with one output or with heads.
        chosen (`dict` of `str` to [`ModelOutput`], or `list` of `str`): What to score for each aspect.
        dtype (`torch.dtype` or `str`, *optional*): See [`model_dtype`].
        engine_kwargs (`dict`, *optional*): Further arguments of `vllm.LLM`, such as `{"tensor_parallel_size": 2}`.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with the model.

    Raises:
        InputError: When vLLM is not installed, the model is an adapter, or it has no output for an aspect.
    """

    # vLLM takes all sequences at once and makes batches of its own; it finds common prefixes by their tokens.
    default_budget = 1 << 62
    shares_prefixes = False
    # vLLM's classifiers are decoders, which read their reward at the last token.
    keeps_first = 0
    device = torch.device("cpu")

    def __init__(
        self,
        folder: Path,
        chosen: Mapping[str, ModelOutput] | Sequence[str],
        *,
        dtype: torch.dtype | str | None = None,
        engine_kwargs: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
    ):
        vllm = import_vllm()
        if is_adapter(folder):
            raise InputError(
                f"vLLM does not take the reward head of a LoRA adapter ({folder}). Merge it into its base "
                "(`pd-trl merge`), or score with backend='engine'."
            )
        if not isinstance(chosen, Mapping):
            chosen = {aspect: ModelOutput(str(folder)) for aspect in chosen}
        wanted = Wanted(folder, outputs_of(folder, trust_remote_code), dict(chosen))
        if wanted.outputs.kind == PUBLISHED:
            raise InputError(
                f"{wanted.described()} is read by the names of its tensors, which vLLM cannot do. Write it as a model of ours "
                "first: `pd-trl convert`."
            )
        self.sidecars, self.digest, self.heads = wanted.sidecars(), wanted.key(), wanted.indices()
        self._factors = torch.tensor(wanted.factors(self.heads, wanted.outputs.signs))
        own = {name: value for name, value in (engine_kwargs or {}).items() if name not in PLACING}
        self.computation = {"dtype": str(model_dtype(dtype)), "backend": "vllm", "engine": canonical(own)}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        self.longest = stated_positions(config)
        self.num_embeddings = getattr(config.get_text_config(), "vocab_size", None)
        pad = config.get_text_config().pad_token_id
        self.pad_token_id = self.tokenizer.pad_token_id if pad is None else pad
        self._folder = tempfile.TemporaryDirectory()
        self._parameters = vllm.PoolingParams(use_activation=False)
        self._engine = vllm_engine(
            sequence_classifier_folder(folder, config, Path(self._folder.name)),
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            engine_kwargs=engine_kwargs,
            tokenizer=str(folder),
            runner="pooling",
            convert="classify",
        )

    @property
    def aspects(self) -> list[str]:
        """Names of the aspects, in the order of the columns that a call returns."""
        return list(self.sidecars)

    @property
    def counts_responses(self) -> bool:
        """Whether the model must be told where responses begin: vLLM's classifiers read the last token."""
        return False

    def compile(self) -> None:
        """Nothing: vLLM compiles by itself."""

    def __call__(self, tokens: TokenRows) -> torch.Tensor:
        """Rewards of sequences, shape `(num_sequences, num_aspects)`."""
        # vLLM reads the last token, whatever it is, and transformers the last that is not padding.
        ends = np.where(tokens.lengths > 0, tokens.last_other_than(self.pad_token_id) + 1, 0)
        prompts = [
            {"prompt_token_ids": tokens.ids[start : start + end].tolist()}
            for start, end in zip(tokens.starts, ends, strict=True)
        ]
        outputs = self._engine.classify(prompts, pooling_params=self._parameters, use_tqdm=False)
        logits = torch.tensor([output.outputs.probs for output in outputs])
        return logits[:, self.heads] * self._factors


def sequence_classifier_folder(folder: Path, config: PretrainedConfig, target: Path) -> Path:
    """
    The folder of a reward model for a library that does not know [`MultiAspectRewardModel`]: its backbone's own
    `…ForSequenceClassification` with an output for each head, which has the same weights under the same names. The files of
    the weights are linked, not copied. A model of one output is given back as it is.

    Args:
        folder (`Path`): The reward model.
        config ([`~transformers.PretrainedConfig`]): Its configuration.
        target (`Path`): An empty folder for it.

    Raises:
        InputError: When the backbone has no such class, or reads another token.
    """
    if not isinstance(config, MultiAspectRewardConfig):
        return folder
    text = config.text_config
    if config.pooling == "mean" or config.reads_several_layers:
        what = "the mean over the response's tokens" if config.pooling == "mean" else "several layers"
        raise InputError(
            f"The heads of {folder} read {what}, and vLLM's classifiers read the last token at the last layer. Use "
            "backend='engine', or train heads with pooling='last'."
        )
    if config.pooling != "last" or text is None or type(text) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise InputError(f"The backbone of {folder} has no sequence classifier that reads its last token.")
    if not config.is_linear:
        raise InputError(
            f"The head of {folder} has several layers, a bias or standardized features, which vLLM's classifiers have not. Use "
            "backend='engine'."
        )
    content = text.to_dict()  # type: ignore[union-attr]
    content["architectures"] = [MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(text)].__name__]
    content["id2label"] = {str(k): aspect for k, aspect in enumerate(config.aspects)}
    content["label2id"] = {aspect: k for k, aspect in enumerate(config.aspects)}
    write_json(target / "config.json", content)
    for path in folder.iterdir():
        if path.name != "config.json" and path.is_file():
            os.symlink(path.absolute(), target / path.name)
    return target
