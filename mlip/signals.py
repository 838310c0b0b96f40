"""Signals that end a command: it stops where it is, says how to go on, and leaves the exit code that the shell expects."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class Stopped(BaseException):
    """A signal asked the command to end. No Exception: what catches the errors of an engine must not catch it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT raise Stopped inside the block; a signal that is ignored (nohup, a background job) stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def stop(number: int, frame) -> None:
        if os.getpid() != process:  # a forked worker ends as workers do
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
