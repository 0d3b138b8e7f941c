"""The `distill` command, also as `python -m distill`."""

from distill.process import begin


def main() -> None:
    """Set up the process, then import and run the command."""
    begin()
    from distill.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
