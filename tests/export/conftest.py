"""Bundles made once."""

from __future__ import annotations

import shutil

import pytest
from shipped import exportable

from hardgrad.export import export_bundle


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A bundle that stays as it is."""
    return export_bundle(exportable(), tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(made.path, tmp_path / "bundle")
