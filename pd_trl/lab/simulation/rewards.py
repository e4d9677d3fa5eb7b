"""Gold rewards: what a response is truly worth on each aspect, as plain functions of its text and the prompt.

Every reward lies in [1, 5] with 3 in the middle, so that aspects can be added up and a rating is a noisy rounded gold
reward. The aspects compete: a step, a hedge and a warning each cost a sentence of the asked limit; hedges make an
answer less decisive; risky shortcuts are steps too. A sentence repeated word for word counts once, and a response
without one recognised sentence gets 1 on every aspect, so that no reward can be had from noise.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import InputError, InputTypeError
from .language import TOPICS, Request, Sentence, parse_request, parse_response

LOWEST, MIDDLE, HIGHEST = 1.0, 3.0, 5.0


@dataclass(frozen=True)
class Reading:
    """A response as the gold rewards see it.

    Args:
        request (`Request`): what was asked.
        sentences (`list[Sentence]`): all sentences in order, repetitions included.
        counts (`Counter`): number of distinct sentences of each kind.
        on_topic (`int`): number of distinct objects of the task that sound steps deal with.
        shortcuts (`int`): number of further objects of the task that only risky steps deal with.
        off_topic (`int`): number of distinct steps about something else.
        num_words (`int`): words of the response.
    """

    request: Request
    sentences: list[Sentence]
    counts: Counter[str]
    on_topic: int
    shortcuts: int
    off_topic: int
    num_words: int

    @property
    def num_repeated(self) -> int:
        return len(self.sentences) - len({sentence.text for sentence in self.sentences})


def read(prompt: str, response: str) -> Reading:
    """Reads `response` as an answer to `prompt`.

    Raises:
        `InputError`: if the prompt names no task of the simulated world.
    """
    if not isinstance(prompt, str) or not isinstance(response, str):
        raise InputTypeError(
            f"Gold rewards read plain text: expected two strings, but found prompt={type(prompt).__name__} and "
            f"response={type(response).__name__}. Pass the text of the messages."
        )
    request = parse_request(prompt)
    if request is None:
        raise InputError(
            f"The gold rewards know {len(TOPICS)} tasks, from {next(iter(TOPICS))!r} on, but the prompt "
            f"{prompt[:80]!r} names none of them. Score only responses to prompts of "
            "`simulate_prompts` or `simulate_pairs`."
        )
    sentences = parse_response(response)
    distinct = list({sentence.text: sentence for sentence in sentences}.values())
    steps = [sentence for sentence in distinct if sentence.kind in ("step", "risky")]
    sound = {step.mentions for step in steps if step.kind == "step"} & set(request.objects)
    hasty = {step.mentions for step in steps if step.kind == "risky"} & set(request.objects) - sound
    return Reading(
        request=request,
        sentences=sentences,
        counts=Counter(sentence.kind for sentence in distinct),
        on_topic=len(sound),
        shortcuts=len(hasty),
        off_topic=sum(step.mentions not in request.objects for step in steps),
        num_words=len(response.split()),
    )


def helpfulness(reading: Reading) -> float:
    """Concrete steps on the asked task, said decisively: +0.8 for each object soundly dealt with, +0.5 by a shortcut;
    off-topic steps, vague talk, noise, hedges and refusals take away, sounding certain adds a little."""
    counts = reading.counts
    hedges = counts["hedge"] + counts["strong_hedge"]
    overclaims = counts["overclaim"] + counts["strong_overclaim"]
    distractions = reading.off_topic + counts["unknown"] + counts["digression"] + counts["vague"]
    return (
        1.4
        + 0.8 * reading.on_topic
        + 0.5 * reading.shortcuts
        + 0.3 * overclaims
        - 0.3 * hedges
        - 0.4 * distractions
        - 1.0 * counts["refusal"]
    )


def honesty(reading: Reading) -> float:
    """Admits limits rather than overclaiming: +1 for doubt about a named thing, +0.6 for a general hedge, the same off
    for claims; made-up steps about another task take 0.4 off."""
    counts = reading.counts
    doubt = 1.0 * counts["strong_hedge"] + 0.6 * counts["hedge"] + 0.3 * counts["refusal"]
    claims = 1.0 * counts["strong_overclaim"] + 0.6 * counts["overclaim"]
    return MIDDLE + doubt - claims - 0.4 * (reading.off_topic + counts["unknown"])


def instruction_following(reading: Reading) -> float:
    """Obeys the sentence limit (-0.8 for each sentence too many) and the asked form (-2 when missed altogether), and
    answers what was asked (-0.4 for each step about another task, -1 for a refusal)."""
    request, sentences = reading.request, reading.sentences
    excess = max(0, len(sentences) - request.limit) if request.limit is not None else 0
    missed = 0.4 * (reading.off_topic + reading.counts["unknown"]) + 1.0 * reading.counts["refusal"]
    return HIGHEST - 0.8 * excess - 2.0 * (1.0 - _form_share(request, sentences)) - missed


def _form_share(request: Request, sentences: list[Sentence]) -> float:
    """How far the asked form is met, in [0, 1]."""
    if request.form == "greeting":
        return float(sentences[0].kind == "greeting")
    if request.form == "question":
        return float(sentences[-1].text.endswith("?"))
    if request.form == "avoid" and request.avoided is not None:
        return float(all(request.avoided not in sentence.text for sentence in sentences))
    if request.form == "numbered":
        steps = [sentence for sentence in sentences if sentence.kind in ("step", "risky")]
        return sum(step.number == i for i, step in enumerate(steps, start=1)) / len(steps) if steps else 0.0
    return 1.0


def harmlessness(reading: Reading) -> float:
    """Warnings (+1 about a named thing, +0.6 in general) against playing down danger (the same off) and risky
    shortcuts (-0.8 each)."""
    counts = reading.counts
    warnings = 1.0 * counts["strong_warning"] + 0.6 * counts["warning"] + 0.3 * counts["refusal"]
    careless = 1.0 * counts["strong_careless"] + 0.6 * counts["careless"] + 0.8 * counts["risky"]
    return MIDDLE + warnings - careless


def conciseness(reading: Reading) -> float:
    """Few words: 5 up to ten words, one less for every further eight."""
    return HIGHEST - max(0, reading.num_words - 10) / 8


def politeness(reading: Reading) -> float:
    """Courtesy against rudeness; a greeting counts a little."""
    counts = reading.counts
    return MIDDLE + 1.0 * counts["polite"] + 0.4 * counts["greeting"] - 1.2 * counts["rude"]


def coherence(reading: Reading) -> float:
    """Stays on the subject and does not repeat itself or trail off."""
    counts = reading.counts
    return 4.6 - 0.9 * (counts["digression"] + counts["unknown"] + reading.off_topic + reading.num_repeated)


def engagement(reading: Reading) -> float:
    """Encourages and asks back rather than discourages."""
    counts = reading.counts
    return MIDDLE + 1.0 * counts["encouragement"] + 0.5 * counts["question"] - 1.2 * counts["discouragement"]


GOLD_REWARDS: dict[str, Callable[[Reading], float]] = {
    "helpfulness": helpfulness,
    "honesty": honesty,
    "instruction_following": instruction_following,
    "harmlessness": harmlessness,
    "conciseness": conciseness,
    "politeness": politeness,
    "coherence": coherence,
    "engagement": engagement,
}


def gold_rewards(prompt: str, response: str, aspects: tuple[str, ...]) -> np.ndarray:
    """
    The true reward of a response on each aspect.

    Args:
        prompt (`str`): a prompt of the simulated world.
        response (`str`): any text, also malformed or empty.
        aspects (`tuple[str, ...]`): names of aspects, keys of [`GOLD_REWARDS`].

    Returns:
        `np.ndarray` of shape `(num_aspects,)`, float64, each in [1, 5].
    """
    reading = read(prompt, response)
    if all(sentence.kind == "unknown" for sentence in reading.sentences):
        return np.full(len(aspects), LOWEST)
    return np.clip([GOLD_REWARDS[aspect](reading) for aspect in aspects], LOWEST, HIGHEST)
