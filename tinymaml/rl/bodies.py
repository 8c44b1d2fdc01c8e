"""The half-cheetah and the ant as MuJoCo models, written from tables of their parameters.

Metres and kilograms; angles in radians for the cheetah, in degrees for the ant. The order
of limbs, joints and motors is that of observations and actions.

Source: the parameters of rllab's vendor/mujoco_models and Gymnasium's mujoco/assets, which
agree but for the ant's time step and contacts. Ours, compiled by the same MuJoCo, equal
Gymnasium's in every field that the simulation reads (tests/rl/test_bodies.py).
"""

from collections.abc import Sequence
from typing import Any


CHEETAH_MASS = 14.0  # of the whole body; the limbs' masses are scaled to it
Y = (0, 1, 0)  # the axis of every hinge of the cheetah

# Name, parent; x and z of the joint (from the parent's), its range, stiffness and damping,
# gear of its motor.
JOINTS = (
    ("bthigh", "torso", (-0.5, 0), (-0.52, 1.05), 240, 6, 120),
    ("bshin", "bthigh", (0.16, -0.25), (-0.785, 0.785), 180, 4.5, 90),
    ("bfoot", "bshin", (-0.28, -0.14), (-0.4, 0.785), 120, 3, 60),
    ("fthigh", "torso", (0.5, 0), (-1, 0.7), 180, 4.5, 120),
    ("fshin", "fthigh", (-0.14, -0.24), (-1.2, 0.87), 120, 3, 60),
    ("ffoot", "fshin", (0.13, -0.18), (-0.5, 0.5), 60, 1.5, 30),
)
# x and z of the centre (from the limb's joint; the head's from the torso's), angle about y,
# half of the length.
CAPSULES = {
    "head": (0.6, 0.1, 0.87, 0.15),
    "bthigh": (0.1, -0.13, -3.8, 0.145),
    "bshin": (-0.14, -0.07, -2.03, 0.15),
    "bfoot": (0.03, -0.097, -0.27, 0.094),
    "fthigh": (-0.07, -0.12, 0.52, 0.133),
    "fshin": (0.065, -0.09, -0.6, 0.106),
    "ffoot": (0.045, -0.07, -0.6, 0.07),
}
# Signs of x and y of each leg of the ant; the axis and the range of its ankle.
LEGS = (
    (1, 1, (-1, 1, 0), (30, 70)),
    (-1, 1, (1, 1, 0), (-70, -30)),
    (-1, -1, (-1, 1, 0), (-70, -30)),
    (1, -1, (1, 1, 0), (30, 70)),
)
MOTORS = (4, 1, 2, 3)  # the legs in the order of their motors


def element(tag: str, /, *inside: str, **attributes: Any) -> str:
    """Return an XML element; a tuple of numbers becomes a list."""
    text = ""
    for key, value in attributes.items():
        words = " ".join(map(str, value)) if isinstance(value, tuple) else value
        text += f' {key}="{words}"'
    return f"<{tag}{text}>{''.join(inside)}</{tag}>"


def cheetah() -> str:
    """Return the half-cheetah as MJCF, before its mass is set to CHEETAH_MASS.

    It moves in the x-z plane. Its first three coordinates are the torso's x, z and angle.
    """

    def capsule(name: str) -> str:
        x, z, angle, half = CAPSULES[name]
        turn = {"pos": (x, 0, z), "axisangle": (*Y, angle)}
        return element("geom", type="capsule", size=(0.046, half), **turn)

    def limbs(parent: str) -> str:
        return "".join(
            element(
                "body",
                element("joint", name=name, axis=Y, range=span, stiffness=k, damping=d),
                capsule(name),
                limbs(name),
                pos=(x, 0, z),
            )
            for name, above, (x, z), span, k, d, _ in JOINTS
            if above == parent
        )

    free = {"armature": 0, "damping": 0, "stiffness": 0, "limited": "false"}
    torso = element(
        "body",
        element("joint", type="slide", axis=(1, 0, 0), **free),
        element("joint", type="slide", axis=(0, 0, 1), **free),
        element("joint", axis=Y, **free),
        element("geom", type="capsule", fromto=(-0.5, 0, 0, 0.5, 0, 0), size=0.046),
        capsule("head"),
        limbs("torso"),
        name="torso",
        pos=(0, 0, 0.7),
    )
    limit = {"limited": "true", "solreflimit": (0.02, 1), "solimplimit": (0, 0.8, 0.03)}
    contact = {"friction": (0.4, 0.1, 0.1), "solref": (0.02, 1), "solimp": (0, 0.8, 0.01)}
    motors = [(name, gear) for name, *_, gear in JOINTS]
    defaults = {"armature": 0.1, **limit}, {"conaffinity": 0, "condim": 3, **contact}
    return _model(torso, motors, "radian", *defaults, timestep=0.01)


def ant(timestep: float, solimp: tuple[float, float, float]) -> str:
    """Return the ant as MJCF: a sphere with four legs, integrated by Runge and Kutta.

    timestep: in seconds; solimp: impedance of the contacts. rllab has 0.02 and
    (0.8, 0.8, 0.01), Gymnasium 0.01 and (0.9, 0.95, 0.001).
    Its first seven coordinates are the torso's position and quaternion.
    """

    def capsule(x: float, y: float) -> str:
        return element("geom", type="capsule", fromto=(0, 0, 0, x, y, 0), size=0.08)

    def leg(number: int, x: float, y: float, axis: tuple, span: tuple) -> str:
        hip = element("joint", name=f"hip_{number}", axis=(0, 0, 1), range=(-30, 30))
        ankle = element("joint", name=f"ankle_{number}", axis=axis, range=span)
        shin = element("body", ankle, capsule(2 * x, 2 * y), pos=(x, y, 0))
        thigh = element("body", hip, capsule(x, y), shin, pos=(x, y, 0))
        return element("body", capsule(x, y), thigh)

    free = {"armature": 0, "damping": 0, "limited": "false", "margin": 0.01}
    legs = enumerate(LEGS, 1)
    torso = element(
        "body",
        element("geom", type="sphere", size=0.25),
        element("joint", type="free", **free),
        *(leg(number, 0.2 * x, 0.2 * y, *ankle) for number, (x, y, *ankle) in legs),
        name="torso",
        pos=(0, 0, 0.75),
    )
    contact = {"friction": (1, 0.5, 0.5), "margin": 0.01, "solimp": solimp, "density": 5}
    motors = [(f"{joint}_{n}", 150) for n in MOTORS for joint in ("hip", "ankle")]
    defaults = {"armature": 1, "damping": 1, "limited": "true"}
    geoms = {"conaffinity": 0, "condim": 3, **contact}
    option = {"timestep": timestep, "integrator": "RK4"}
    # Without a sensor of accelerations MuJoCo does not compute the contact forces.
    sensor = element("framelinacc", objtype="body", objname="torso")
    return _model(torso, motors, "degree", defaults, geoms, sensor, **option)


def _model(
    torso: str,
    motors: Sequence[tuple[str, float]],
    angle: str,
    joints: dict[str, Any],
    geoms: dict[str, Any],
    *sensors: str,
    **option: Any,
) -> str:
    """Return a body on a floor. A simulation that breaks is left as it is, not reset."""
    motor = {"ctrllimited": "true", "ctrlrange": (-1, 1)}
    mass = (element(name, body="torso") for name in ("subtreecom", "subtreelinvel"))
    return element(
        "mujoco",
        element("compiler", angle=angle, inertiafromgeom="true"),
        element("option", element("flag", autoreset="disable"), **option),
        element("default", element("joint", **joints), element("geom", **geoms)),
        element(
            "worldbody",
            element("geom", type="plane", size=(40, 40, 40), conaffinity=1),
            torso,
        ),
        element(
            "actuator", *(element("motor", joint=j, gear=g, **motor) for j, g in motors)
        ),
        element("sensor", *mass, *sensors),
    )
