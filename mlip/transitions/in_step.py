"""Relaxations of several hops at once: in every step the structures of all of them are one call of the model."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ase import Atoms

from mlip.calculator import calculate_many


class Stopping(Exception):
    """Ends the tasks that wait for an answer when the calls have ended."""


class SharedCalculator:
    """Calculator of one task: its calls wait until every other task waits too, or has ended."""

    def __init__(self, meeting: "Meeting", task: int):
        self.meeting, self.task = meeting, task

    def calculate_many(self, structures: list[Atoms]) -> list[Atoms]:
        return self.meeting.answer(self.task, structures)


class Meeting:
    """Where tasks, each in its thread, meet to have their structures calculated in one call, in the order of the tasks."""

    def __init__(self, calculator, n_tasks: int):
        self.calculator, self.working = calculator, n_tasks
        self.asked: dict[int, list[Atoms]] = {}
        self.answers: dict[int, list[Atoms] | Exception] = {}
        self.ended = False
        self.changed = threading.Condition()

    def answer(self, task: int, structures: list[Atoms]) -> list[Atoms]:
        """What the calculator says to one task; raises what it raises for these structures alone."""
        with self.changed:
            self.asked[task] = structures
            self.working -= 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: task in self.answers or self.ended)
            if task not in self.answers:
                raise Stopping
            found = self.answers.pop(task)
        if isinstance(found, Exception):
            raise found
        return found

    def leave(self) -> None:
        """A task has ended."""
        with self.changed:
            self.working -= 1
            self.changed.notify_all()

    def serve(self) -> None:
        """Calculates until all tasks have ended."""
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.working == 0)
                    asked = dict(sorted(self.asked.items()))
                if not asked:
                    return
                answers = answer_all(self.calculator, asked)
                with self.changed:
                    self.asked.clear()
                    self.answers.update(answers)
                    self.working += len(answers)
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()


def answer_all(calculator, asked: dict[int, list[Atoms]]) -> dict[int, list[Atoms] | Exception]:
    """Results by task, of one call; if it is refused, each task gets its own answer or error."""
    try:
        every = iter(calculate_many(calculator, [atoms for structures in asked.values() for atoms in structures]))
        return {task: [next(every) for _ in structures] for task, structures in asked.items()}
    except ValueError:
        answers: dict[int, list[Atoms] | Exception] = {}
        for task, structures in asked.items():
            try:
                answers[task] = calculate_many(calculator, structures)
            except ValueError as error:  # atoms that overlap in one of them
                answers[task] = error
        return answers


def in_step(task: Callable[[Any, Any], Any], items: Sequence, calculator) -> list:
    """task(item, calculator) of every item, all at the same time; a ValueError takes the place of its result.

    The tasks see a calculator whose `calculate_many` answers all of them in one call of the given one, as often as the
    longest task asks. Same numbers as one after the other, but for the rounding of a larger batch. Other errors end all.
    """
    meeting, results = Meeting(calculator, len(items)), {}

    def work(number: int) -> None:
        try:
            results[number] = task(items[number], SharedCalculator(meeting, number))
        except BaseException as error:  # noqa: BLE001  raised again below, in the thread of the caller
            results[number] = error
        finally:
            meeting.leave()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(items))]
    for thread in threads:
        thread.start()
    try:
        meeting.serve()
    finally:
        for thread in threads:
            thread.join()
    for result in results.values():
        if isinstance(result, BaseException) and not isinstance(result, ValueError):
            raise result
    return [results[number] for number in range(len(items))]
