"""Execution settings come from the environment and are checked there."""

import pytest

from distill.errors import ParamsError
from distill.execution import execution_from_environment


def test_defaults() -> None:
    execution = execution_from_environment({})
    assert (execution.device, execution.precision) == ("auto", "auto")
    assert execution.workers >= 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DISTILL_DEVICE", "gpu", "DISTILL_DEVICE: expected auto, cpu or cuda, found 'gpu'"),
        ("DISTILL_PRECISION", "fp8", "DISTILL_PRECISION: expected auto, fp32 or bf16, found 'fp8'"),
        ("DISTILL_WORKERS", "0", "DISTILL_WORKERS: expected auto or a whole number from 1 to 1024, found '0'"),
        ("DISTILL_WORKERS", "two", "DISTILL_WORKERS: expected auto or a whole number from 1 to 1024, found 'two'"),
    ],
)
def test_refusals(name: str, value: str, message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        execution_from_environment({name: value})
    assert str(caught.value) == message
