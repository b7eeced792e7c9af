"""Off-policy estimates compared with the known true value of simulated shoppers."""

import itertools
from collections import Counter

import numpy as np
import pytest

from rec_assets.recsys.experiments.exploration import conditional_propensities, plackett_luce_weights
from rec_assets.recsys.experiments.off_policy import (
    InsufficientData,
    LoggedResponse,
    estimate_off_policy,
    fit_reward_model,
)

RANKS, PRODUCTS = 2, 5
CLICKED = np.array([0.5, 0.4, 0.2, 0.1, 0.05])  # probability of a click on each product at rank 1
SEEN = np.array([1.0, 0.6])  # probability that a shopper sees each rank
LOGGED = np.array([0.5, 0.3, 0.4, 0.2, 0.3])  # scores
TARGET = np.array([0.4, 0.5, 0.3, 0.2, 0.1])


def propensities(score: np.ndarray, order: tuple[int, ...], exploration: float) -> np.ndarray:
    """Propensities of the first ranks of an order of all products."""
    weight = plackett_luce_weights(score, exploration)
    return conditional_propensities(weight[list(order)])[:RANKS]


def truth(score: np.ndarray, exploration: float) -> float:
    """Mean clicks of a response, over all orders."""
    return float(
        sum(
            conditional_propensities(plackett_luce_weights(score, exploration)[list(order)]).prod()
            * (CLICKED[list(order[:RANKS])] * SEEN).sum()
            for order in itertools.permutations(range(PRODUCTS))
        )
    )


def by_order(exploration: float) -> dict[tuple[int, ...], tuple[np.ndarray, ...]]:
    """For each order: propensities of both models, click probabilities, and those of the target model's choice."""
    target, found = plackett_luce_weights(TARGET, exploration), {}
    for order in itertools.permutations(range(PRODUCTS)):
        target_expected = []
        for rank in range(RANKS):
            left = np.setdiff1d(np.arange(PRODUCTS), order[:rank])
            target_expected.append(float((target[left] / target[left].sum() * CLICKED[left]).sum() * SEEN[rank]))
        both = [propensities(score, order, exploration) for score in (LOGGED, TARGET)]
        found[order] = (*both, CLICKED[list(order[:RANKS])] * SEEN, np.array(target_expected))
    return found


def responses(
    rng: np.random.Generator, count: int, *, exploration: float = 1.0, model: float = 1.0, units: int = 10**9
) -> list[LoggedResponse]:
    """Responses of the logged model. `model` scales the reward model; responses of a unit are correlated."""
    known, weight = by_order(exploration), plackett_luce_weights(LOGGED, exploration)
    luck = rng.uniform(0.5, 1.5, min(units, count))
    orders = np.argsort(-(np.log(weight) + rng.gumbel(size=(count, PRODUCTS))), axis=1)
    draws, found = rng.random((count, RANKS)), []
    for number, order in enumerate(orders.tolist()):
        unit = number % len(luck)
        ours, theirs, clicked, target_expected = known[tuple(order)]
        reward = (draws[number] < clicked * luck[unit]).astype(float)
        found.append(LoggedResponse(str(unit), ours, theirs, reward, model * clicked, model * target_expected, 1.0))
    return found


@pytest.mark.integration
@pytest.mark.parametrize("model", [1.0, 0.3], ids=["a good model", "a bad model"])
def test_at_least_90_of_100_intervals_contain_the_true_value(model: float) -> None:
    rng, inside, expected = np.random.default_rng(1), Counter[str](), truth(TARGET, 1.0)
    for _ in range(100):
        estimates = estimate_off_policy(responses(rng, 1200, model=model, units=400)).estimates
        inside.update(name for name, each in estimates.items() if each.low <= expected <= each.high)
    assert len(inside) == 3 and min(inside.values()) >= 90


def test_with_a_good_reward_model_doubly_robust_has_the_narrowest_interval() -> None:
    found = estimate_off_policy(responses(np.random.default_rng(2), 2000))
    width = {name: each.high - each.low for name, each in found.estimates.items()}
    assert width["doubly robust"] < width["IPS"]
    assert found.responses == 2000 and 200 < found.effective_responses < 2000
    assert found.logged.low < truth(LOGGED, 1.0) < found.logged.high


def test_the_estimate_of_the_logged_model_is_its_logged_reward() -> None:
    same = [
        LoggedResponse(
            each.unit, each.propensity, each.propensity, each.reward, each.expected, each.target_expected, 1.0
        )
        for each in responses(np.random.default_rng(3), 300)
    ]
    found = estimate_off_policy(same)
    assert found.effective_responses == pytest.approx(300)
    assert found.estimates["IPS"].value == pytest.approx(found.logged.value)
    assert found.estimates["SNIPS"].value == pytest.approx(found.logged.value)


def test_insufficient_data_is_rejected() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(InsufficientData, match="150 responses have an effective sample size"):
        estimate_off_policy(responses(rng, 150))
    with pytest.raises(InsufficientData, match="200 are needed"):
        estimate_off_policy(responses(rng, 3000, exploration=0.1))  # almost always the order of the logged model
    with pytest.raises(InsufficientData, match="no response has a known propensity"):
        estimate_off_policy([])
    unsupported = [
        LoggedResponse(
            each.unit,
            each.propensity,
            each.target_propensity,
            each.reward,
            each.expected,
            each.target_expected,
            0.7,
        )
        for each in responses(rng, 2000)
    ]
    with pytest.raises(InsufficientData, match="30% of what the other model would show"):
        estimate_off_policy(unsupported)


def test_rewards_are_predicted_from_other_units() -> None:
    units = np.array([f"u{number}" for number in range(4000)])
    rng = np.random.default_rng(5)
    group = rng.integers(0, 2, (4000, RANKS))
    reward = (rng.random((4000, RANKS)) < np.where(group == 1, 0.4, 0.1) * SEEN).astype(float)
    expected, half = fit_reward_model(reward, group, units, groups=3)
    assert 0.45 < half.mean() < 0.55
    for which in (0, 1):
        np.testing.assert_allclose(expected[which, :, :2], np.array([[0.1, 0.4], [0.06, 0.24]]), atol=0.05)
        other = reward[half != bool(which)].mean(axis=0)
        np.testing.assert_allclose(expected[which, :, 2], other)  # a group without data has the mean of the rank
