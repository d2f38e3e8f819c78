from collections.abc import Iterator
from pathlib import Path

import pytest
from brim_tools.virtual.firmware_image import build_image
from brim_tools.virtual.interpreter import Zygote


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware as shipped."""
    return build_image(tmp_path_factory.mktemp("firmware"))


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with Zygote(one_core=True) as parent:
        yield parent
