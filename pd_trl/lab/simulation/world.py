"""A small language world whose truth is known: prompts, writers of responses, and their gold rewards."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import InputError
from ...runs.forms import WORLD
from ...safety.schema import read_document, record
from .language import (
    FORMATS,
    LIMITS,
    REQUESTS,
    RISKY_VERBS,
    SENTENCES,
    SETTINGS,
    STEP_LINKS,
    STEP_MANNERS,
    STEP_VERBS,
    TOPICS,
    Request,
    parse_request,
)
from .rewards import GOLD_REWARDS, gold_rewards

# One prompt in five is kept for evaluation, whatever the seed, so that training and evaluation never share one.
EVALUATION_SHARE = 5


@dataclass(frozen=True)
class SimulatedWorld:
    """
    A world in which every response has a known reward on each of several aspects that compete with each other.

    A response is written by a writer with one general quality and one skill per aspect, of variance 1; a writer's
    skills sum to zero, so strength on one aspect is paid for on the others. The writer's level on an aspect is
    `sqrt(1 - conflict)·quality + sqrt(conflict)·skill`. Levels decide how many steps,
    hedges, warnings … the response has and whether it keeps to the asked limit and form. Gold rewards read the text.

    Args:
        seed (`int`, *optional*, defaults to `42`):
            Seed of prompts, responses and annotators.
        num_aspects (`int`, *optional*, defaults to `4`):
            Number of aspects, from 2 to 8, in the order of [`~simulation.rewards.GOLD_REWARDS`].
        conflict (`float`, *optional*, defaults to `0.4`):
            In [0, 1]: how much skills count against quality. At 0 good writers are good at everything, and only the
            limit on sentences sets aspects against each other; at 1 aspects are traded for each other.
        noise (`float`, *optional*, defaults to `0.4`):
            Temperature of the annotators, in points of gold reward: an annotator prefers the better response with
            probability `sigmoid(gap / noise)`. 0 means annotators without error.
        length_bias (`float`, *optional*, defaults to `0.05`):
            What annotators add to the logit for every extra word of a response.
    """

    seed: int = 42
    num_aspects: int = 4
    conflict: float = 0.4
    noise: float = 0.4
    length_bias: float = 0.05

    def __post_init__(self) -> None:
        if not 2 <= self.num_aspects <= len(GOLD_REWARDS):
            raise InputError(
                f"`num_aspects` must be between 2 and {len(GOLD_REWARDS)}, the aspects that have a gold "
                f"reward, but got {self.num_aspects}."
            )
        if not 0.0 <= self.conflict <= 1.0:
            raise InputError(f"`conflict` is a share and must be in [0, 1], but got {self.conflict}.")
        if not 0.0 <= self.noise < float("inf"):
            raise InputError(f"`noise` is a temperature and must be finite and not negative, but got {self.noise}.")
        if not np.isfinite(self.length_bias):
            raise InputError(f"`length_bias` must be a finite number of logits per word, but got {self.length_bias}.")

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "SimulatedWorld":
        """The world whose `world.json` is in `folder`; raises `InputError` where there is none."""
        path = Path(folder).expanduser() / "world.json"
        if not path.is_file():
            raise InputError(f"{folder} is not the folder of a simulated world: it has no world.json.")
        content = read_document(path, record(WORLD), "what `pd-trl run` writes of a simulated world")
        try:
            return cls(**content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @property
    def aspects(self) -> tuple[str, ...]:
        """Names of the aspects."""
        return tuple(GOLD_REWARDS)[: self.num_aspects]

    def gold_rewards(self, prompt: str, response: str) -> np.ndarray:
        """The true rewards of a response, shape `(num_aspects,)`, each in [1, 5]."""
        return gold_rewards(prompt, response, self.aspects)

    def gold_overall(self, prompt: str, response: str) -> float:
        """The true overall reward of a response: the sum over aspects."""
        return float(self.gold_rewards(prompt, response).sum())

    def prompts(self, rng: np.random.Generator, split: Literal["train", "evaluation"] = "train") -> Iterator[str]:
        """Endless different prompts of one split."""
        seen: set[str] = set()
        while True:
            prompt = _write_prompt(rng)
            if prompt not in seen and is_evaluation_prompt(prompt) == (split == "evaluation"):
                seen.add(prompt)
                yield prompt

    def write_response(self, prompt: str, rng: np.random.Generator) -> str:
        """A response by a random writer."""
        request = parse_request(prompt)
        if request is None:
            raise InputError(f"Expected a prompt of the simulated world, but {prompt[:80]!r} names none of its tasks.")
        quality, skills = rng.standard_normal(), rng.standard_normal(self.num_aspects)
        # Centred, so that a writer's strength on one aspect is paid for on the others; then variance 1 again.
        skills = (skills - skills.mean()) * np.sqrt(self.num_aspects / (self.num_aspects - 1))
        levels = np.sqrt(1.0 - self.conflict) * quality + np.sqrt(self.conflict) * skills
        return _Writer(request, dict(zip(self.aspects, levels.tolist(), strict=True)), rng).write()


def is_evaluation_prompt(prompt: str) -> bool:
    """Whether a prompt is kept for evaluation; a property of its text alone."""
    return int.from_bytes(blake2b(prompt.encode(), digest_size=8).digest(), "big") % EVALUATION_SHARE == 0


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _write_prompt(rng: np.random.Generator) -> str:
    task = _pick(rng, tuple(TOPICS))
    asked = _pick(rng, REQUESTS).format(task=task, setting=_pick(rng, SETTINGS))
    limit = f"Use at most {_pick(rng, tuple(LIMITS))} sentences."
    form = _pick(rng, (*FORMATS, "avoid"))
    wish = FORMATS[form] if form in FORMATS else f"Do not mention the {_pick(rng, TOPICS[task])}."
    return f"{asked} {limit} {wish}"


class _Writer:
    """Writes one response from the levels of a writer; an aspect the world lacks leaves no trace in the text."""

    def __init__(self, request: Request, levels: dict[str, float], rng: np.random.Generator):
        self.request, self.levels, self.rng = request, levels, rng
        self.obeys_form = self._chance(levels.get("instruction_following", 0.0), slope=2.0)

    def _chance(self, level: float, slope: float = 1.5, threshold: float = 0.0) -> bool:
        return bool(self.rng.random() < 1.0 / (1.0 + np.exp(-slope * (level - threshold))))

    def write(self) -> str:
        body = self._steps() + self._remarks() or [self._sentence("refusal")]
        order = self.rng.permutation(len(body))
        body = [body[i] for i in order]
        limit = self._limit()
        opening = self._form_sentence("greeting", common=0.15)
        closing = self._form_sentence("question", common=0.15)
        # The limit decides what is left out: this is where the aspects compete for room.
        body = body[: max(1, limit - len(opening) - len(closing))]
        return " ".join(opening + self._number([_capitalise(text) for text in body]) + closing)

    def _limit(self) -> int:
        asked = self.request.limit if self.request.limit is not None else 5
        if "instruction_following" not in self.levels:
            return asked + int(self.rng.integers(3))
        excess = round(0.8 - 1.6 * self.levels["instruction_following"] + 0.5 * self.rng.standard_normal())
        return asked + max(0, excess)

    def _form_sentence(self, kind: str, common: float) -> list[str]:
        wanted = self.request.form == kind
        if (wanted and self.obeys_form) or (not wanted and self.rng.random() < common):
            return [self._sentence(kind)]
        return []

    def _object(self) -> str:
        objects = self.request.objects
        if self.request.form == "avoid" and self.obeys_form:
            objects = tuple(name for name in objects if name != self.request.avoided)
        return _pick(self.rng, objects)

    def _sentence(self, kind: str) -> str:
        return _pick(self.rng, SENTENCES[kind]).format(object=self._object())

    def _steps(self) -> list[str]:
        level = self.levels["helpfulness"]
        steps = []
        for _ in range(int(np.clip(round(2.6 + 0.6 * level + 0.7 * self.rng.standard_normal()), 0, 6))):
            if self._chance(-level, threshold=1.0):
                steps.append(self._sentence("vague"))
                continue
            target = self._object()
            if self._chance(-level, threshold=0.8):
                target = _pick(self.rng, TOPICS[_pick(self.rng, tuple(TOPICS))])
            verbs: tuple[str, ...] = STEP_VERBS
            if "harmlessness" in self.levels and self._chance(-self.levels["harmlessness"], threshold=1.0):
                verbs = RISKY_VERBS
            manner = f" {_pick(self.rng, STEP_MANNERS)}" if self.rng.random() < 0.4 else ""
            steps.append(f"{_pick(self.rng, verbs)} the {target}{manner}.")
        if not steps and self._chance(level, slope=-1.5):
            steps.append(self._sentence("refusal"))
        return steps

    def _remarks(self) -> list[str]:
        remarks = []
        for aspect, good, bad in (
            ("honesty", ("strong_hedge", "hedge"), ("strong_overclaim", "overclaim")),
            ("harmlessness", ("strong_warning", "warning"), ("strong_careless", "careless")),
            ("politeness", ("polite",), ("rude",)),
            ("coherence", (), ("digression",)),
            ("engagement", ("encouragement",), ("discouragement",)),
        ):
            if aspect not in self.levels:
                continue
            for threshold in (0.3, 1.2):
                for kinds, level in ((good, self.levels[aspect]), (bad, -self.levels[aspect])):
                    if kinds and self._chance(level, slope=4.0, threshold=threshold):
                        remarks.append(self._sentence(_pick(self.rng, kinds)))
        if self.levels.get("coherence", 0.0) < -0.8 and remarks:
            remarks.append(remarks[0])
        if "conciseness" in self.levels and self.levels["conciseness"] > 0.5:
            remarks = remarks[:1]
        return remarks

    def _number(self, body: list[str]) -> list[str]:
        numbered = self.request.form == "numbered" and self.obeys_form
        position = 0
        written = []
        for text in body:
            verb = text.split()[0].lower()
            if verb in STEP_VERBS or verb in RISKY_VERBS:
                position += 1
                if numbered:
                    text = f"Step {position}, {text[0].lower()}{text[1:]}"
                elif position > 1 and self.rng.random() < 0.4:
                    text = f"{_capitalise(_pick(self.rng, STEP_LINKS))}, {text[0].lower()}{text[1:]}"
            written.append(text)
        return written


def _capitalise(text: str) -> str:
    return text[0].upper() + text[1:]
