"""The equations of the method in plain Python, one loop per sum, compared with the library on generated inputs."""

import math
from fractions import Fraction

import pytest
import torch
from datasets import Dataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

import pd_trl
from pd_trl import LengthBalancedSampler, PDFilter, preference_divergence
from pd_trl.method.length import adjusted_gap, balanced_shares, training_margin

CORRECTIONS = ["penalty", "residual", "none"]
generated = settings(max_examples=60, deadline=None, derandomize=True)


def quantile(values, gamma):
    """Linear interpolation between the two order statistics around position (n - 1)·γ."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * gamma
    below, above = math.floor(position), math.ceil(position)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def scale(gaps, aspects, k, gamma):
    """Eq. 13: q_k, over the pairs outside D_k only; a holistic label (-1) lies outside every D_k."""
    return quantile([abs(gaps[i][k]) for i in range(len(gaps)) if aspects[i] != k], gamma)


def normalised(gap, q):
    """Eq. 14."""
    return max(Fraction(-1), min(Fraction(1), gap / q))


def estimated_pd(row, own, scales, weights):
    """Eq. 15, with a weight per aspect."""
    return -sum(weights[k] * normalised(row[k], scales[k]) for k in range(len(row)) if k != own)


def negative_log_sigmoid(x):
    return math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x)) - x


@st.composite
def problems(draw, numbers, holistic=True):
    """Gaps and own aspects; rows 0 and 1 have different labels, so that Eq. 13 has pairs outside every D_k."""
    num_aspects, num_pairs = draw(st.integers(2, 4)), draw(st.integers(2, 16))
    row = st.lists(numbers, min_size=num_aspects, max_size=num_aspects)
    gaps = draw(st.lists(row, min_size=num_pairs, max_size=num_pairs))
    own = st.integers(-1 if holistic else 0, num_aspects - 1)
    return gaps, [0, 1, *draw(st.lists(own, min_size=num_pairs - 2, max_size=num_pairs - 2))]


# Two aspects always vote, so that no pair is without a vote.
some_weights = st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=3, max_size=3).map(
    lambda rest: [2.0, rest[0] or 1.0, *rest[1:]]
)


@generated
@given(problems(st.floats(-1000, 1000, width=32)), st.sampled_from(["0.1", "0.5", "0.75", "0.9", "1.0"]), some_weights)
def test_estimated_pd_is_equations_13_to_15(problem, gamma, weights):
    gaps, aspects = problem
    num_pairs, num_aspects, weights = len(gaps), len(gaps[0]), weights[: len(gaps[0])]
    exact = [[Fraction(gap) for gap in row] for row in gaps]
    scales = [scale(exact, aspects, k, Fraction(gamma)) for k in range(num_aspects)]
    assume(min(scales) > 1e-20)  # Eq. 14 divides by q_k.
    result = preference_divergence(gaps, aspects, gamma=float(gamma))
    weighted = preference_divergence(gaps, aspects, gamma=float(gamma), weights=weights)
    assert result.values.dtype == "float32" and result.values.shape == (num_pairs,)
    assert result.quantiles.tolist() == pytest.approx([float(q) for q in scales], rel=1e-5)
    for i in range(num_pairs):
        for pd, of_aspects in [(result, [1] * num_aspects), (weighted, list(map(Fraction, weights)))]:
            expected = estimated_pd(exact[i], aspects[i], scales, of_aspects)
            assert float(pd.values[i]) == pytest.approx(float(expected), rel=1e-5, abs=1e-5)
        expected = [float(normalised(gap, q)) for gap, q in zip(exact[i], scales, strict=True)]
        assert result.normalized_gaps[i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
        # |PD| is at most κ − 1 for the label of one aspect, κ for a holistic one.
        assert abs(float(result.values[i])) <= num_aspects - (aspects[i] >= 0) + 1e-5


@generated
@given(problems(st.floats(-1, 1, width=32)))
def test_pd_with_unit_scales_is_the_pd_term(problem):
    gaps, aspects = problem
    values = preference_divergence(gaps, aspects, quantiles=[1.0] * len(gaps[0])).values
    # Δφ_k(z) = −Σ_{k'≠k} [r_k'(x, y_w) − r_k'(x, y_l)]: nothing is clipped while the gaps are in [−1, 1].
    expected = [-sum(gap for k, gap in enumerate(row) if k != own) for row, own in zip(gaps, aspects, strict=True)]
    assert values.tolist() == pytest.approx(expected, abs=1e-5)


def test_estimated_pd_by_hand():
    # Four pairs, two aspects, γ = 0.5, i.e. medians.
    # q_0 over the pairs outside D_0 (rows 2, 3): |−4|, |1|        -> 2.5
    # q_1 over the pairs outside D_1 (rows 0, 1, 3): |3|, |−1|, |2| -> 2
    gaps = [[9.0, 3.0], [9.0, -1.0], [-4.0, 9.0], [1.0, 2.0]]
    result = preference_divergence(gaps, [0, 0, 1, -1], gamma=0.5)
    assert result.quantiles.tolist() == pytest.approx([2.5, 2.0])
    # Row 0: −clip(3/2) = −1. Row 1: −(−1/2) = 0.5. Row 2: −clip(−4/2.5) = 1. Row 3, holistic: −(1/2.5 + 2/2) = −1.4.
    assert result.values.tolist() == pytest.approx([-1.0, 0.5, 1.0, -1.4])
    # Weights 2 and 3: −3·1, 3·0.5, 2·1, −(2·0.4 + 3·1).
    weighted = preference_divergence(gaps, [0, 0, 1, -1], gamma=0.5, weights=[2.0, 3.0])
    assert weighted.values.tolist() == pytest.approx([-3.0, 1.5, 2.0, -3.8])


@generated
@given(st.lists(st.tuples(st.floats(-99, 99, width=32), st.integers(-500, 500)), min_size=1), st.floats(0, 1))
def test_adjusted_gap_is_equation_17(pairs, rho):
    for correction in CORRECTIONS:
        gaps = adjusted_gap([gap for gap, _ in pairs], [delta for _, delta in pairs], rho, correction)
        for (gap, delta), adjusted in zip(pairs, gaps.tolist(), strict=True):
            # The residual is absorbed in training and scores with the raw gap.
            expected = gap - rho * delta if correction == "penalty" else gap
            assert adjusted == pytest.approx(expected, rel=1e-5, abs=1e-4)


def preferences(gaps, aspects, ids):
    """The gap columns come in reverse order: the library sorts the aspects by name."""
    columns = {name: ["text"] * len(ids) for name in ("prompt", "chosen", "rejected")}
    columns |= {"pair_id": ids, "aspect": [f"aspect{own}" for own in aspects]}
    for k in reversed(range(len(gaps[0]))):
        columns[f"reward_gap_aspect{k}"] = [row[k] for row in gaps]
    return Dataset.from_dict(columns)


@generated
@given(
    # A coarse grid, so that equal PDs are common; ids of one and two digits, so that "10" sorts before "9".
    problems(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), holistic=False),
    st.permutations([str(i) for i in range(16)]),
    st.sampled_from(["0.07", "0.2", "0.3", "0.55", "0.7", "0.9"]),
    st.sampled_from(["0.9", "1.0"]),
    some_weights,
)
def test_selection_keeps_the_lowest_pd(problem, ids, budget, gamma, weights):
    gaps, aspects = problem
    ids, num_aspects = ids[: len(gaps)], len(gaps[0])
    exact = [[Fraction(gap) for gap in row] for row in gaps]
    scales = [scale(exact, aspects, k, Fraction(gamma)) for k in range(num_aspects)]
    assume(min(scales) > 0)
    pd = {ids[i]: estimated_pd(exact[i], aspects[i], scales, list(map(Fraction, weights))) for i in range(len(ids))}
    own_aspect = dict(zip(ids, aspects, strict=True))
    dataset, num_kept = preferences(gaps, aspects, ids), math.ceil(Fraction(budget) * len(ids))

    def select(**arguments):
        weight_of = {f"aspect{k}": weights[k] for k in range(num_aspects)}
        pd_filter = PDFilter(float(budget), gamma=float(gamma), weights=weight_of, **arguments)
        kept = pd_filter(dataset)["pair_id"][:]
        assert sorted([*kept, *pd_filter.dropped_["pair_id"]]) == sorted(ids)
        assert len(kept) == num_kept
        return set(kept)

    def assert_same(kept, expected):
        assert sorted(pd[pair_id] for pair_id in kept) == sorted(pd[pair_id] for pair_id in expected)
        if gamma == "1.0":  # Every q_k is a power of two: no rounding separates equal PDs.
            assert kept == set(expected)

    # Keep the top-λ of −PD; equal PDs in the order of their ids.
    lowest = sorted(ids, key=lambda pair_id: (pd[pair_id], pair_id))
    highest = sorted(ids, key=lambda pair_id: (-pd[pair_id], pair_id))
    assert_same(select(), lowest[:num_kept])
    assert_same(select(selector="pd_high"), highest[:num_kept])
    assert select(selector="random") == select(selector="random")
    kept = select(per_aspect=True)
    for k in range(num_aspects):
        of_aspect = [pair_id for pair_id in lowest if own_aspect[pair_id] == k]
        kept_of_aspect = kept.intersection(of_aspect)  # The same share of each aspect, up to rounding.
        assert abs(len(kept_of_aspect) - Fraction(num_kept * len(of_aspect), len(ids))) < 2
        assert_same(kept_of_aspect, of_aspect[: len(kept_of_aspect)])


def test_selection_by_hand():
    ids = [f"id{99 - i:02d}" for i in range(100)]
    dataset = preferences([[float(i), float(i)] for i in range(100)], [i % 2 for i in range(100)], ids)
    # γ = 1: q_0 = 99 (the odd rows), q_1 = 98 (the even rows), so PD is −i/98 for even i and −i/99 for odd i.
    # Rows 98 and 99 tie at −1; below them come 97/99 = .9798, 96/98 = .9796, 95/99 = .9596, 94/98 = .9592 and 93/99.
    # 0.07 · 100 is 7.000000000000001 in binary floating point, and 7 pairs in decimal.
    assert sorted(PDFilter(0.07, gamma=1.0)(dataset)["pair_id"]) == [f"id{i:02d}" for i in range(7)]
    assert PDFilter(0.01, gamma=1.0)(dataset)["pair_id"][:] == ["id00"]
    assert PDFilter(1.0, gamma=1.0)(dataset)["pair_id"][:] == ids


def test_ties_by_pair_id_by_hand():
    # γ = 1, every q_k = 3. Row 0: −(−1/3 + 3/3) = −2/3. Row 1: −(3/3 − 3/3) = 0. Row 2: −(0/3 + 2/3) = −2/3.
    dataset = preferences([[0.0, -1.0, 3.0], [3.0, -3.0, 0.0], [0.0, -1.0, 2.0]], [0, 2, 1], ["a", "b", "c"])
    assert PDFilter(0.33, gamma=1.0)(dataset)["pair_id"][:] == ["a"]


@generated
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.floats(0.05, 100), st.integers(0, 3))
@pytest.mark.filterwarnings("ignore")
def test_length_balanced_sampling(delta_lengths, tau, epoch):
    rows = list(LengthBalancedSampler(delta_lengths, tau, seed=7, epoch=epoch))
    assert rows == list(LengthBalancedSampler(delta_lengths, tau, seed=7, epoch=epoch))
    assert len(rows) == len(delta_lengths)
    # D_k⁺ holds the pairs whose chosen response is at least as long as the rejected one.
    longer = [i for i, delta in enumerate(delta_lengths) if delta >= 0]
    shorter = [i for i, delta in enumerate(delta_lengths) if delta < 0]
    a, b = (math.exp(len(side) / len(delta_lengths) / tau) for side in (longer, shorter))
    shares = balanced_shares(len(longer) / len(delta_lengths), tau)
    assert list(shares) == pytest.approx([a / (a + b), b / (a + b)], abs=1e-9)
    if longer and shorter:
        assert abs(sum(row in longer for row in rows) - len(rows) * a / (a + b)) < 1 + 1e-9
    for side in (longer, shorter):
        drawn = sum(row in side for row in rows)
        assert all(drawn // len(side) <= rows.count(i) <= math.ceil(drawn / len(side)) for i in side)


def test_length_balanced_sampling_by_hand():
    # 80 longer, 20 shorter, τ = 1: f̂⁺ = e^0.8 / (e^0.8 + e^0.2) = 2.2255 / (2.2255 + 1.2214) = 0.6457, so 64 or 65 of
    # the 100 rows are longer, each at most once, and the 20 shorter ones come once or twice.
    rows = list(LengthBalancedSampler([1] * 80 + [-1] * 20, 1.0, seed=0, epoch=0))
    assert sum(row < 80 for row in rows) in (64, 65)
    assert {rows.count(i) for i in range(80)} == {0, 1} and {rows.count(i) for i in range(80, 100)} == {1, 2}
    assert rows != list(LengthBalancedSampler([1] * 80 + [-1] * 20, 1.0, seed=0, epoch=1))


WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdefgh"]
ROWS = [
    {"prompt": "a b", "chosen": " c d e f", "rejected": " g", "pd": -1.5, "margin": 0.5},
    {"prompt": "b", "chosen": " h", "rejected": " a c e g h", "pd": 0.75, "margin": -0.25},
    {"prompt": "c d e", "chosen": " a a", "rejected": " b c", "pd": 0.0, "margin": 0.0},
    {"prompt": "f g", "chosen": " e d c b a h g", "rejected": " f f f", "pd": 2.0, "margin": 2.0},
]
ARGS = dict(per_device_train_batch_size=4, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none")


def train_loss(trainer_class, rows, args, *models):
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special)
    trainer = trainer_class(*models, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    (batch,) = trainer.get_train_dataloader()
    return trainer.compute_loss(trainer.model, batch).item()


def random_llama(model_class, seed, **arguments):
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return model_class(LlamaConfig(**shape, **ids, initializer_range=0.4, **arguments))


def logits_of(model, text):
    """Token ids and logits of one unpadded text."""
    ids = [WORDS.index(word) for word in [*text.split(), "<eos>"]]
    with torch.no_grad():
        return ids, model(input_ids=torch.tensor([ids])).logits[0].double().tolist()


def log_probability(model, prompt, completion):
    ids, logits = logits_of(model, prompt + completion)
    log_normalisers = [math.log(sum(math.exp(logit) for logit in row)) for row in logits]
    return sum(logits[i - 1][ids[i]] - log_normalisers[i - 1] for i in range(len(prompt.split()), len(ids)))


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("with_margin", [False, True])
def test_reward_loss_is_equations_11_and_16(correction, with_margin, tmp_path):
    rho = 0.3
    signed_rho = {"penalty": rho, "residual": -rho, "none": 0.0}[correction]
    assert training_margin(rho, correction) == signed_rho
    length = {"length_balance_temperature": None, "length_penalty": rho, "length_correction": correction}
    args = pd_trl.PDRewardConfig(tmp_path, margin_column="margin" if with_margin else None, **length, **ARGS)
    model = random_llama(LlamaForSequenceClassification, seed=0, num_labels=1)
    columns = ["prompt", "chosen", "rejected"] + ["margin"] * with_margin
    loss = train_loss(pd_trl.PDRewardTrainer, [{name: row[name] for name in columns} for row in ROWS], args, model)
    losses = []
    for row in ROWS:
        _, (reward_chosen,) = logits_of(model, row["prompt"] + row["chosen"])
        _, (reward_rejected,) = logits_of(model, row["prompt"] + row["rejected"])
        margin = row["margin"] * with_margin
        delta_length = len(row["chosen"].split()) - len(row["rejected"].split())
        losses.append(negative_log_sigmoid(reward_chosen - reward_rejected - margin - signed_rho * delta_length))
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("kappa,beta,divide_beta", [(4, 0.1, False), (2, 0.5, False), (4, 0.1, True)])
def test_dfpo_loss_is_equation_4(kappa, beta, divide_beta, tmp_path):
    args = pd_trl.PDDPOConfig(
        tmp_path, beta=beta, pd_loss="dfpo", pd_num_aspects=kappa, pd_divide_beta=divide_beta, **ARGS
    )
    policy, reference = random_llama(LlamaForCausalLM, seed=1), random_llama(LlamaForCausalLM, seed=2)
    rows = [{name: row[name] for name in ["prompt", "chosen", "rejected", "pd"]} for row in ROWS]
    loss = train_loss(pd_trl.PDDPOTrainer, rows, args, policy, reference)
    losses = []
    for row in ROWS:
        log_ratio = {}
        for side in ("chosen", "rejected"):
            log_ratio[side] = log_probability(policy, row["prompt"], row[side])
            log_ratio[side] -= log_probability(reference, row["prompt"], row[side])
        # M_θ(z) = β[log π_θ(y_w|x)/π_ref(y_w|x) − log π_θ(y_l|x)/π_ref(y_l|x)].
        margin = beta * (log_ratio["chosen"] - log_ratio["rejected"])
        losses.append(negative_log_sigmoid(kappa * (margin / kappa if divide_beta else margin) + row["pd"]))
    assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
