"""Small datasets in exactly the schemas of the Hub, features included, with the traps seen in them."""

from typing import Any

from datasets import Dataset, Features, List, Value

STRING, FLOAT, INT, BOOL = Value("string"), Value("float64"), Value("int64"), Value("bool")
MESSAGES = List({"content": STRING, "role": STRING})
ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _annotation(rating: str | None, typed: bool) -> dict[str, Any]:
    base = {"Rating": rating, "Rationale": "because"}
    return base | {"Rationale For Rating": "so", "Type": ["1"]} if typed else base


def completion(
    model: str,
    response: str,
    ratings: tuple[str | None, str | None, str | None, str | None],
    overall: float | None = 7.5,
) -> dict[str, Any]:
    """Ratings are in the order helpfulness, honesty, instruction_following, truthfulness."""
    known = [float(rating) for rating in ratings if rating not in (None, "N/A")]
    return {
        "annotations": {
            "helpfulness": _annotation(ratings[0], True),
            "honesty": _annotation(ratings[1], False),
            "instruction_following": _annotation(ratings[2], False),
            "truthfulness": _annotation(ratings[3], True),
        },
        "critique": "a long critique",
        "custom_system_prompt": "be good",
        "fine-grained_score": sum(known) / len(known) if known else None,
        "model": model,
        "overall_score": overall,
        "principle": "helpfulness",
        "response": response,
    }


_TYPED = {"Rating": STRING, "Rationale": STRING, "Rationale For Rating": STRING, "Type": List(STRING)}
_UNTYPED = {"Rating": STRING, "Rationale": STRING}

ULTRAFEEDBACK_FEATURES = Features(
    {
        "source": STRING,
        "instruction": STRING,
        "models": List(STRING),
        "completions": List(
            {
                "annotations": {
                    "helpfulness": _TYPED,
                    "honesty": _UNTYPED,
                    "instruction_following": _UNTYPED,
                    "truthfulness": _TYPED,
                },
                "critique": STRING,
                "custom_system_prompt": STRING,
                "fine-grained_score": FLOAT,
                "model": STRING,
                "overall_score": FLOAT,
                "principle": STRING,
                "response": STRING,
            }
        ),
        "correct_answers": List(STRING),
        "incorrect_answers": List(STRING),
    }
)


def ultrafeedback_rows() -> list[dict[str, Any]]:
    def row(source: str, instruction: str, completions: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "source": source,
            "instruction": instruction,
            "models": [item["model"] for item in completions],
            "completions": completions,
            "correct_answers": ["None"],
            "incorrect_answers": ["None"],
        }

    four = [
        completion("llama-2-13b-chat", "alpha", ("4", "5", "4", "5"), 7.5),
        completion("llama-2-7b-chat", "beta", ("2", "5", "3", "4"), 5.0),
        completion("ultralm-65b", "gamma", ("5", "N/A", "1", "2"), None),
        completion("vicuna-33b", "delta", ("4", "1", "N/A", None), 9.0),
    ]
    two = [
        completion("alpaca-7b", "one", ("1", "1", "1", "1"), 1.0),
        completion("gpt-4", "two", ("5", "5", "5", "5"), 10.0),
    ]
    lonely = [completion("gpt-4", "only one", ("5", "5", "5", "5"), 10.0)]
    return [
        row("truthful_qa", "What is the sum?", four),
        row("flan_v2_cot", "Two completions only", two),
        row("sharegpt", "One completion", lonely),
        row("ultrachat", "No completion", []),
    ]


def ultrafeedback() -> Dataset:
    return Dataset.from_list(ultrafeedback_rows(), features=ULTRAFEEDBACK_FEATURES)


def ultrafeedback_before_the_hub() -> Dataset:
    """The annotation files from before the Hub: each aspect is a list with one dict, without a type of its own."""
    rows = ultrafeedback_rows()[:2]
    for row in rows:
        for item in row["completions"]:
            item["annotations"] = {
                name: [{"Rating": value["Rating"], "Rationale": "because"}]
                for name, value in item["annotations"].items()
            }
    return Dataset.from_list(rows)


def helpsteer(first_version: bool = False) -> Dataset:
    """HelpSteer has up to four responses per prompt and int32 attributes, HelpSteer2 pair rows and int64 ones."""
    multi_turn = "Hi<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nTell me more"
    rows = [
        ("c#", "a class", (3, 4, 4, 2, 1)),
        ("c#", "a struct", (4, 4, 4, 2, 2)),
        (multi_turn if not first_version else "poem", "more", (0, 1, 2, 2, 1)),
        (multi_turn if not first_version else "poem", "much more", (4, 1, 2, 2, 3)),
    ]
    if first_version:
        rows += [("c#", "an enum", (1, 1, 4, 2, 2)), ("alone", "no partner", (1, 1, 4, 2, 2))]
    number = Value("int32") if first_version else INT
    records = [
        {"prompt": prompt, "response": response, **dict(zip(ATTRIBUTES, values, strict=True))}
        for prompt, response, values in rows
    ]
    return Dataset.from_list(
        records, features=Features({"prompt": STRING, "response": STRING, **dict.fromkeys(ATTRIBUTES, number)})
    )


def helpsteer2_preference() -> Dataset:
    features = Features(
        {
            "split": STRING,
            "prompt": STRING,
            "response_1": STRING,
            "response_2": STRING,
            "preference_strength": INT,
            "preference_statement": STRING,
            "preference_elaboration": STRING,
            "three_most_similar_preferences": List({"statement": STRING, "elaboration": STRING, "strength": INT}),
            "all_preferences_unprocessed": List({"strength": INT, "justification": STRING}),
        }
    )
    cases = [("train", -3), ("train", 0), ("train", 2), ("val", 1), ("train", -100)]
    rows = [
        {
            "split": split,
            "prompt": f"question {index}",
            "response_1": f"first {index}",
            "response_2": f"second {index}",
            "preference_strength": strength,
            "preference_statement": "stated",
            "preference_elaboration": "elaborated",
            "three_most_similar_preferences": [{"statement": "s", "elaboration": "e", "strength": strength}],
            "all_preferences_unprocessed": [{"strength": -100, "justification": "neither is valid"}],
        }
        for index, (split, strength) in enumerate(cases)
    ]
    return Dataset.from_list(rows, features=features)


def helpsteer3() -> Dataset:
    features = Features(
        {
            "domain": STRING,
            "language": STRING,
            "context": List({"role": STRING, "content": STRING}),
            "response1": STRING,
            "response2": STRING,
            "overall_preference": INT,
            "individual_preference": List({"score": INT, "reasoning": STRING}),
        }
    )
    contexts = [[user("2+2?")], [user("Hi"), assistant("Hello"), user("Bye")], [user("third")]]
    rows = [
        {
            "domain": "general",
            "language": "english",
            "context": context,
            "response1": f"one {index}",
            "response2": f"two {index}",
            "overall_preference": strength,
            "individual_preference": [{"score": strength, "reasoning": "why"}],
        }
        for index, (context, strength) in enumerate(zip(contexts, (-2, 0, 3), strict=True))
    ]
    return Dataset.from_list(rows, features=features)


HARMS = ("Animal Abuse", "Violence", "White-Collar Crime")


def saferlhf(with_severity: bool = True) -> Dataset:
    features = {
        "prompt": STRING,
        "response_0": STRING,
        "response_1": STRING,
        "prompt_source": STRING,
        "response_0_source": STRING,
        "response_1_source": STRING,
        "is_response_0_safe": BOOL,
        "is_response_1_safe": BOOL,
        "response_0_harm_category": dict.fromkeys(HARMS, BOOL),
        "response_1_harm_category": dict.fromkeys(HARMS, BOOL),
        "better_response_id": INT,
        "safer_response_id": INT,
    }
    if with_severity:
        features |= {f"response_{side}_{name}": INT for side in (0, 1) for name in ("severity_level",)}
        features |= {f"response_{side}_sha256": STRING for side in (0, 1)}
    rows = []
    for index, (better, safer) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        row: dict[str, Any] = {
            "prompt": f"prompt {index}",
            "prompt_source": "generated",
            "better_response_id": better,
            "safer_response_id": safer,
        }
        for side in (0, 1):
            row |= {
                f"response_{side}": f"answer {index} of {side}",
                f"response_{side}_source": f"alpaca-{side}",
                f"is_response_{side}_safe": side == safer,
                f"response_{side}_harm_category": dict.fromkeys(HARMS, side != safer),
            }
            if with_severity:
                row |= {f"response_{side}_severity_level": 0 if side == safer else 3, f"response_{side}_sha256": "ab"}
        rows.append(row)
    return Dataset.from_list(rows, features=Features(features))


def saferlhf_single_dimension() -> Dataset:
    return saferlhf().select_columns(
        ["prompt", "response_0", "response_1", "prompt_source", "response_0_source", "better_response_id"]
    )


_SCORES = [(8.0, 6.0), (7.0, 7.0), (5.0, 9.0)]


def _conversations(index: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    prompt = [user(f"question {index}")]
    if index == 1:
        prompt = [user("Hi"), assistant("Hello"), user("question 1")]
    return [*prompt, assistant(f"good {index}")], [*prompt, assistant(f"bad {index}")]


def h4_binarized() -> Dataset:
    features = {"prompt": STRING, "prompt_id": STRING, "chosen": MESSAGES, "rejected": MESSAGES, "messages": MESSAGES}
    rows = []
    for index, (chosen_score, rejected_score) in enumerate(_SCORES):
        chosen, rejected = _conversations(index)
        rows.append(
            {
                "prompt": chosen[-2]["content"],
                "prompt_id": f"id{index}",
                "chosen": chosen,
                "rejected": rejected,
                "messages": chosen,
                "score_chosen": chosen_score,
                "score_rejected": rejected_score,
            }
        )
    return Dataset.from_list(rows, features=Features({**features, "score_chosen": FLOAT, "score_rejected": FLOAT}))


def trl_binarized() -> Dataset:
    """Without a prompt column: the prompt is what both conversations begin with. The last pair is identical."""
    dataset = h4_binarized().remove_columns(["prompt", "prompt_id", "messages"]).to_list()
    same = [user("same?"), assistant("same")]
    dataset.append({"chosen": same, "rejected": same, "score_chosen": 5.0, "score_rejected": 5.0})
    features = Features({"chosen": MESSAGES, "rejected": MESSAGES, "score_chosen": FLOAT, "score_rejected": FLOAT})
    return Dataset.from_list(dataset, features=features)


def argilla_binarized() -> Dataset:
    rows = [
        {
            "source": "flan",
            "instruction": f"do {index}",
            "chosen_response": f"done {index}",
            "rejected_response": f"not {index}",
            "chosen_avg_rating": 5.0,
            "rejected_avg_rating": 1.25,
            "chosen_model": "gpt-4",
        }
        for index in range(2)
    ]
    return Dataset.from_list(rows)


def argilla_cleaned() -> Dataset:
    rows = []
    for index in range(2):
        chosen, rejected = _conversations(0)
        rows.append(
            {
                "source": "evol_instruct",
                "prompt": chosen[0]["content"],
                "chosen": chosen[:-1] + [assistant(f"good {index}")],
                "chosen-rating": 5.0,
                "chosen-model": "gpt-4",
                "rejected": rejected,
                "rejected-rating": 1.25,
                "rejected-model": "alpaca-7b",
            }
        )
    features = {"source": STRING, "prompt": STRING, "chosen": MESSAGES, "chosen-rating": FLOAT}
    features |= {"chosen-model": STRING, "rejected": MESSAGES, "rejected-rating": FLOAT, "rejected-model": STRING}
    return Dataset.from_list(rows, features=Features(features))


def skywork() -> Dataset:
    rows = [dict(zip(("chosen", "rejected"), _conversations(index), strict=True)) for index in range(3)]
    rows = [row | {"source": "magpie"} for row in rows]
    return Dataset.from_list(rows, features=Features({"chosen": MESSAGES, "rejected": MESSAGES, "source": STRING}))


def own_columns() -> Dataset:
    rows = [
        {
            "prompt": f"p{index}",
            "response_a": f"a{index}",
            "response_b": f"b{index} longer",
            "rating_depth_a": depth[0],
            "rating_depth_b": depth[1],
            "pref_tone": tone,
            "pref_overall": overall,
            "model_a": "m1",
            "model_b": "m2",
            "topic": "t",
        }
        for index, (depth, tone, overall) in enumerate(
            [
                ((1.0, 2.0), 1.0, 1.0),
                ((3.0, 3.0), 0.0, 0.0),
                ((None, 2.0), 0.5, 1.0),
                ((float("nan"), 1.0), None, None),
            ]
        )
    ]
    return Dataset.from_list(rows)


def distilabel() -> Dataset:
    """One completion's ratings are missing, one row has a single completion, and one is empty."""
    rows = [
        {"instruction": f"q{i}", "generations": [f"g{i}.{k}" for k in range(count)], "generation_models": ["m", "n", "o"][:count],
         "ratings": [None if (i, k) == (1, 0) else float((i + k) % 3) for k in range(count)], "rationale": "because"}
        for i, count in enumerate((3, 2, 1, 0))
    ]  # fmt: skip
    return Dataset.from_list(rows)


def rated_responses() -> Dataset:
    completion = {"response": STRING, "ratings": {"clarity": STRING, "depth": STRING}}
    rows = [
        {"prompt": f"q{i}", "responses": [{"response": f"r{k}", "ratings": {"clarity": str(k), "depth": "N/A"}} for k in range(2)]}
        for i in range(3)
    ]  # fmt: skip
    return Dataset.from_list(rows, features=Features({"prompt": STRING, "responses": List(completion)}))


def rated_on_the_whole() -> Dataset:
    """A tie and a missing value of the overall rating, and a prompt with one response only."""

    def response(name: str, overall: float | None, depth: float | None, tone: float) -> dict:
        return {"response": name, "overall": overall, "ratings": {"depth": depth, "tone": tone}, "model": f"m-{name}"}

    rows = [
        {"prompt": "p0", "responses": [response("low", 1, 2, 3), response("high", 4, 1, 5)]},
        {"prompt": "p1", "responses": [response("x", 2, 2, 1), response("y", 2, 3, 1), response("z", 3, 3, 2)]},
        {"prompt": "p2", "responses": [response("known", 3, None, 2), response("unknown", None, 3, 1)]},
        {"prompt": "p3", "responses": [response("alone", 3, 3, 3)]},
    ]
    return Dataset.from_list(
        [{"prompt_id": f"id-{row['prompt']}", "topic_a": "t", "topic_b": "u", **row} for row in rows]
    )


# Name of the adapter and the datasets it must read.
SOURCES = {
    "ultrafeedback": [ultrafeedback, ultrafeedback_before_the_hub],
    "helpsteer": [lambda: helpsteer(first_version=True)],
    "helpsteer2": [helpsteer],
    "helpsteer2_preference": [helpsteer2_preference],
    "helpsteer3": [helpsteer3],
    "saferlhf": [saferlhf, lambda: saferlhf(with_severity=False), saferlhf_single_dimension],
    "binarized": [h4_binarized, trl_binarized, argilla_binarized, argilla_cleaned, skywork],
    "columns": [own_columns],
    "responses": [rated_on_the_whole],
    "lists": [distilabel, rated_responses],
}
