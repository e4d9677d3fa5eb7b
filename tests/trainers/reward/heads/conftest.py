from tests.cli.conftest import command  # noqa: F401
from tests.hub.fixtures import hubs, plain_hub  # noqa: F401
