"""The page of a sampling: what it draws of rounds that have little to show."""

from mlip.sampling.convergence import Limits
from mlip.sampling.errors import ValidationErrors
from mlip.sampling.history import plot_all
from mlip.sampling.store import RoundRecord


def record(labels: int) -> RoundRecord:
    kinds = {"md": labels} if labels else {}
    return RoundRecord(0, labels, labels, kinds, 0, ValidationErrors(0.0, 0.0), None, {}, {}, {})


def test_a_round_of_the_student_alone_has_no_bars_of_labels():
    assert "labels_by_kind" not in plot_all([record(0)], Limits())
    assert "labels_by_kind" in plot_all([record(4)], Limits())
