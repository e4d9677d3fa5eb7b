"""Which training arguments decide the weights: every field of [`PDRewardConfig`] and [`PDDPOConfig`] is in one of the lists."""

import os
from pathlib import Path
from typing import Any

from ..safety.secrets import masked
from .identity import canonical, file_key
from .model_identity import model_key

DECIDING = frozenset({
    # what is learned from
    "train_share", "length_balance_temperature", "length_correction", "length_penalty", "margin_column", "pd_budget", "pd_column", "pd_loss",
    "pd_num_aspects", "pd_divide_beta", "max_length", "truncation_mode", "pad_token", "eos_token", "chat_template_path",
    # the loss
    "loss_type", "loss_weights", "beta", "label_smoothing", "label_smoothing_factor", "center_rewards_coefficient",
    "f_divergence_type", "f_alpha_divergence_coef", "discopop_tau", "ld_alpha", "use_weighting", "router_aux_loss_coef",
    "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps", "disable_dropout", "neftune_noise_alpha",
    "average_tokens_across_devices",
    # steps and their order
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "auto_find_batch_size",
    "dataloader_drop_last", "train_sampling_strategy", "group_by_length", "length_column_name", "seed", "data_seed",
    "accelerator_config", "load_best_model_at_end",
    # the optimiser
    "optim", "optim_args", "optim_target_modules", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
    "warmup_ratio", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "deepspeed",
    # what heads read
    "pooling", "layers", "standardize", "freeze_backbone",
    # the numbers' types, and the code
    "bf16", "fp16", "tf32", "model_init_kwargs", "trust_remote_code",
})  # fmt: skip

# Fields that came after the first release count where they are set, so that earlier models are still known.
_ADDED = {"pooling": None, "layers": None, "standardize": None, "freeze_backbone": False}

# With `load_best_model_at_end` these choose the checkpoint whose weights are kept.
DECIDING_THE_BEST = frozenset({
    "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "save_strategy", "save_steps", "metric_for_best_model",
    "greater_is_better",
})  # fmt: skip

# Where things go, how they are shown, how evaluation is run, and what changes weights by rounding alone.
NOT_DECIDING = DECIDING_THE_BEST | frozenset({
    "output_dir", "logging_dir", "run_name", "project", "disable_tqdm", "report_to", "trackio_bucket_id", "trackio_space_id",
    "trackio_static_space_id", "log_level", "log_level_replica", "log_on_each_node", "logging_first_step", "logging_nan_inf_filter",
    "logging_steps", "logging_strategy", "debug", "skip_memory_metrics", "include_num_input_tokens_seen",
    "push_to_hub", "hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_token",
    "save_only_model", "save_on_each_node", "save_total_limit", "enable_jit_checkpoint", "resume_from_checkpoint",
    "ignore_data_skip", "restore_callback_states_from_checkpoint",
    "do_train", "do_eval", "do_predict", "per_device_eval_batch_size", "eval_accumulation_steps", "eval_do_concat_batches",
    "eval_use_gather_object", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval", "prediction_loss_only",
    "include_for_metrics", "label_names", "remove_unused_columns",
    "dataset_num_proc", "dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_num_workers",
    "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "local_rank", "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph",
    "ddp_timeout", "fsdp", "fsdp_config", "parallelism_config", "use_cpu", "full_determinism",
    "activation_checkpointing", "activation_checkpointing_kwargs", "activation_offloading", "gradient_checkpointing",
    "gradient_checkpointing_kwargs", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps",
    "use_cache", "use_liger_kernel", "liger_kernel_config", "pad_to_multiple_of", "padding_free", "share_prefix",
    "precompute_ref_log_probs", "precompute_ref_batch_size",
})  # fmt: skip

# How a model is fetched and placed; its revision is part of its key.
_NO_LOADING = {
    "cache_dir", "device_map", "force_download", "local_files_only", "low_cpu_mem_usage", "max_memory", "offload_folder", "proxies",
    "revision", "token", "use_auth_token",
}  # fmt: skip


def training_identity(args: Any) -> dict[str, Any]:
    """
    The training arguments that decide the weights, for a manifest. A field that a new version adds does not count until
    it is in the lists above.

    Args:
        args ([`~transformers.TrainingArguments`]): Training arguments.
    """
    names = DECIDING | (DECIDING_THE_BEST if getattr(args, "load_best_model_at_end", False) else frozenset())
    values = {name: getattr(args, name) for name in sorted(names) if hasattr(args, name)}
    if values.get("pd_loss") is None:
        # It decides nothing then, and runs of versions without it go on.
        values.pop("pd_divide_beta", None)
    values = {name: value for name, value in values.items() if name not in _ADDED or value != _ADDED[name]}
    loading = values.get("model_init_kwargs") or {}
    values["model_init_kwargs"] = {name: value for name, value in loading.items() if name not in _NO_LOADING}
    for name in ("chat_template_path", "deepspeed"):
        if isinstance(values.get(name), (str, os.PathLike)):
            values[name] = _content_at(values[name])
    if hasattr(values.get("accelerator_config"), "to_dict"):
        values["accelerator_config"] = values["accelerator_config"].to_dict()
    plain = canonical({name: masked(value) for name, value in values.items()})
    return dict(plain)


def _content_at(name: str | os.PathLike) -> str:
    """The content of a file or folder; otherwise the name itself."""
    path = Path(name).expanduser()
    if path.is_file():
        return file_key(path)
    return model_key(path) if path.is_dir() else str(name)
