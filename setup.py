"""What pyproject.toml cannot say of the build: a wheel holds a copy of params.yaml, which a checkout reads in place."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSettings(build_py):
    """Copies params.yaml into the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_file("params.yaml", str(Path(self.build_lib, "distill", "params.yaml")))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), "params.yaml"]


setup(cmdclass={"build_py": BuildWithSettings})
