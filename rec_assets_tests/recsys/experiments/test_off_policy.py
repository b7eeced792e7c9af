"""Off-policy estimates beside a truth that is known, because the shoppers are made up."""

import itertools
from collections import Counter

import numpy as np
import pytest

from rec_assets.recsys.experiments.exploration import conditional_propensities, plackett_luce_weights
from rec_assets.recsys.experiments.off_policy import InsufficientData, LoggedAnswer, off_policy, rewards_expected

PLACES, PRODUCTS = 2, 5
CLICKED = np.array([0.5, 0.4, 0.2, 0.1, 0.05])  # chance that a product is clicked in the first place
SEEN = np.array([1.0, 0.6])  # of places
CHAMPION = np.array([0.5, 0.3, 0.4, 0.2, 0.3])  # scores
CHALLENGER = np.array([0.4, 0.5, 0.3, 0.2, 0.1])


def chances(score: np.ndarray, order: tuple[int, ...], exploration: float) -> np.ndarray:
    """Of each of the first places of an order of all products."""
    weight = plackett_luce_weights(score, exploration)
    return conditional_propensities(weight[list(order)])[:PLACES]


def truth(score: np.ndarray, exploration: float) -> float:
    """Clicks an answer, over all orders."""
    return float(
        sum(
            conditional_propensities(plackett_luce_weights(score, exploration)[list(order)]).prod()
            * (CLICKED[list(order[:PLACES])] * SEEN).sum()
            for order in itertools.permutations(range(PRODUCTS))
        )
    )


def by_order(exploration: float) -> dict[tuple[int, ...], tuple[np.ndarray, ...]]:
    """Of each order of all products: both models' chances, chances of clicks, and what the challenger hopes for."""
    target, found = plackett_luce_weights(CHALLENGER, exploration), {}
    for order in itertools.permutations(range(PRODUCTS)):
        hoped = []
        for place in range(PLACES):
            left = np.setdiff1d(np.arange(PRODUCTS), order[:place])
            hoped.append(float((target[left] / target[left].sum() * CLICKED[left]).sum() * SEEN[place]))
        both = [chances(score, order, exploration) for score in (CHAMPION, CHALLENGER)]
        found[order] = (*both, CLICKED[list(order[:PLACES])] * SEEN, np.array(hoped))
    return found


def answers(
    rng: np.random.Generator, count: int, *, exploration: float = 1.0, model: float = 1.0, units: int = 10**9
) -> list[LoggedAnswer]:
    """Of the champion. `model` is by how much the model of rewards is off; a unit's answers share their luck."""
    known, weight = by_order(exploration), plackett_luce_weights(CHAMPION, exploration)
    luck = rng.uniform(0.5, 1.5, min(units, count))
    orders = np.argsort(-(np.log(weight) + rng.gumbel(size=(count, PRODUCTS))), axis=1)
    draws, found = rng.random((count, PLACES)), []
    for number, order in enumerate(orders.tolist()):
        unit = number % len(luck)
        ours, theirs, clicked, hoped = known[tuple(order)]
        reward = (draws[number] < clicked * luck[unit]).astype(float)
        found.append(LoggedAnswer(str(unit), ours, theirs, reward, model * clicked, model * hoped, 1.0))
    return found


@pytest.mark.parametrize("model", [1.0, 0.3], ids=["a good model", "a bad model"])
def test_the_truth_lies_in_the_interval_in_90_of_100_runs_at_least(model: float) -> None:
    rng, inside, expected = np.random.default_rng(1), Counter[str](), truth(CHALLENGER, 1.0)
    for _ in range(100):
        estimates = off_policy(answers(rng, 1200, model=model, units=400)).estimates
        inside.update(way for way, each in estimates.items() if each.low <= expected <= each.high)
    assert len(inside) == 3 and min(inside.values()) >= 90


def test_a_good_model_makes_the_doubly_robust_estimate_the_surest() -> None:
    found = off_policy(answers(np.random.default_rng(2), 2000))
    width = {name: each.high - each.low for name, each in found.estimates.items()}
    assert width["doubly robust"] < width["IPS"]
    assert found.answers == 2000 and 200 < found.effective < 2000
    assert found.champion.low < truth(CHAMPION, 1.0) < found.champion.high


def test_the_champion_beside_itself_is_what_it_got() -> None:
    same = [
        LoggedAnswer(each.unit, each.propensity, each.propensity, each.reward, each.expected, each.hoped, 1.0)
        for each in answers(np.random.default_rng(3), 300)
    ]
    found = off_policy(same)
    assert found.effective == pytest.approx(300)
    assert found.estimates["IPS"].value == pytest.approx(found.champion.value)
    assert found.estimates["SNIPS"].value == pytest.approx(found.champion.value)


def test_too_little_to_go_by_is_refused() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(InsufficientData, match="150 answers are worth"):
        off_policy(answers(rng, 150))
    with pytest.raises(InsufficientData, match="are the least"):
        off_policy(answers(rng, 3000, exploration=0.1))  # nearly always the same order, and not the challenger's
    with pytest.raises(InsufficientData, match="no answer was given with a known chance"):
        off_policy([])
    foreign = [
        LoggedAnswer(each.unit, each.propensity, each.challenger, each.reward, each.expected, each.hoped, 0.7)
        for each in answers(rng, 2000)
    ]
    with pytest.raises(InsufficientData, match="30% of what the other model would show"):
        off_policy(foreign)


def test_rewards_are_foretold_by_other_units_answers() -> None:
    units = np.array([f"u{number}" for number in range(4000)])
    rng = np.random.default_rng(5)
    kind = rng.integers(0, 2, (4000, PLACES))
    reward = (rng.random((4000, PLACES)) < np.where(kind == 1, 0.4, 0.1) * SEEN).astype(float)
    expected, half = rewards_expected(reward, kind, units, kinds=3)
    assert 0.45 < half.mean() < 0.55
    for which in (0, 1):
        np.testing.assert_allclose(expected[which, :, :2], np.array([[0.1, 0.4], [0.06, 0.24]]), atol=0.05)
        other = reward[half != bool(which)].mean(axis=0)
        np.testing.assert_allclose(expected[which, :, 2], other)  # of a kind never seen, the place's mean
