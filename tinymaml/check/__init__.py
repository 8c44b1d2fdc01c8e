"""The verifier: is a meta-gradient exact, and how much of it is second order?"""

from tinymaml.check.classify import classify
from tinymaml.check.mixing import mixing
from tinymaml.check.verify import verify


__all__ = ["classify", "mixing", "verify"]
