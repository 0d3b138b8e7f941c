"""A model that makes sounds with a pitch."""

from pathlib import Path

import pytest

import distill
from distill.api import Model
from unit.pitched import write_pitched_model


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pitched_model(tmp_path_factory.mktemp("model") / "a.distill")


@pytest.fixture(scope="session")
def model(path: Path) -> Model:
    return distill.load(path)
