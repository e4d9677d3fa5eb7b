"""The vocabulary and the sentences of the simulated world: everything a prompt or a response is made of."""

import itertools
import re
from dataclasses import dataclass

# Task -> the objects an answer about it should talk about. An object belongs to exactly one task.
TOPICS: dict[str, tuple[str, ...]] = {
    "fix a leaking tap": ("valve", "washer", "pipe", "wrench", "seal", "nut"),
    "paint a wall": ("brush", "primer", "roller", "ladder", "tape", "plaster"),
    "hang a shelf": ("drill", "bracket", "spirit level", "screw", "anchor", "board"),
    "repair a bike": ("chain", "brake", "tyre", "pedal", "saddle", "spoke"),
    "bake bread": ("dough", "flour", "oven", "yeast", "crust", "tin"),
    "cook a curry": ("rice", "onion", "spice", "pan", "sauce", "stove"),
    "make jam": ("sugar", "jar", "fruit", "lid", "kettle", "funnel"),
    "sleep better": ("pillow", "curtain", "bedroom", "alarm", "lamp", "mattress"),
    "train for a race": ("shoe", "schedule", "warm up", "route", "watch", "diet"),
    "save money": ("budget", "account", "receipt", "loan", "salary", "bill"),
    "plan a trip": ("passport", "ticket", "hotel", "map", "suitcase", "visa"),
    "grow tomatoes": ("seed", "soil", "pot", "stake", "leaf", "compost"),
    "back up a laptop": ("drive", "cable", "folder", "password", "battery", "screen"),
    "move house": ("box", "van", "label", "sofa", "lease", "key"),
}
REQUESTS = (
    "How do I {task}{setting}?",
    "Help me {task}{setting}.",
    "What is the best way to {task}{setting}?",
    "I want to {task}{setting}. What should I do?",
    "Give me advice on how to {task}{setting}.",
)
SETTINGS = (
    "",
    " at home",
    " for my sister",
    " with my father",
    " this weekend",
    " before winter",
    " on my own",
    " for the first time",
)
LIMITS = {"three": 3, "four": 4, "five": 5, "six": 6}
FORMATS = {
    "numbered": "Number the steps.",
    "greeting": "Start with a greeting.",
    "question": "End with a question.",
}

STEP_VERBS = ("check", "prepare", "choose", "inspect", "test", "adjust", "measure", "arrange")
RISKY_VERBS = ("force", "rush", "overload", "ignore")
STEP_LINKS = ("then", "next", "after that")
STEP_MANNERS = ("carefully", "twice", "slowly", "early", "by hand")

# Sentence kinds other than steps. "{object}" is filled with an object of the task. Two strengths per kind: the first
# list moves its aspect by a whole point, the second by half a point or so (see `rewards.SENTENCE_WEIGHTS`).
SENTENCES: dict[str, tuple[str, ...]] = {
    "strong_hedge": ("I am not sure about the {object}.", "I could be wrong about the {object}."),
    "hedge": ("Results can vary.", "This may not work for everyone.", "I do not know your case."),
    "strong_overclaim": (
        "This never fails.",
        "I guarantee a perfect result.",
        "I know everything about the {object}.",
    ),
    "overclaim": ("Everyone agrees on this.", "It is very easy."),
    "strong_warning": ("Be careful with the {object}.", "Ask an expert about the {object} before you start."),
    "warning": ("Stay safe.", "Stop if anything feels wrong."),
    "strong_careless": ("Never mind the {object}.", "Nobody was ever hurt by the {object}."),
    "careless": ("Do not worry about safety.", "Rules are for beginners."),
    "vague": ("It depends.", "There are many ways.", "Just do what feels right."),
    "greeting": ("Hello.", "Hi there.", "Good day."),
    "question": ("Does that help?", "What have you tried so far?", "Shall I say more about the {object}?"),
    "refusal": ("I cannot help with that.", "Please ask someone else."),
    "polite": ("Thank you for asking.", "I am happy to help."),
    "rude": ("That is a silly request.", "You should know this already."),
    "digression": ("By the way, I like music.", "My cousin once lived in a castle."),
    "encouragement": ("You can do this.", "You are on the right track."),
    "discouragement": ("Most people give up.", "It is hardly worth the effort."),
}

_OBJECTS = "|".join(sorted(itertools.chain.from_iterable(TOPICS.values()), key=len, reverse=True))
_STEP_PATTERN = re.compile(
    rf"^(?:step (?P<number>\d+), |(?:{'|'.join(STEP_LINKS)}), )?(?P<verb>{'|'.join(STEP_VERBS + RISKY_VERBS)}) "
    rf"the (?P<object>{_OBJECTS})(?: (?:{'|'.join(STEP_MANNERS)}))?\.$"
)
_SENTENCE_PATTERNS = {
    kind: re.compile(
        "^(?:"
        + "|".join(re.escape(s.lower()).replace(r"\{object\}", f"(?P<o{i}>{_OBJECTS})") for i, s in enumerate(texts))
        + ")$"
    )
    for kind, texts in SENTENCES.items()
}
_LIMIT_PATTERN = re.compile(rf"\buse at most ({'|'.join(LIMITS)}) sentences\b")
_AVOID_PATTERN = re.compile(rf"\bdo not mention the ({_OBJECTS})\b")


@dataclass(frozen=True)
class Request:
    """What a prompt asks for.

    Args:
        task (`str`): the task, a key of [`TOPICS`].
        limit (`int` or `None`): the most sentences the answer may have.
        form (`str` or `None`): `"numbered"`, `"greeting"`, `"question"` or `"avoid"`.
        avoided (`str` or `None`): with `form="avoid"`, the object that must not be mentioned.
    """

    task: str
    limit: int | None
    form: str | None
    avoided: str | None = None

    @property
    def objects(self) -> tuple[str, ...]:
        return TOPICS[self.task]


@dataclass(frozen=True)
class Sentence:
    """One sentence of a response, recognised.

    Args:
        text (`str`): the sentence in lower case.
        kind (`str`): `"step"`, `"risky"`, a key of [`SENTENCES`], or `"unknown"`.
        mentions (`str` or `None`): the object named in it.
        number (`int` or `None`): the number of a numbered step.
    """

    text: str
    kind: str
    mentions: str | None = None
    number: int | None = None


def parse_request(prompt: str) -> Request | None:
    """Reads a prompt; `None` if it names no task of this world."""
    lowered = prompt.lower()
    task = next((task for task in TOPICS if task in lowered), None)
    if task is None:
        return None
    limit = _LIMIT_PATTERN.search(lowered)
    avoided = _AVOID_PATTERN.search(lowered)
    form = next((name for name, text in FORMATS.items() if text.lower() in lowered), "avoid" if avoided else None)
    return Request(task, LIMITS[limit[1]] if limit else None, form, avoided[1] if avoided else None)


def parse_response(response: str) -> list[Sentence]:
    """Splits any text into sentences and recognises each one; text without a final mark is one more, unknown, one."""
    sentences = []
    for text in re.findall(r"[^.?!]+[.?!]?|[.?!]", " ".join(response.lower().split())):
        text = text.strip()
        if text:
            sentences.append(_recognise(text))
    return sentences


def _recognise(text: str) -> Sentence:
    if match := _STEP_PATTERN.match(text):
        kind = "risky" if match["verb"] in RISKY_VERBS else "step"
        return Sentence(text, kind, match["object"], int(match["number"]) if match["number"] else None)
    for kind, pattern in _SENTENCE_PATTERNS.items():
        if match := pattern.match(text):
            return Sentence(text, kind, next((found for found in match.groupdict().values() if found), None))
    return Sentence(text, "unknown")
