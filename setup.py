"""Builds the Cython kernels of `ext` at install; everything else is in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(
    ext_modules=cythonize(
        [
            Extension(f"ext.{source.stem}", [str(source)], extra_compile_args=["-O3"])
            for source in sorted(Path("ext").glob("_*.pyx"))
        ],
        language_level=3,
        build_dir="build",
    )
)
