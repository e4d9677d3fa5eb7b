"""Tiny random checkpoints with the tensors' names of published reward models, and their published forwards written out."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Gemma2Config, Gemma2Model, LlamaConfig, LlamaModel, MistralConfig, MistralModel

from tests.tiny import tiny_config, tiny_tokenizer

HIDDEN = 16
# What a checkpoint brings along and nobody may run.
CODE = "raise SystemExit('code of a checkpoint was run')\n"
SIZES = dict(
    vocab_size=tiny_config().vocab_size, hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=4, max_position_embeddings=128, pad_token_id=1, bos_token_id=2, eos_token_id=3,
)  # fmt: skip


@dataclass
class Published:
    """
    One family.

    Args:
        name (`str`): Of the test.
        architecture (`str`): Of the published configuration.
        backbone (callable): Makes the backbone.
        tensors (callable): The tensors beside it.
        forward (callable): The published outputs of the hidden states `(length, hidden)` of one conversation.
        names (`list` of `str`): What the outputs are called.
        config (`dict`): Further entries of the configuration.
        prefix (`str`): Of the backbone's tensors.
        signs (`list` of `int`): -1 for a cost.
    """

    name: str
    architecture: str
    backbone: Callable
    tensors: Callable
    forward: Callable
    names: list[str]
    config: dict = field(default_factory=dict)
    prefix: str = "model."
    signs: list[int] | None = None


def llama():
    return LlamaModel(LlamaConfig(**SIZES))


def mistral():
    return MistralModel(MistralConfig(**SIZES, sliding_window=None))


def gemma():
    return Gemma2Model(Gemma2Config(**SIZES, query_pre_attn_scalar=4, sliding_window=64))


def gating():
    """A gate beside the objectives, which is not read."""
    return {
        "gating.layers.0.weight": torch.randn(8, HIDDEN), "gating.layers.0.bias": torch.randn(8),
        "gating.layers.3.weight": torch.randn(19, 8), "gating.logit_scale": torch.ones(1),
    }  # fmt: skip


def regression(rows):
    return {"regression_layer.weight": torch.randn(rows, HIDDEN)}


def qrm_tensors(objectives, quantiles):
    matrix = torch.eye(objectives) + 0.1 * torch.randn(objectives, objectives)
    return {**regression(objectives * quantiles), **gating(), "reward_transform_matrix": matrix}


def qrm_forward(hidden, tensors, config):
    rewards = (hidden[-1] @ tensors["regression_layer.weight"].T).reshape(
        config["num_objectives"], config["num_quantiles"]
    )
    return rewards.mean(dim=1) @ tensors["reward_transform_matrix"]


def beaver_forward(hidden, tensors, config):
    scores = hidden @ tensors["score_head.weight"].T
    if "score_head.bias" in tensors:
        scores = scores + tensors["score_head.bias"]
    scores = scores[-1]
    if config.get("do_normalize"):
        std = tensors["normalizer.var"].sqrt()
        if config["score_type"] == "reward":
            return (scores - tensors["normalizer.mean"]) / (std + 1e-8)
        return scores / (std + 1e-8)
    return scores


def normalizer():
    return {
        "normalizer.mean": torch.tensor([0.7]), "normalizer.var": torch.tensor([2.5]),
        "normalizer.count": torch.tensor([100]),
    }  # fmt: skip


def sequential(module, sizes):
    found = {}
    for place, (width, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        found[f"{module}.{2 * place}.weight"] = torch.randn(outputs, width)
        found[f"{module}.{2 * place}.bias"] = torch.randn(outputs)
    return found


def two_layers(module):
    def forward(hidden, tensors, config):
        inner = torch.relu(hidden[-1] @ tensors[f"{module}.0.weight"].T + tensors[f"{module}.0.bias"])
        return inner @ tensors[f"{module}.2.weight"].T + tensors[f"{module}.2.bias"]

    return forward


def linear(module):
    def forward(hidden, tensors, config):
        rewards = hidden[-1] @ tensors[f"{module}.weight"].T
        return rewards + tensors[f"{module}.bias"] if f"{module}.bias" in tensors else rewards

    return forward


def urm_forward(hidden, tensors, config):
    outputs = hidden[-1] @ tensors["score.weight"].T
    return outputs.reshape(5, 2)[:, 0]


ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
ARMORM = [
    *(f"helpsteer-{name}" for name in ATTRIBUTES), "ultrafeedback-overall_score", "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness", "ultrafeedback-honesty", "ultrafeedback-helpfulness", "beavertails-is_safe", "prometheus-score",
    "argilla-overall_quality", "argilla-judge_lm", "code-complexity", "code-style", "code-explanation",
    "code-instruction-following", "code-readability",
]  # fmt: skip
COST = {"score_type": "cost", "score_dim": 1, "bias": True, "do_normalize": True, "normalizer_type": "RunningMeanStd"}
FAMILIES = [
    Published(
        "armorm", "LlamaForRewardModelWithGating", llama,
        lambda: {**regression(19), **gating(), "reward_transform_matrix": torch.randn(19, 19)}, linear("regression_layer"), ARMORM,
        {"num_objectives": 19},
    ),
    Published(
        "qrm-19", "LlamaForRewardModelWithGating31", llama, lambda: qrm_tensors(19, 3), qrm_forward, ARMORM,
        {"num_objectives": 19, "num_quantiles": 3},
    ),
    Published(
        "qrm-gemma-5", "Gemma2ForQuantileSequenceClassification", gemma, lambda: qrm_tensors(5, 19), qrm_forward, ARMORM[:5],
        {"num_objectives": 5, "num_quantiles": 19},
    ),
    Published(
        "ultrarm", "LlamaRewardModel", llama, lambda: {"regression_head.weight": torch.randn(1, HIDDEN)},
        linear("regression_head"), ["reward"],
    ),
    Published(
        "eurus", "EurusRewardModel", mistral, lambda: {"regression_head.weight": torch.randn(1, HIDDEN)},
        linear("regression_head"), ["reward"],
    ),
    Published(
        "beaver-reward", "LlamaForScore", llama,
        lambda: {"score_head.weight": torch.randn(1, HIDDEN), **normalizer()}, beaver_forward, ["helpfulness"],
        {"score_type": "reward", "do_normalize": True, "score_dim": 1, "bias": False},
    ),
    Published(
        "beaver-cost", "LlamaForScore", llama,
        lambda: {"score_head.weight": torch.randn(1, HIDDEN), "score_head.bias": torch.randn(1), **normalizer()}, beaver_forward,
        ["safety"], COST, signs=[-1],
    ),
    Published(
        "grm", "GRewardModel", llama, lambda: sequential("v_head.summary", [HIDDEN, 24, 1]), two_layers("v_head.summary"),
        ["reward"], {"vhead_layer_type": "mlp", "vhead_num_neurons": 24},
    ),
    Published(
        "grm-gemma", "GRewardModel", gemma, lambda: sequential("v_head.summary", [HIDDEN, 24, 1]), two_layers("v_head.summary"),
        ["reward"],
    ),
    Published(
        "trl-value-head", "LlamaForCausalLM", llama,
        lambda: {"v_head.summary.weight": torch.randn(1, HIDDEN), "v_head.summary.bias": torch.randn(1)},
        linear("v_head.summary"), ["reward"],
    ),
    Published(
        "starling", "LlamaForSequenceClassification", llama, lambda: {"v_head.weight": torch.randn(1, HIDDEN)}, linear("v_head"),
        ["reward"], prefix="transformer.",
    ),
    Published(
        "urm", "LlamaForSequenceClassification", llama,
        lambda: {
            "score.weight": torch.randn(10, HIDDEN), "weights.0.weight": torch.randn(5, HIDDEN), "weights.0.bias": torch.randn(5)
        }, urm_forward, ATTRIBUTES, {"num_labels": 10},
    ),
    Published(
        "inf-orm", "INFORMForSequenceClassification", llama, lambda: sequential("score", [HIDDEN, HIDDEN, 1]), two_layers("score"),
        ["reward"],
    ),
    Published(
        "score-with-bias", "LlamaForSequenceClassification", llama,
        lambda: {"score.weight": torch.randn(5, HIDDEN), "score.bias": torch.randn(5)}, linear("score"), ATTRIBUTES,
        {"num_labels": 5},
    ),
]  # fmt: skip


def write(family: Published, folder: Path, seed: int = 0, tokenizer=None):
    """Writes a checkpoint, and returns its published forward: token ids to outputs."""
    torch.manual_seed(seed)
    backbone, tensors = family.backbone().eval(), family.tensors()
    config = {**backbone.config.to_dict(), **family.config, "architectures": [family.architecture]}
    return save(
        folder,
        family,
        config,
        backbone,
        {f"{family.prefix}{k}": v for k, v in backbone.state_dict().items()},
        tensors,
        tokenizer,
    )


def save(folder, family, config, backbone, states, tensors, tokenizer=None):
    folder.mkdir(parents=True, exist_ok=True)
    config["auto_map"] = {
        "AutoConfig": "modeling_custom.Config", "AutoModel": "modeling_custom.Model",
        "AutoModelForSequenceClassification": "modeling_custom.Model",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "modeling_custom.py").write_text(CODE, encoding="utf-8")
    save_file(
        {k: v.contiguous().clone() for k, v in {**states, **tensors}.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)

    @torch.no_grad()
    def forward(ids: list[int]) -> torch.Tensor:
        hidden = backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
        return family.forward(hidden, tensors, config)

    return forward


class InternLM2(torch.nn.Module):
    """InternLM2's decoder as its model code says: one matrix for queries, keys and values of each group of heads."""

    def __init__(self, tensors: dict[str, torch.Tensor], layers: int, heads: int, groups: int):
        super().__init__()
        self.tensors, self.layers, self.heads, self.groups = tensors, layers, heads, groups

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.tensors[name]

    def rotated(self, x):
        size, length = x.shape[-1], x.shape[1]
        angles = torch.outer(torch.arange(length).float(), 1e6 ** (-torch.arange(0, size, 2).float() / size))
        angles = torch.cat([angles, angles], dim=-1)
        half = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], dim=-1)
        return x * angles.cos() + half * angles.sin()

    def forward(self, ids):
        x = self.tensors["model.tok_embeddings.weight"][torch.tensor(ids)]
        length, width = x.shape
        size, per_group = width // self.heads, self.heads // self.groups
        mask = torch.full((length, length), float("-inf")).triu(1)
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            fused = self.norm(x, f"{name}.attention_norm.weight") @ self.tensors[f"{name}.attention.wqkv.weight"].T
            fused = fused.reshape(length, self.groups, per_group + 2, size)
            query = fused[:, :, :per_group].reshape(length, self.heads, size).transpose(0, 1)
            key, value = (fused[:, :, k].transpose(0, 1).repeat_interleave(per_group, 0) for k in (-2, -1))
            weights = (self.rotated(query) @ self.rotated(key).transpose(1, 2)) / size**0.5 + mask
            mixed = (weights.softmax(-1) @ value).transpose(0, 1).reshape(length, width)
            x = x + mixed @ self.tensors[f"{name}.attention.wo.weight"].T
            inner = self.norm(x, f"{name}.ffn_norm.weight")
            gate = torch.nn.functional.silu(inner @ self.tensors[f"{name}.feed_forward.w1.weight"].T)
            x = (
                x
                + (gate * (inner @ self.tensors[f"{name}.feed_forward.w3.weight"].T))
                @ self.tensors[f"{name}.feed_forward.w2.weight"].T
            )
        return self.norm(x, "model.norm.weight")


def write_internlm2(folder: Path, reward_token: int, tokenizer):
    """As [`write`], of an InternLM2 reward model."""
    torch.manual_seed(5)
    vocabulary, wide = SIZES["vocab_size"], SIZES["intermediate_size"]
    heads, groups, size = 4, 2, HIDDEN // 4
    tensors = {
        "model.tok_embeddings.weight": torch.randn(vocabulary, HIDDEN),
        "model.norm.weight": torch.rand(HIDDEN) + 0.5,
    }
    for layer in range(2):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.attention.wqkv.weight": 0.3 * torch.randn((heads + 2 * groups) * size, HIDDEN),
            f"{name}.attention.wo.weight": 0.3 * torch.randn(HIDDEN, HIDDEN),
            f"{name}.feed_forward.w1.weight": 0.3 * torch.randn(wide, HIDDEN),
            f"{name}.feed_forward.w2.weight": 0.3 * torch.randn(HIDDEN, wide),
            f"{name}.feed_forward.w3.weight": 0.3 * torch.randn(wide, HIDDEN),
            f"{name}.attention_norm.weight": torch.rand(HIDDEN) + 0.5,
            f"{name}.ffn_norm.weight": torch.rand(HIDDEN) + 0.5,
        }
    tensors["v_head.weight"] = torch.randn(1, HIDDEN)
    config = {
        "model_type": "internlm2", "bias": False, "rope_theta": 1000000, "rope_scaling": None, "rms_norm_eps": 1e-06,
        "hidden_act": "silu", "reward_token_id": reward_token, "architectures": ["InternLM2ForRewardModel"],
        **{name: SIZES[name] for name in SIZES if name != "head_dim"},
    }  # fmt: skip
    save(folder, None, config, None, {}, tensors, tokenizer)
    decoder = InternLM2(tensors, 2, heads, groups)

    def forward(ids: list[int]) -> torch.Tensor:
        assert ids[-1] == reward_token
        return decoder(ids)[-1] @ tensors["v_head.weight"].T

    return forward
