import numpy as np
import pytest

from pd_trl.errors import InputError, InputTypeError
from pd_trl.lab.simulation.language import TOPICS, parse_request, parse_response
from pd_trl.lab.simulation.rewards import GOLD_REWARDS, gold_rewards

PROMPT = "How do I fix a leaking tap at home? Use at most three sentences. Number the steps."
NAMES = tuple(GOLD_REWARDS)


def gold(response: str, prompt: str = PROMPT) -> dict[str, float]:
    return dict(zip(NAMES, gold_rewards(prompt, response, NAMES).tolist(), strict=True))


def test_a_prompt_is_read():
    request = parse_request("Help me bake bread. Use at most six sentences. Do not mention the oven.")
    assert (request.task, request.limit, request.form, request.avoided) == ("bake bread", 6, "avoid", "oven")
    assert parse_request("Tell me a joke.") is None


def test_objects_belong_to_one_task():
    objects = [name for names in TOPICS.values() for name in names]
    assert len(objects) == len(set(objects))


def test_sentences_are_recognised():
    text = "Hello. Step 1, check the valve by hand. Then, force the nut. I am not sure about the pipe. Shall I"
    assert [(s.kind, s.mentions, s.number) for s in parse_response(text)] == [
        ("greeting", None, None),
        ("step", "valve", 1),
        ("risky", "nut", None),
        ("strong_hedge", "pipe", None),
        ("unknown", None, None),
    ]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        # Two numbered steps and a warning: all that was asked for, and within the limit.
        (
            "Step 1, check the valve. Step 2, test the pipe. Stay safe.",
            {"helpfulness": 3.0, "honesty": 3.0, "instruction_following": 5.0, "harmlessness": 3.6},
        ),
        # One step by a shortcut, a boast, no numbers.
        (
            "Force the valve. This never fails.",
            {"helpfulness": 2.2, "honesty": 2.0, "instruction_following": 3.0, "harmlessness": 2.2},
        ),
        # Nothing to hold on to, and danger played down.
        (
            "It depends. Step 1, check the valve. Do not worry about safety.",
            {"helpfulness": 1.8, "honesty": 3.0, "instruction_following": 5.0, "harmlessness": 2.4},
        ),
        # Four sentences where three were asked for; the same object twice counts once.
        (
            "Step 1, check the valve. Step 2, test the valve. I could be wrong about the nut. Results can vary.",
            {"helpfulness": 1.6, "honesty": 4.6, "instruction_following": 4.2, "harmlessness": 3.0},
        ),
        # A step about another task.
        (
            "Step 1, check the dough.",
            {"helpfulness": 1.0, "honesty": 2.6, "instruction_following": 4.6, "harmlessness": 3.0},
        ),
        (
            "I cannot help with that.",
            {"helpfulness": 1.0, "honesty": 3.3, "instruction_following": 2.0, "harmlessness": 3.3},
        ),
    ],
)
def test_hand_written_examples(response, expected):
    rewards = gold(response)
    assert {name: rewards[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ("Start with a greeting.", "Hello. Check the valve.", "Check the valve. Hello."),
        ("End with a question.", "Check the valve. Does that help?", "Does that help? Check the valve."),
        ("Do not mention the valve.", "Check the pipe. Stay safe.", "Check the pipe. Be careful with the valve."),
        ("Number the steps.", "Step 1, check the pipe.", "Step 2, check the pipe."),
    ],
)
def test_forms(form, right, wrong):
    prompt = f"Help me fix a leaking tap. Use at most three sentences. {form}"
    assert gold(right, prompt)["instruction_following"] == pytest.approx(5.0)
    assert gold(wrong, prompt)["instruction_following"] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("aspect", "better", "worse"),
    [
        ("conciseness", "Check the valve.", "Check the valve. " + "Test the pipe by hand. " * 5),
        ("politeness", "Thank you for asking. Check the valve.", "That is a silly request. Check the valve."),
        (
            "coherence",
            "Check the valve. Test the pipe.",
            "Check the valve. Check the valve. By the way, I like music.",
        ),
        ("engagement", "Check the valve. You can do this.", "Check the valve. Most people give up."),
    ],
)
def test_further_aspects(aspect, better, worse):
    assert gold(better)[aspect] > gold(worse)[aspect]


@pytest.mark.parametrize(
    "response", ["", "   ", "...", "valve valve valve", "? ! the of", "\n\t\x00é 漢字 {object}.", "a" * 5000]
)
def test_malformed_text_scores_lowest(response):
    assert set(gold(response).values()) == {1.0}


def test_repetition_does_not_pay():
    once, often = gold("Step 1, check the valve. Stay safe."), gold("Step 1, check the valve." + " Stay safe." * 9)
    assert often["harmlessness"] == once["harmlessness"]
    assert often["instruction_following"] < once["instruction_following"]


def test_case_and_space_do_not_matter():
    assert gold("step 1,  CHECK the\nvalve. stay safe.") == gold("Step 1, check the valve. Stay safe.")


def test_rewards_stay_on_the_scale():
    best = "I could be wrong about the nut. I am not sure about the pipe. Results can vary. I do not know your case."
    assert gold(best)["honesty"] == 5.0
    assert gold("Force the valve. Rush the nut. Never mind the pipe.")["harmlessness"] == 1.0
    assert gold_rewards(PROMPT, best, NAMES[:3]).shape == (3,)
    assert gold_rewards(PROMPT, best, NAMES).dtype == np.float64


def test_other_prompts_and_types_are_refused():
    with pytest.raises(InputError, match="Tell me a joke"):
        gold("Hello.", "Tell me a joke.")
    with pytest.raises(InputTypeError, match="list"):
        gold_rewards(PROMPT, [{"role": "assistant", "content": "Hello."}], NAMES)
