"""Orderly stops: on SIGTERM, SIGUSR1 and SIGINT a training saves its state and stops.

The deadline (``setitimer``) exists only on POSIX; elsewhere the training stops after the step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lunet.errors import Interrupted

DEADLINE_SECONDS = 4.0
Handler = Callable[[int, FrameType | None], None]


class StopRequest:
    """Whether a signal asked this process to stop, and which one.

    Before the first step, there is nothing new to save, and the process stops at once. If a step
    lasts longer than ``DEADLINE_SECONDS`` after the request, it stops in the middle of the step. In
    both cases the state on disk does not change. Otherwise the loop checks :attr:`pending` between
    steps, saves and stops.
    """

    def __init__(self) -> None:
        self._name: str | None = None
        self._can_save = False

    @property
    def pending(self) -> bool:
        """Whether a signal has arrived."""
        return self._name is not None

    def start_saving_on_request(self) -> None:
        """From now on there is progress to save: a signal waits for the end of the step."""
        self._can_save = True

    def cancel_deadline(self) -> None:
        """Saving or writing results has started: let it finish."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def interruption(self, where: object, saved: str) -> Interrupted:
        """The error to raise; ``saved`` describes what the next start resumes from."""
        action = "The same command resumes from there"
        return Interrupted(
            where=where, found=f"stopped by {self._name}, {saved}", expected="", action=action
        )

    def received(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self._name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._name = self._name or signal.Signals(number).name
        if not self._can_save:
            raise self.interruption("train", "nothing new to save")
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)

    def overdue(self, _number: int, _frame: FrameType | None) -> None:
        """Stop, because the step exceeded the deadline; the last saved state is kept."""
        raise self.interruption(
            "train", "in the middle of a long step; the last saved state is kept"
        )


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch the signals that ask to stop, and restore the former handlers at the end.

    Outside the main thread no handler can be set, so no signal is caught there.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.signal(number, handler) for number, handler in _handlers(request)}
    try:
        yield request
    finally:
        request.cancel_deadline()
        for number, handler in former.items():
            signal.signal(number, handler)


def _handlers(request: StopRequest) -> list[tuple[signal.Signals, Handler]]:
    names = ("SIGTERM", "SIGUSR1", "SIGINT")
    asked = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers: list[tuple[signal.Signals, Handler]] = [
        (number, request.received) for number in asked
    ]
    if hasattr(signal, "SIGALRM"):
        handlers.append((signal.SIGALRM, request.overdue))
    return handlers
