"""The date of a model file."""

import re
import time

import pytest

from distill.errors import ParamsError
from distill.model_file.date import date_now, date_of


def test_it_is_now_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    before = date_of(time.time())
    assert before <= date_now() <= date_of(time.time() + 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", before)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert date_now() == "1970-01-02T00:00:00Z"


@pytest.mark.parametrize("wrong", ["", "tomorrow", "1e5", "9" * 30])
def test_a_wrong_date_is_a_sentence(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
    with pytest.raises(
        ParamsError, match=r"SOURCE_DATE_EPOCH: expected a date as whole seconds since 1970, found .*unset it"
    ):
        date_now()
