"""Signals as requests to stop."""

import signal

import pytest

from distill.errors import Interrupted
from distill.training.interruption import catch_interruption, raise_interrupted, raise_on_signals


def test_a_signal_becomes_a_request_and_handlers_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with catch_interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM
        with pytest.raises(Interrupted, match="interrupted by SIGTERM: all is saved") as caught:
            raise_interrupted(signal.SIGTERM, "all is saved")
    assert caught.value.exit_code == 143
    assert capfd.readouterr().err == "\nstopping: saves what is done first; a second Ctrl-C ends at once and loses it\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_terminal_that_closes_is_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.signal
        raise_on_signals()
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        raise_on_signals()
        with pytest.raises(Interrupted, match="interrupted by SIGHUP; nothing half-written was kept") as caught:
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert caught.value.exit_code == 129
