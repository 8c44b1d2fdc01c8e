"""The half-cheetah and the ant: their numbers, by hand and against Gymnasium's files."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tinymaml.rl import bodies
from tinymaml.rl.locomotion import ANTS, compiled


mujoco = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.batch")

FILES = {"cheetah": "half_cheetah.xml", "ant": "ant.xml"}
# What is seen, named or measured, and does not move a body.
SEEN = ("cam_", "light_", "mat_", "tex_", "name", "sensor_", "numeric_")
SIZES = {
    *("narena", "nbuffer", "ncam", "nlight", "nmat", "nnames", "nnames_map", "nnumeric"),
    *("nnumericdata", "nsensor", "nsensordata", "ntex", "ntexdata", "nuser_geom"),
    *("geom_matid", "geom_rgba", "geom_user", "signature"),
}


def numbers(thing):
    """Return the numbers and arrays of a MuJoCo structure by name."""
    found = {name: getattr(thing, name) for name in dir(thing) if name[0] != "_"}
    return {k: v for k, v in found.items() if isinstance(v, int | float | np.ndarray)}


def fields(model):
    """Return all that decides how a model moves."""
    kept = {
        name: value
        for name, value in numbers(model).items()
        if not name.startswith(SEEN) and name not in SIZES
    }
    return kept | {f"opt.{name}": value for name, value in numbers(model.opt).items()}


def theirs(body, rules, folder, monkeypatch):
    """Return the model of Gymnasium's file, with rllab's numbers if those are the rules."""
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.chdir(folder)  # MuJoCo logs there that the cheetah's file is deprecated
    assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    model = mujoco.MjModel.from_xml_path(str(assets / FILES[body]))
    if body == "ant" and rules == "rllab":
        model.opt.timestep = 0.02
        model.geom_solimp[:, :3] = 0.8, 0.8, 0.01
    return model


@pytest.mark.parametrize("rules", ["rllab", "gymnasium"])
@pytest.mark.parametrize("body", FILES)
def test_a_model_is_that_of_gymnasiums_file(tmp_path, monkeypatch, body, rules):
    """Rejects any wrong number, order or unit, in any field that the simulation reads."""
    ours, other = (
        fields(compiled(body, rules)),
        fields(theirs(body, rules, tmp_path, monkeypatch)),
    )
    assert len(ours) > 400
    assert {"body_inertia", "jnt_range", "dof_armature", "opt.timestep"} <= {*ours}
    changed = {name for name in ours if not np.array_equal(ours[name], other[name])}
    assert changed == {"opt.disableflags"}
    flags = other["opt.disableflags"] | mujoco.mjtDisableBit.mjDSBL_AUTORESET
    assert ours["opt.disableflags"] == flags


@pytest.mark.parametrize(
    ("body", "sizes"), [("cheetah", (9, 9, 6, 8)), ("ant", (15, 14, 8, 14))]
)
def test_sizes(body, sizes):
    """Rejects a limb or a joint more or less."""
    for rules in ANTS:
        model = compiled(body, rules)
        assert (model.nq, model.nv, model.nu, model.nbody) == sizes


def test_the_cheetahs_numbers():
    """Rejects the mass of the default density, and numbers of another limb."""
    model = compiled("cheetah", "rllab")
    masses = [0, 6.2502, 1.5435, 1.5874, 1.0954, 1.4381, 1.2008, 0.8845]
    np.testing.assert_allclose(model.body_mass, masses, atol=1e-4)
    assert model.body_mass.sum() == pytest.approx(14, abs=1e-12)
    assert model.body_subtreemass[1] == pytest.approx(14, abs=1e-12)  # by mj_setConst
    names = [model.joint(i).name for i in model.actuator_trnid[:, 0]]
    assert names == ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]
    assert model.actuator_gear[:, 0].tolist() == [120, 90, 60, 120, 60, 30]
    assert model.jnt_range[3:].tolist() == [
        *([-0.52, 1.05], [-0.785, 0.785], [-0.4, 0.785]),
        *([-1, 0.7], [-1.2, 0.87], [-0.5, 0.5]),
    ]
    assert model.jnt_stiffness[3:].tolist() == [240, 180, 120, 180, 120, 60]
    assert model.dof_damping[3:].tolist() == [6, 4.5, 3, 4.5, 3, 1.5]
    assert model.jnt_limited.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert model.dof_armature.tolist() == [0, 0, 0, *[0.1] * 6]
    assert not model.jnt_stiffness[:3].any()
    assert model.opt.timestep == 0.01
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER


@pytest.mark.parametrize(
    ("rules", "timestep", "solimp"),
    [("rllab", 0.02, (0.8, 0.8, 0.01)), ("gymnasium", 0.01, (0.9, 0.95, 0.001))],
)
def test_the_ants_numbers(rules, timestep, solimp):
    """Rejects degrees read as radians, two legs exchanged, motors in the order of legs."""
    model = compiled("ant", rules)
    ankles = np.deg2rad([[30, 70], [-70, -30], [-70, -30], [30, 70]])
    np.testing.assert_allclose(model.jnt_range[2::2], ankles)
    np.testing.assert_allclose(model.jnt_range[1::2], np.deg2rad([[-30, 30]] * 4))
    assert (model.actuator_gear[:, 0] == 150).all()
    assert (model.actuator_ctrlrange == (-1, 1)).all()
    assert model.actuator_ctrllimited.all()
    driven = [model.joint(i).name for i in model.actuator_trnid[:, 0]]
    assert driven == [f"{part}_{leg}" for leg in (4, 1, 2, 3) for part in ("hip", "ankle")]
    axes = np.array([(-1, 1), (1, 1), (-1, 1), (1, 1)]) / np.sqrt(2)
    np.testing.assert_allclose(model.jnt_axis[2::2, :2], axes)
    feet = [model.body(model.jnt_bodyid[j]).pos[:2].tolist() for j in (2, 4, 6, 8)]
    assert feet == [[0.2, 0.2], [-0.2, 0.2], [-0.2, -0.2], [0.2, -0.2]]
    assert model.body_mass[1] == pytest.approx(0.327249, abs=1e-6)
    assert model.body_mass.sum() == pytest.approx(0.910880, abs=1e-6)
    assert model.opt.timestep == timestep
    assert (model.geom_solimp[:, :3] == solimp).all()
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4


@pytest.mark.parametrize("rules", ANTS)
@pytest.mark.parametrize("body", FILES)
def test_a_simulation_that_breaks_is_not_begun_anew(body, rules):
    """Rejects MuJoCo's reset to the start, after which a broken trajectory goes on."""
    flags = compiled(body, rules).opt.disableflags
    assert flags & mujoco.mjtDisableBit.mjDSBL_AUTORESET


def test_an_element_is_xml():
    """Rejects a tuple in Python's form, and an element whose content is lost."""
    text = bodies.element("a", bodies.element("b", size=(1, 0.5)), name="x", pos=2)
    a = ElementTree.fromstring(text)
    assert (a.tag, a.attrib, len(a)) == ("a", {"name": "x", "pos": "2"}, 1)
    assert (a[0].tag, a[0].attrib) == ("b", {"size": "1 0.5"})
