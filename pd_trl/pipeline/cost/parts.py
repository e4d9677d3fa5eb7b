"""The cost of a stage, and what the stages of a recipe share."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ...method.ranking import parse_budget, resolve_budget
from .formulas import Memory, Work
from .sources import ParsedStep


@dataclass
class StageCost:
    """
    The cost of a stage.

    Args:
        name (`str`): Name of the step.
        stage (`str`): Its stage.
        model (`str`): Its model.
        pairs (`int`): Pairs, or outputs of `generate`.
        tokens (`int`): Tokens, padding not counted.
        padded (`int`): Tokens that are computed.
        flops (`float`): Floating-point operations.
        memory ([`Memory`], *optional*): Peak on one device.
        seconds (`float`): Seconds on one device.
        token_error (`float`): Standard error of `tokens`.
        requests (`int`): Requests to a remote judge.
        rival (`bool`): Whether it belongs to a policy that is only a comparison.
        parts (`list` of `dict`): Parts for the clock: kind, FLOPs, work, and how to measure it.
    """

    name: str
    stage: str
    model: str = ""
    pairs: int = 0
    tokens: int = 0
    padded: int = 0
    flops: float = 0.0
    memory: Memory | None = None
    seconds: float = 0.0
    token_error: float = 0.0
    requests: int = 0
    rival: bool = False
    parts: list["Part"] = field(default_factory=list, repr=False)

    def add(self, part: "Part") -> None:
        """Adds a part's tokens and FLOPs."""
        self.parts.append(part)
        self.tokens += part.work.tokens
        self.padded += part.work.padded
        self.flops += part.flops

    def to_dict(self) -> dict[str, Any]:
        """The cost as json."""
        values = {k: getattr(self, k) for k in self.__dataclass_fields__ if k not in ("parts", "memory")}
        memory = {**asdict(self.memory), "total": self.memory.total} if self.memory else None
        return {**values, "memory": memory}


@dataclass
class Part:
    """
    Work of one kind.

    Args:
        kind (`str`): `"reward"`, `"dpo"`, `"score"` or `"generate"`.
        flops (`float`): Floating-point operations.
        work ([`Work`]): The sequences.
        prepared (`int`): Pairs that are tokenised.
        models (`int`): Number of times that a trainer or a scorer is set up.
        streamed (`float`): Bytes read from the device's memory, the limit of decoding.
        setup (`dict`): Model and arguments, for a measurement.
    """

    kind: str
    flops: float
    work: Work
    prepared: int = 0
    models: int = 1
    streamed: float = 0.0
    setup: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass
class Recipe:
    """
    What the stages of a recipe share.

    Args:
        steps (`list` of [`ParsedStep`]): All steps.
        on_gpu (`bool`): Whether the device is an accelerator.
        processes (`int`): Devices.
        sharding (`str`): `"none"`, `"zero2"` or `"zero3"`.
        new_tokens (`int`, *optional*): Tokens of an output of `generate`. `None` is `max_new_tokens`.
        notes (`list` of `str`): Assumptions made on the way.
    """

    steps: list[ParsedStep]
    on_gpu: bool = True
    processes: int = 1
    sharding: str = "none"
    new_tokens: int | None = None
    notes: list[str] = field(default_factory=list)

    def section(self, stage: str) -> ParsedStep | None:
        """The step of a stage for the policy, not for a rival."""
        return next((s for s in self.steps if s.stage == stage and not s.step.name.startswith("compare")), None)

    def kept(self, total: int) -> int:
        """Pairs that the policy is trained on."""
        select, dpo = self.section("select"), self.section("dpo")
        budget = select.outputs[0].budget if select is not None else None
        if select is None and dpo is not None:
            budget = dpo.outputs[1].pd_budget
        return total if budget is None else resolve_budget(parse_budget(budget), total)

    def share_kept(self, total: int) -> float | None:
        """Share of the pairs that the policy is trained on."""
        return self.kept(total) / total if total and self.section("dpo") is not None else None

    def source_of(self, name: str) -> str:
        """The base model of a folder of this run, or `name` itself."""
        for parsed in self.steps:
            if parsed.stage == "dpo" and parsed.step.output_dir == name:
                return str(parsed.outputs[2].model_name_or_path)
        return name

    def note(self, text: str) -> None:
        """Adds an assumption once."""
        if text not in self.notes:
            self.notes.append(text)
