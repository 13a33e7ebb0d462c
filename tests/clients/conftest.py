"""One node for the whole run, with greeter and streams deployed in `default`."""

import signal
from types import SimpleNamespace

import pytest

from node import GREETER, STREAMS, Node, Stubs

signal.signal(signal.SIGTERM, lambda *_: pytest.exit("stopped", 143))


def start(factory, settings=""):
    """A node that is stopped at the end, by its process id."""
    node = Node(factory.mktemp("node"), settings)
    try:
        yield node
        assert node.running(), f"the node died: {node.log()}"
    finally:
        node.stop()


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    for node in start(tmp_path_factory):
        node.plugin("deploy", GREETER)
        node.plugin("deploy", STREAMS)
        yield node


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A node with nothing deployed."""
    yield from start(tmp_path_factory)


@pytest.fixture(scope="session")
def served(node):
    """The descriptor set that everything is generated from."""
    return node.descriptors()


@pytest.fixture(scope="session")
def stubs(tmp_path_factory, served):
    return Stubs(tmp_path_factory.mktemp("stubs") / "grpc", served)


@pytest.fixture(scope="session")
def channel(node):
    with node.channel() as channel:
        yield channel


@pytest.fixture(scope="session")
def greeter(stubs, channel):
    messages, stub = stubs.of("greeter.v1.Greeter")
    return SimpleNamespace(pb=messages, stub=stub, call=stub(channel))


@pytest.fixture(scope="session")
def streams(stubs, channel):
    messages, stub = stubs.of("streams.v1.Streams")
    return SimpleNamespace(pb=messages, stub=stub, call=stub(channel))


@pytest.fixture(autouse=True)
def each_test_on_a_line_of_its_own():
    print()


def pytest_collection_modifyitems(items):
    """What everything else stands on comes first."""
    order = [
        "test_grpcio",
        "test_reflection",
        "test_health",
        "test_collections",
        "test_curl",
        "test_connect",
        "test_buf",
        "test_grpcurl",
        "test_swap",
    ]
    items.sort(key=lambda item: order.index(item.module.__name__))
