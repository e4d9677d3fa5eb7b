"""The cost of training a model, from the training arguments of a stage."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ...errors import InputError
from .batches import epoch_orders, epochs_of, training_work
from .formulas import Memory, Work, training_memory
from .parts import Recipe
from .shape import ModelShape
from .sources import ParsedStep, PlannedModel

# Bytes of a weight: 4-bit NormalFloat with its scales, and 8 bits.
_FOUR_BITS, _EIGHT_BITS = 0.56, 1.0


@dataclass
class Training:
    """
    Training of a model.

    Args:
        model ([`PlannedModel`]): The model.
        args ([`~transformers.TrainingArguments`]): Its training arguments.
        peft_config ([`~peft.PeftConfig`], *optional*): LoRA.
        half (`bool`): Whether it computes in bfloat16.
        weight_bytes (`float`): Bytes of a weight.
        attention (`str`): Implementation of the attention.
        reward (`bool`): Whether it is a reward model.
    """

    model: PlannedModel
    args: Any
    peft_config: Any
    half: bool
    weight_bytes: float
    attention: str
    reward: bool

    def shape(self, outputs: int = 1) -> ModelShape:
        """Sizes of the model, adapter included."""
        task = "reward" if self.reward else "causal"
        return self.model.shape(task=task, outputs=outputs, peft_config=self.peft_config, attention=self.attention)


def training_of(parsed: ParsedStep, recipe: Recipe, *, reward: bool) -> Training:
    """The training that a stage's arguments describe."""
    from trl import get_peft_config

    from ...trainers.reward.saved_head import ensure_score_is_saved

    _, args, model_args = parsed.outputs
    if not model_args.model_name_or_path:
        raise InputError(f"The stage '{parsed.step.name}' names no model: set `model_name_or_path`.")
    if model_args.lora_task_type == "CAUSAL_LM":
        model_args.lora_task_type = "SEQ_CLS" if reward else "CAUSAL_LM"
    model = PlannedModel(str(model_args.model_name_or_path), model_args.model_revision, args.trust_remote_code)
    # The trainers' default on an accelerator is bfloat16, but this machine may have none.
    half = bool(args.bf16 or args.fp16) or (recipe.on_gpu and "bf16" not in parsed.step.section)
    dtype = str(model_args.dtype or "float32")
    weight_bytes = _FOUR_BITS if model_args.load_in_4bit else _EIGHT_BITS if model_args.load_in_8bit else 4.0
    if weight_bytes == 4.0 and dtype.rpartition(".")[2] in ("bfloat16", "float16"):
        weight_bytes, half = 2.0, True
    peft_config = get_peft_config(model_args)
    if reward:
        peft_config = ensure_score_is_saved(peft_config)
    return Training(model, args, peft_config, half, weight_bytes, model_args.attn_implementation or "sdpa", reward)


def memory_of(
    training: Training, shape: ModelShape, largest: tuple[int, int], recipe: Recipe, reference: bool = False
) -> Memory:
    """Peak memory of a step with the largest batch."""
    args = training.args
    if getattr(args, "activation_offloading", False):
        recipe.note(
            "Activation offloading is on: activations are counted here although they are in the host's memory."
        )
    return training_memory(
        shape, largest, weight_bytes=training.weight_bytes, half=training.half, optimizer=str(args.optim),
        checkpointing=args.gradient_checkpointing, accumulates=args.gradient_accumulation_steps > 1, processes=recipe.processes,
        sharding=recipe.sharding, reference=reference, language_head=not training.reward, triton=recipe.on_gpu,
    )  # fmt: skip


def epochs_work(
    chosen: NDArray,
    rejected: NDArray,
    prompts: NDArray,
    args: Any,
    *,
    head_tokens: NDArray | None = None,
    heads: NDArray | None = None,
) -> Work:
    """The work of all epochs."""
    strategy = str(getattr(args, "train_sampling_strategy", "random"))
    temperature = getattr(args, "length_balance_temperature", None)
    size = args.per_device_train_batch_size
    orders = epoch_orders(
        chosen, rejected, seed=args.seed, temperature=temperature, grouped=strategy in ("group_by_length", "batch_rebalance"),
        batch_size=size * args.gradient_accumulation_steps, epochs=args.num_train_epochs if args.max_steps <= 0 else 1, heads=heads,
    )  # fmt: skip
    multiple = getattr(args, "pad_to_multiple_of", None)
    works = [
        training_work(
            chosen, rejected, order, batch_size=size, accumulation=args.gradient_accumulation_steps, head_tokens=head_tokens,
            multiple=int(multiple) if multiple else None, prompts=prompts if getattr(args, "share_prefix", False) else None,
        )
        for order in orders
    ]  # fmt: skip
    return epochs_of(works, args.num_train_epochs, args.max_steps)
