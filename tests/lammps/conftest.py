"""The compiled pair style, which every test of it loads."""

import pytest

from mlip.lammps.build import build


@pytest.fixture(scope="session")
def plugin():
    return build()
