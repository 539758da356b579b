"""Rooms that tests ask over the wire: real processes, each over a state folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import small
from served import Served, closing

SHARED = Path(__file__).parents[3] / "shared"
HOSPITAL = SHARED / "data" / "hospital"
EXAMPLE = Path(__file__).parents[2] / "policies" / "examples" / "hospital.toml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts servers."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of the small room."""
    return small.write(tmp_path_factory.mktemp("small") / "data", small.people(), small.visits())


@pytest.fixture
def small_room(tmp_path: Path, small_data: Path) -> Iterator[Served]:
    """A small room of the test's own, not yet started."""
    with closing(Served(tmp_path, small.POLICY, small_data)) as served:
        yield served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Iterator[Served]:
    """A small room that all tests of a module share: they must not mind what others have asked."""
    with closing(Served(tmp_path_factory.mktemp("shared"), small.POLICY, small_data)) as served:
        served.start()
        yield served


@pytest.fixture
def open_room(tmp_path: Path) -> Iterator[Callable[[str, Path], Served]]:
    """Make rooms of any policy and data; each ends with the test."""
    with ExitStack() as stack:

        def make(policy: str, data: Path) -> Served:
            folder = tmp_path / f"room{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(closing(Served(folder, policy, data)))

        yield make


@pytest.fixture(scope="session")
def hospital_data() -> Path:
    """The hospital's and the insurer's files."""
    if not (HOSPITAL / "encounters.parquet").is_file():
        pytest.skip("the hospital data are not there: shared/data/hospital beside this project")
    return HOSPITAL


@pytest.fixture(scope="session")
def hospital_policy() -> str:
    """The example with budgets for many questions at epsilon 1, and ben as a researcher."""
    text = EXAMPLE.read_text()
    for old, new in (
        ('epsilon = "12"', 'epsilon = "100"'),
        ('epsilon = "8"', 'epsilon = "60"'),
        ('[analysts.ben]\nrole = "auditor"', '[analysts.ben]\nrole = "researcher"'),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
