"""The half-cheetah and the ant as MuJoCo models, written from tables of their parameters.

Lengths are in metres, masses in kilograms, angles in radians for the cheetah and in degrees
for the ant. The order of limbs, joints and motors is that of observations and actions.

Source: the parameters of rllab's vendor/mujoco_models and Gymnasium's mujoco/assets, which
agree but for the ant's time step and contacts. Compiled by one MuJoCo, the models have
Gymnasium's numbers in every field that the simulation reads (tests/rl/test_bodies.py).
"""

from typing import Any, NamedTuple


CHEETAH_MASS = 14.0  # of the whole body; the limbs' masses are scaled to it


class Limb(NamedTuple):
    """A capsule of the cheetah, with the hinge at which it hangs and its motor."""

    name: str
    parent: str
    joint: tuple[float, float]  # x, z in the parent
    least: float
    most: float
    stiffness: float
    damping: float
    gear: float
    centre: tuple[float, float]  # x, z from the joint
    angle: float
    half: float  # half the length


LIMBS = (
    Limb("bthigh", "torso", (-0.5, 0), -0.52, 1.05, 240, 6, 120, (0.1, -0.13), -3.8, 0.145),
    Limb(
        *("bshin", "bthigh", (0.16, -0.25), -0.785, 0.785, 180, 4.5, 90),
        *((-0.14, -0.07), -2.03, 0.15),
    ),
    Limb(
        *("bfoot", "bshin", (-0.28, -0.14), -0.4, 0.785, 120, 3, 60),
        *((0.03, -0.097), -0.27, 0.094),
    ),
    Limb("fthigh", "torso", (0.5, 0), -1, 0.7, 180, 4.5, 120, (-0.07, -0.12), 0.52, 0.133),
    Limb(
        *("fshin", "fthigh", (-0.14, -0.24), -1.2, 0.87, 120, 3, 60),
        *((0.065, -0.09), -0.6, 0.106),
    ),
    Limb(
        *("ffoot", "fshin", (0.13, -0.18), -0.5, 0.5, 60, 1.5, 30),
        *((0.045, -0.07), -0.6, 0.07),
    ),
)


class Leg(NamedTuple):
    """A leg of the ant: where it points, and the axis and range of its ankle."""

    x: int
    y: int
    axis: tuple[int, int]
    least: float
    most: float


LEGS = (
    Leg(1, 1, (-1, 1), 30, 70),
    Leg(-1, 1, (1, 1), -70, -30),
    Leg(-1, -1, (-1, 1), -70, -30),
    Leg(1, -1, (1, 1), 30, 70),
)
MOTORS = (3, 0, 1, 2)  # the legs in the order of their motors


def element(tag: str, /, *inside: str, **attributes: Any) -> str:
    """Return an XML element; a tuple of numbers becomes a list."""
    words = {
        key: " ".join(map(str, value)) if isinstance(value, tuple) else value
        for key, value in attributes.items()
    }
    text = "".join(f' {key}="{value}"' for key, value in words.items())
    return f"<{tag}{text}>{''.join(inside)}</{tag}>" if inside else f"<{tag}{text}/>"


def cheetah() -> str:
    """Return the half-cheetah as MJCF, before its mass is set to CHEETAH_MASS.

    It moves in the x-z plane. Its first three coordinates are the torso's x, z and angle.
    """
    hinge, radius = {"axis": (0, 1, 0), "type": "hinge"}, 0.046

    def capsule(centre: tuple[float, float], angle: float, half: float) -> str:
        pos, turn = (centre[0], 0, centre[1]), (0, 1, 0, angle)
        return element("geom", type="capsule", pos=pos, axisangle=turn, size=(radius, half))

    def limb(one: Limb) -> str:
        bounds = {"stiffness": one.stiffness, "damping": one.damping}
        return element(
            "body",
            element("joint", name=one.name, range=(one.least, one.most), **bounds, **hinge),
            capsule(one.centre, one.angle, one.half),
            *(limb(other) for other in LIMBS if other.parent == one.name),
            pos=(one.joint[0], 0, one.joint[1]),
        )

    free = {"armature": 0, "damping": 0, "stiffness": 0, "limited": "false"}
    slides = (("rootx", (1, 0, 0)), ("rootz", (0, 0, 1)))
    torso = element(
        "body",
        *(element("joint", name=n, type="slide", axis=a, **free) for n, a in slides),
        element("joint", name="rooty", **hinge, **free),
        element("geom", type="capsule", fromto=(-0.5, 0, 0, 0.5, 0, 0), size=radius),
        capsule((0.6, 0.1), 0.87, 0.15),
        *(limb(one) for one in LIMBS if one.parent == "torso"),
        name="torso",
        pos=(0, 0, 0.7),
    )
    contact = {"friction": (0.4, 0.1, 0.1), "solref": (0.02, 1), "solimp": (0, 0.8, 0.01)}
    limit = {"solreflimit": (0.02, 1), "solimplimit": (0, 0.8, 0.03)}
    return _model(
        torso,
        joint={"armature": 0.1, "limited": "true", **limit},
        geom={"contype": 1, "conaffinity": 0, "condim": 3, **contact},
        angle="radian",
        option={"timestep": 0.01},
        motors=[(one.name, one.gear) for one in LIMBS],
    )


def ant(timestep: float, solimp: tuple[float, float, float]) -> str:
    """Return the ant as MJCF: a sphere with four legs, integrated by Runge and Kutta.

    timestep: in seconds; solimp: impedance of the contacts. rllab has 0.02 and
    (0.8, 0.8, 0.01), Gymnasium 0.01 and (0.9, 0.95, 0.001).
    Its first seven coordinates are the torso's position and quaternion.
    """

    def capsule(x: float, y: float) -> str:
        return element("geom", type="capsule", fromto=(0, 0, 0, x, y, 0), size=0.08)

    def leg(number: int, one: Leg) -> str:
        x, y = 0.2 * one.x, 0.2 * one.y
        hip = {"name": f"hip_{number}", "axis": (0, 0, 1), "range": (-30, 30)}
        ankle = {"axis": (*one.axis, 0), "range": (one.least, one.most)}
        joint = element("joint", type="hinge", name=f"ankle_{number}", **ankle)
        shin = element("body", joint, capsule(2 * x, 2 * y), pos=(x, y, 0))
        hinge = element("joint", type="hinge", **hip)
        thigh = element("body", hinge, capsule(x, y), shin, pos=(x, y, 0))
        return element("body", capsule(x, y), thigh, pos=(0, 0, 0))

    free = {"armature": 0, "damping": 0, "limited": "false", "margin": 0.01}
    torso = element(
        "body",
        element("geom", type="sphere", size=0.25, pos=(0, 0, 0)),
        element("joint", type="free", name="root", **free),
        *(leg(number, one) for number, one in enumerate(LEGS, 1)),
        name="torso",
        pos=(0, 0, 0.75),
    )
    contact = {"friction": (1, 0.5, 0.5), "margin": 0.01, "solimp": solimp}
    return _model(
        torso,
        joint={"armature": 1, "damping": 1, "limited": "true"},
        geom={"conaffinity": 0, "condim": 3, "density": 5, **contact},
        angle="degree",
        option={"timestep": timestep, "integrator": "RK4"},
        motors=[(f"{j}_{n + 1}", 150) for n in MOTORS for j in ("hip", "ankle")],
        # Without a sensor of accelerations MuJoCo does not compute the contact forces.
        sensors=(element("framelinacc", objtype="body", objname="torso"),),
    )


def _model(
    torso: str,
    joint: dict[str, Any],
    geom: dict[str, Any],
    angle: str,
    option: dict[str, Any],
    motors: list[tuple[str, float]],
    sensors: tuple[str, ...] = (),
) -> str:
    """Return a body on a floor. A simulation that breaks is left as it is, not reset."""
    motor = {"ctrllimited": "true", "ctrlrange": (-1, 1)}
    floor = {"type": "plane", "size": (40, 40, 40), "conaffinity": 1}
    return element(
        "mujoco",
        element("compiler", angle=angle, inertiafromgeom="true"),
        element("option", element("flag", autoreset="disable"), **option),
        element("default", element("joint", **joint), element("geom", **geom)),
        element("worldbody", element("geom", name="floor", **floor), torso),
        element(
            "actuator", *(element("motor", joint=j, gear=g, **motor) for j, g in motors)
        ),
        element(
            "sensor",
            element("subtreecom", body="torso"),
            element("subtreelinvel", body="torso"),
            *sensors,
        ),
    )
