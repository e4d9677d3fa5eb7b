"""How many tokens a model takes, by its configuration and by its table of positions."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .inputs import num_embeddings, token_table


def positions_of(model: Any) -> int | None:
    """
    Most tokens that a model takes: what its configuration says, or less where it cannot use all rows of its table of positions
    (RoBERTa's begin behind its pad token's). `None` where nothing limits it.
    """
    limits = [limit for limit in (stated_positions(model.config), table_positions(model)) if limit is not None]
    return min(limits, default=None)


def stated_positions(config: Any) -> int | None:
    """Positions in a configuration; `None` where it names none or says that they have no limit, as XLNet's does."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else None


def table_positions(model: Any) -> int | None:
    """
    Most tokens that a model's learned position embeddings are enough for; `None` where it has none.

    It is found by running the model on two short rows: a table is one of positions where it is asked for consecutive rows, one
    for each token.
    """
    tokens = token_table(model)
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not tokens]
    if not tables:
        return None
    found = [_lookups(model, length) for length in (3, 4)]
    usable = [size - first for size, first in found[0] & found[1]]
    return min(usable, default=None)


def _lookups(model: Any, length: int) -> set[tuple[int, int]]:
    """Rows and first index of each table that is asked for consecutive rows, one for each of `length` tokens."""
    config = model.config.get_text_config()
    pad, end = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    ends = end if isinstance(end, list) else [end]
    special = {pad, *ends}
    token = next(i for i in range(len(special) + 1) if i not in special)
    # A classifier of BART's kind reads its reward at EOS.
    size = num_embeddings(model) or 0
    last = token if ends[0] in (None, pad) or not 0 <= ends[0] < size else ends[0]
    device = next(model.parameters()).device
    row = torch.tensor([[token] * (length - 1) + [last]], device=device)
    asked = _TableLookups()
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), asked:
            model(input_ids=row, attention_mask=torch.ones_like(row))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError, AttributeError):
        # Some models do not run like this. Lookups before the failure count.
        pass
    finally:
        model.train(training)
    return {
        (size, int(rows[0]))
        for size, rows in asked.seen
        if len(rows) >= length and bool((rows[:length].diff() == 1).all())
    }


class _TableLookups(TorchDispatchMode):
    """Records what tables of embeddings are asked for, row by row of the first sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.embedding.default:
            table, rows = args[:2]
            # A matrix of rows is of relative positions, or of a batch, which this is not.
            if rows.ndim == 1 or (rows.ndim == 2 and rows.shape[0] == 1):
                self.seen.append((table.shape[0], rows.reshape(-1).clone()))
        return func(*args, **(kwargs or {}))
