"""Component and vector errors of known vectors."""

import numpy as np
import pytest

from mlip import error_metrics


def test_the_vector_rmse_is_sqrt_3_times_that_of_a_component_and_both_are_what_they_say():
    error = np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
    assert error_metrics.component_mae(error) == pytest.approx(7 / 6)
    assert error_metrics.component_rmse(error) == pytest.approx(np.sqrt(25 / 6))
    assert error_metrics.vector_mae(error) == pytest.approx(2.5)
    assert error_metrics.vector_rmse(error) == pytest.approx(np.sqrt(3) * error_metrics.component_rmse(error))
    assert error_metrics.rmse_of_sums(25.0, 6) == pytest.approx(error_metrics.component_rmse(error))


def test_only_the_component_errors_depend_on_the_axes():
    error = np.random.default_rng(0).normal(size=(50, 3))
    turned = error @ np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    assert error_metrics.vector_mae(turned) == pytest.approx(error_metrics.vector_mae(error))
    assert error_metrics.component_rmse(turned) == pytest.approx(error_metrics.component_rmse(error))
    assert error_metrics.component_mae(turned) != pytest.approx(error_metrics.component_mae(error), rel=1e-6)
