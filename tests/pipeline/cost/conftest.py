from tests.cli.conftest import command, sources  # noqa: F401
