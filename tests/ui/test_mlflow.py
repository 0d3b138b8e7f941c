"""MLflow's page in a real browser, driven as docs/comparing-runs.md says: runs told apart, their best values, curves."""

from collections.abc import Iterator
from typing import Any

import pytest
from docs import experiments

from distill.training.events import Epoch
from distill.training.mlflow_store import VIEW
from distill.training.tracking import Tracker
from programs import environment

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations are not ours
WIDTHS = {"": 128, "width-64": 64, "width-96": 96, "width-192": 192}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's page of a folder with a prior and three experiments that differ from it in two settings."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, width in WIDTHS.items():
            patch.setenv("DVC_EXP_NAME", name)
            settings = {"hidden_size": width, "label_smoothing": 0.4 if name else 0.0}
            with Tracker(folder, "train_prior", f"f00d{width}", settings, derived={"label_smoothing"}) as tracker:
                for epoch in range(3):
                    tracker(Epoch(epoch, {"val_perplexity": width / (1 + epoch)}, 1e-3, 1.0, 1.0, 0.0))
                tracker.log_best({"val_bits_per_second": width * 2, "val_perplexity": width / 3, "epoch": 2}, {})
    with experiments.mlflow_page(folder, environment()) as served:
        yield served


def test_mlflow_shows_experiments_apart_with_best_values_and_curves(browser: Any, address: str) -> None:
    tab = browser.new_page(viewport={"width": experiments.WIDTH, "height": experiments.HEIGHT})
    experiments.open_runs(tab, address, len(WIDTHS))
    experiments.choose_columns(tab, "best/epoch", "best/val_perplexity")
    names = [text for text in tab.locator("[role=gridcell] a").all_inner_texts() if "train_prior" in text]
    first = {name.split()[0] for name in names}  # MLflow shows little more
    assert first == {"train_prior", "hidden_size=64", "hidden_size=96", "hidden_size=192"}
    best = tab.locator("[role=gridcell][col-id*='best/val_perplexity']").all_inner_texts()
    assert sorted(map(float, best)) == sorted(width / 3 for width in WIDTHS.values())
    experiments.open_chart(tab, "val_perplexity")
    assert {text.partition(" (")[0] for text in tab.get_by_text(" (val_perplexity)").all_inner_texts()} == set(names)
    experiments.open_parallel_coordinates(tab, "hidden_size", "best/val_perplexity")
    tab.close()


def test_the_link_of_make_mlflow_shows_the_best_runs_first_and_asks_for_nothing(browser: Any, address: str) -> None:
    """No page before it: MLflow's first one says that it collects usage data."""
    tab = browser.new_page(viewport={"width": 1600, "height": experiments.HEIGHT})
    tab.goto(f"{address}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey={VIEW}")
    tab.get_by_text(f"{len(WIDTHS)} matching runs").wait_for(timeout=1000 * experiments.SECONDS)
    cells = tab.locator("[role=gridcell][col-id*='best/val_bits_per_second']")
    cells.first.wait_for(timeout=1000 * experiments.SECONDS)
    assert list(map(float, cells.all_inner_texts())) == sorted(width * 2 for width in WIDTHS.values())
    shown = tab.inner_text("body")
    assert "best/val_perplexity" in shown
    assert "usage data" not in shown
    tab.close()
