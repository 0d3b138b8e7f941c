"""The `distill` command, in a module whose name no other package has: it says where another `distill` hides ours."""

import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Run the command, or name the other package that Python finds first, with exit status 2."""
    own, spec = Path(__file__).with_name("distill") / "__init__.py", find_spec("distill")
    found = Path(str(spec and spec.origin))
    if found.resolve() != own.resolve():
        print(
            f"distill: expected Python to find {own}, found another package of this name at {found}; rename that one, or "
            "take its folder out of PYTHONPATH",
            file=sys.stderr,
        )
        sys.exit(2)
    from distill.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
