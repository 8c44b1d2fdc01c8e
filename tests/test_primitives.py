"""The table of the primitives' promises is the code's."""

import primitives
from tinymaml import ops, params


def without_errors(table: str) -> list[str]:
    """Return the table's lines, the measured errors left out."""
    return [
        "|".join(line.split("|")[:4] + line.split("|")[5:]) for line in table.splitlines()
    ]


def test_the_table_is_up_to_date():
    """Rejects a table of rules that the code no longer has, or one that is typed in."""
    kept = primitives.TABLE.read_text(encoding="utf-8")
    assert without_errors(kept) == without_errors(primitives.table())


def test_every_primitive_is_in_it():
    """Rejects a primitive that makes no promise."""
    kept = primitives.TABLE.read_text(encoding="utf-8")
    for module in (ops, params):
        marked = {
            value.__name__
            for value in vars(module).values()
            if getattr(value, "_is_autograd_primitive", False)
            and value.fun.__module__ == module.__name__
        }
        assert marked == set(primitives.primitives(module))
        assert all(f".{name}`" in kept for name in marked)
