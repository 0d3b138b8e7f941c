"""The prior's benchmark: shapes of the peers, figures of the training curves."""

import math
from dataclasses import replace

import pytest
import torch

from benchmarks.kills import Kills
from benchmarks.prior import PriorReport, PriorTrained
from benchmarks.prior_peers import Shape, peers
from benchmarks.prior_report import kills_section, prior_section, sampling_section, throughput_section
from benchmarks.sampling import Drawn, Made
from benchmarks.throughput import Throughput


class Small(Shape):
    width, layers, heads, codes, tokens, batch = 16, 2, 2, 8, 12, 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the peers
@pytest.mark.parametrize("name", sorted(peers()))
def test_peers_are_causal_language_models(name: str) -> None:
    torch.manual_seed(0)
    model = peers()[name](Small()).eval()
    tokens = torch.randint(8, (2, 12), generator=torch.Generator().manual_seed(0))
    before = model(tokens)
    assert before.shape == (2, 12, 8)
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 3) % 8
    after = model(changed)
    torch.testing.assert_close(after[:, :7], before[:, :7], rtol=0, atol=1e-5)
    assert not torch.allclose(after[:, 7:], before[:, 7:], atol=1e-4)


PLAN = PriorTrained("original plan", 19_000_000, ((10.0, 1400.0), (20.0, 1300.0), (30.0, 1350.0)), (20.0, 200.0))
OURS = PriorTrained("ours, seed 0", 1_150_000, ((1.0, 1450.0), (2.0, 1300.0), (3.0, 1040.0)), (4.0, 50.0))


def test_when_a_curve_reached_something() -> None:
    assert PLAN.best == (20.0, 1300.0)
    assert OURS.seconds_to(1300.0) == 2.0
    assert OURS.seconds_to(1000.0) == math.inf
    begun = replace(OURS, start=1100.0)
    assert begun.best == (3.0, 1040.0)
    assert begun.seconds_to(1300.0) == 0.0
    assert replace(OURS, start=1000.0).best == (0.0, 1000.0)


def test_tables_say_what_was_measured() -> None:
    report = PriorReport("digits", "large", 200, 3684, 327, 1500.0, 60.0, (PLAN, OURS), 0.8, 0.012, 1250.0)
    section = prior_section(report, "python -m benchmarks digits --prior")
    rows, costs = section.tables[0].rows, section.tables[1].rows
    assert rows[1] == ("ours, seed 0", "1.15 M", "1040", "-20.0%", "0.83", "–", "4.0, 50.0", "3 of 3", "2.0", "0.10")
    assert costs == (("0.80 s", "1.2% of a run"),)
    assert "codec trained for 60 s" in section.text
    assert "Counting alone takes 1250" in section.text
    speeds = (Throughput("ours, CodePrior", 8000.0, 17_000.0), Throughput("other", 8500.0, 16_000.0))
    section = throughput_section(speeds, "c")
    assert section.tables[0].rows[1] == ("other", "8500", "16000", "1.06", "2.00")
    assert "1.06" in section.text
    drawn = (
        Drawn("ours", {1: 1000.0, 16: 6000.0}, {1: 1.0, 16: 1.0}),
        Drawn("other", {1: 500.0, 16: 2000.0}, {1: 2.1, 16: 2.9}),
        Drawn("another", {1: 400.0, 16: 2500.0}, {1: 2.4, 16: 2.5}),
    )
    section = sampling_section(drawn, [Made("m.distill", {1: 10.0, 16: 70.0}, 2.04, 6.21)], "c")
    assert section.tables[0].rows[1] == ("other", "500", "2000", "2.10", "2.90")
    assert section.tables[1].rows == (("m.distill", "10.0", "70.0", "2.0 s", "6.2 s"),)
    assert "2.10 for 1, 2.50 for 16" in section.text
    assert kills_section(Kills(20, 90.0, True), "c").tables[0].rows == (("20", "90", "yes"),)
    assert kills_section(Kills(20, 90.0, False), "c").tables[0].rows[0][2] == "NO"
