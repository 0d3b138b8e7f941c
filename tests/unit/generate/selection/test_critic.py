"""The critic: it tells two kinds of sounds apart as well as they differ, and is not fooled by what it was fitted to."""

import numpy as np
import pytest
from pydantic import ValidationError

from distill.generate.selection.critic import Critic, Likeness
from distill.generate.selection.traits import TRAITS


def sides(shift: float, decoded: int = 60, drafts: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Traits of two kinds, which differ in three of them."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((decoded, TRAITS)), rng.standard_normal((drafts, TRAITS))
    first[:, :3] += shift
    return first, second


def test_chance_is_told_as_chance_though_a_regression_could_learn_it_by_heart() -> None:
    assert Critic.fit(*sides(0.0)).auc == pytest.approx(0.5, abs=0.08)


def test_the_area_is_that_of_sounds_that_were_not_seen() -> None:
    critic = Critic.fit(*sides(1.0))
    own, others = ([one.score for one in critic(side)] for side in sides(1.0, 2000, 2000, seed=1))
    assert critic.auc == pytest.approx(np.mean(np.array(own)[:, None] > np.array(others)), abs=0.06)
    assert critic.auc > 0.75


def test_few_recordings_are_enough_for_one() -> None:
    critic = Critic.fit(*sides(2.0, decoded=2, drafts=20))
    assert 0 <= critic.auc <= 1
    assert np.isfinite([one.score for one in critic(sides(0.0)[0])]).all()


def test_half_of_recordings_score_below_the_median_of_recordings() -> None:
    first, second = sides(1.0, decoded=300)
    critic = Critic.fit(first, second)
    fresh, _ = sides(1.0, 1000, 1, seed=2)
    assert np.mean([one.above for one in critic(fresh)]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([one.above for one in critic(second)]) < 0.2


def test_a_file_gives_the_same_critic_back() -> None:
    critic = Critic.fit(*sides(1.0))
    again = Critic.model_validate_json(critic.model_dump_json())
    assert again == critic
    assert again(sides(1.0)[1]) == critic(sides(1.0)[1])


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("weights", [0.0] * (TRAITS - 1), "at least"),
        ("weights", [float("nan")] * TRAITS, "finite|equal to"),
        ("deviations", [0.0] * TRAITS, "greater than or equal to"),
        ("weights", [1e308] * TRAITS, "less than or equal to"),
        ("deviations", [5e-324] * TRAITS, "greater than or equal to"),
        ("recordings", [*map(float, range(20, -1, -1))], "rise"),
        ("auc", 1.5, "less than or equal to 1"),
    ],
)
def test_values_that_no_fit_gives_are_refused(name: str, value: object, problem: str) -> None:
    values = Critic.fit(*sides(1.0)).model_dump() | {name: value}
    with pytest.raises(ValidationError, match=problem):
        Critic.model_validate(values)


def test_words() -> None:
    assert Likeness(0.3, 0.68).in_words == "like your recordings: 7 of 10 score lower"
    assert Critic.fit(*sides(3.0)).line.startswith(
        "drafts are told from decoded recordings with an area under the curve of "
    )
