"""The `distill` command, also as `python -m distill`."""

from distill.process import begin


def main() -> None:
    """Run the command, whose parts take a while to import."""
    begin()
    from distill.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
