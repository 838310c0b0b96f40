"""Barriers in three numbers, where all three are known."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from corrugated import PERIOD, Corrugated, crystal

from mlip import keys
from mlip.calculator import calculate_many
from mlip.data.structures import write
from mlip.evaluation.static import bands, barriers

MODEL, DFT = 0.30, 0.42  # eV


def ends():
    start, end = crystal(), crystal()
    end.positions[0, 0] += PERIOD
    return start, end


def dft_path():
    images = [crystal() for _ in range(7)]
    for image, x in zip(images, np.linspace(0, PERIOD, 7), strict=True):
        image.positions[0, 0] += x
        copy = image.copy()
        copy.calc = Corrugated(DFT)
        image.info[keys.REF_ENERGY] = copy.get_potential_energy() - 100.0
    return images


def values(section):
    return {r.name: r.value for r in section.results}


def test_three_numbers_of_a_hop_are_the_barriers_of_model_and_dft():
    hop = barriers.Hop("along", *ends(), dft_path())
    section = barriers.Barriers([hop], label=lambda many: calculate_many(Corrugated(DFT), many)).evaluate(
        Corrugated(MODEL)
    )
    found = values(section)
    assert found["barrier_dft"] == pytest.approx(DFT)
    assert found["barrier_fixed_images"] == pytest.approx(MODEL)  # A
    assert found["barrier_own"] == pytest.approx(MODEL, abs=2e-3)  # B
    assert found["barrier_own_reverse"] == pytest.approx(MODEL, abs=2e-3)
    assert found["barrier_dft_on_own_saddle"] == pytest.approx(DFT, abs=2e-3)  # C
    assert found["barrier_own_error"] == pytest.approx(MODEL - DFT, abs=4e-3)
    assert section.notes == []
    assert list(barriers.Barriers.figures(section.data)) == ["barrier_0"]


def test_a_file_of_bands_is_as_many_hops_and_their_errors_have_a_mean(tmp_path):
    write(tmp_path / "bands.xyz", named("a", dft_path(), 0.0) + named("b", dft_path(), 0.06))
    section = barriers.Barriers([{"bands": str(tmp_path / "bands.xyz")}], n_hops=0).evaluate(Corrugated(MODEL))
    mae = {r.conditions["path"]: r for r in section.results if r.name == "barrier_mae"}
    assert list(section.data["hops"]) == ["a", "b"] and mae["own path"].conditions["hops"] == 2
    assert mae["DFT images"].value == pytest.approx(1e3 * (DFT - MODEL + 0.03))  # the mean of 0.12 and 0.18
    assert mae["own path"].value == pytest.approx(1e3 * (DFT - MODEL + 0.03), abs=4)
    drawn = barriers.Barriers.figures(section.data)
    assert list(drawn) == ["parity", "barrier_0", "barrier_1"]
    assert "MAE 150 meV, 2 hops" in drawn["parity"].axes[0].get_legend_handles_labels()[1][0]
    write(tmp_path / "unnamed.xyz", dft_path())
    write(tmp_path / "short.xyz", named("c", dft_path()[:2], 0.0))
    for name, said in (("unnamed", "has no `hop`"), ("short", "hop c of .* has 2 images")):
        with pytest.raises(ValueError, match=said):
            bands.read_hops({"bands": str(tmp_path / f"{name}.xyz")})


def test_barriers_that_dft_has_labelled_on_their_own_saddles_have_a_mean_error_too():
    section = barriers.Barriers(
        [barriers.Hop(name, *ends()) for name in "ab"], label=lambda many: calculate_many(Corrugated(DFT), many)
    ).evaluate(Corrugated(MODEL))
    (mae,) = (r for r in section.results if r.name == "barrier_mae")
    assert mae.conditions == {"path": "own saddles", "hops": 2}
    assert mae.value == pytest.approx(1e3 * (DFT - MODEL), abs=4)
    assert (
        "MAE 120 meV, 2 hops"
        in barriers.Barriers.figures(section.data)["parity"].axes[0].get_legend_handles_labels()[1][0]
    )


def named(hop, images, higher):
    """The band with a name, its middle raised by an energy."""
    for image in images:
        image.info["hop"] = hop
    if len(images) > 3:
        images[3].info[keys.REF_ENERGY] += higher
    return images


def test_hops_come_from_files_and_saddles_without_labels_wait_in_a_file(tmp_path):
    write(tmp_path / "path.xyz", dft_path())
    section = barriers.Barriers([{"name": "h", "images": str(tmp_path / "path.xyz")}], folder=tmp_path).evaluate(
        Corrugated(MODEL)
    )
    assert values(section)["barrier_fixed_images_error"] == pytest.approx(MODEL - DFT)
    waiting = ase.io.read(tmp_path / barriers.TO_LABEL, ":")
    assert [atoms.info["role"] for atoms in waiting] == ["start", "saddle", "end"]
    assert waiting[1].positions[0, 0] == pytest.approx(PERIOD / 2, abs=0.02)
    assert "number C is open" in section.notes[0]


def test_ends_that_fall_together_have_no_barrier_but_the_next_hop_has():
    start, end = ends()
    near = start.copy()
    near.positions[0, 0] += 0.2 * PERIOD  # rolls back
    section = barriers.Barriers([barriers.Hop("none", start, near), barriers.Hop("real", start, end)]).evaluate(
        Corrugated(MODEL)
    )
    first, second = (r for r in section.results if r.name == "barrier_own")
    assert first.value is None
    assert first.verdict == "fail"
    assert second.value == pytest.approx(MODEL, abs=2e-3)


def test_the_shortest_vacancy_hops_of_a_crystal_are_found_by_symmetry():
    section = barriers.Barriers(atoms=bulk("Cu", a=3.59, cubic=True).repeat((2, 2, 1)), species="Cu", max_length_A=3.0,
                                n_hops=1, n_images=5, fmax=0.1).evaluate(EMT())  # fmt: skip
    found = values(section)
    assert found["barrier_own"] == pytest.approx(found["barrier_own_reverse"], abs=1e-3)
    assert 0.4 < found["barrier_own"] < 1.2


def test_a_hop_must_be_given_and_a_path_labelled():
    with pytest.raises(ValueError, match="no hop was given"):
        barriers.Barriers().evaluate(EMT())
    with pytest.raises(ValueError, match="give species"):
        barriers.Barriers(atoms=bulk("Cu")).evaluate(EMT())
    with pytest.raises(ValueError, match="start and end or with images"):
        bands.read_hops({"start": "a.xyz"})
    bare = dft_path()
    del bare[3].info[keys.REF_ENERGY]
    with pytest.raises(ValueError, match="no DFT energy"):
        barriers.Barriers([barriers.Hop("bare", *ends(), bare)]).evaluate(Corrugated(MODEL))


def test_a_barrier_of_a_model_with_uncertainty_has_an_interval_and_its_rate_a_factor():
    class Uncertain(Corrugated):
        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            rise = 0.5 * (1 - np.cos(2 * np.pi * atoms.positions[0, 0] / PERIOD))
            self.results[keys.ENERGY_SPREAD] = np.array([7.0, 0.02 * rise])  # 7 eV that start and saddle share

    found = {r.name: r for r in barriers.Barriers([barriers.Hop("along", *ends())]).evaluate(Uncertain(MODEL)).results}
    for name in ("barrier_own", "barrier_own_reverse"):
        assert (found[name].low, found[name].high) == pytest.approx((MODEL - 0.04, MODEL + 0.04), abs=2e-3)
    assert found["hop_rate_factor"].value == pytest.approx(np.exp(0.04 / 0.025852), rel=0.01)
    without = {
        r.name: r for r in barriers.Barriers([barriers.Hop("along", *ends())]).evaluate(Corrugated(MODEL)).results
    }
    assert without["barrier_own"].low is None and "hop_rate_factor" not in without
