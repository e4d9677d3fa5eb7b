from tests.hub.fixtures import hub, hub_of_session, hubs, plain_hub  # noqa: F401
