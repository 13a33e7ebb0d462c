"""Connect for Python (connectrpc), with the stubs of its own generator, over its three protocols."""

import importlib
import sys

import pytest
from connectrpc.client import ResponseMetadata
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from pyqwest import HTTPVersion, SyncClient, SyncHTTPTransport

from transcript import say, sh


@pytest.fixture(scope="session")
def generated(tmp_path_factory, served):
    """A package of modules by file name: `greeter_pb` and `greeter_connect`."""
    root = tmp_path_factory.mktemp("connect")
    (root / "connect_stubs").mkdir()
    (root / "served.binpb").write_bytes(served)
    files = [
        file.name
        for file in descriptor_pb2.FileDescriptorSet.FromString(served).file
        if file.package in ("greeter.v1", "streams.v1")
    ]
    out = ["--py_out=connect_stubs", "--connectrpc_out=connect_stubs"]
    sh(sys.executable, "-m", "grpc_tools.protoc", "--descriptor_set_in=served.binpb", *out, *files, cwd=root)
    sys.path.insert(0, str(root))

    def module(package, suffix):
        (file,) = (file for file in descriptor_pb2.FileDescriptorSet.FromString(served).file if file.package == package)
        name = file.name.removesuffix(".proto").replace("/", ".")
        return importlib.import_module(f"connect_stubs.{name}_{suffix}")

    return module


@pytest.fixture(params=["connect", "connect h2c", "grpc", "grpc-web", "grpc-web h2c"])
def speak(request, node, generated):
    """Makes a client of a package's service, over one protocol."""
    protocol = {"connect": ProtocolType.CONNECT, "grpc": ProtocolType.GRPC, "grpc-web": ProtocolType.GRPC_WEB}
    spoken = protocol[request.param.split()[0]]
    h2 = spoken is ProtocolType.GRPC or "h2c" in request.param
    transport = SyncHTTPTransport(http_version=HTTPVersion.HTTP2 if h2 else HTTPVersion.HTTP1)

    def client(package, service, **options):
        say(">", f"{request.param}: {package}.{service} {options}")
        kind = getattr(generated(package, "connect"), f"{service}ClientSync")
        return kind(node.url, protocol=spoken, http_client=SyncClient(transport), timeout_ms=20_000, **options)

    return client


def test_unary(speak, generated):
    pb = generated("greeter.v1", "pb")
    with ResponseMetadata() as metadata:
        plain = speak("greeter.v1", "Greeter", send_compression=None, accept_compression=())
        assert plain.say_hello(pb.HelloRequest(name="Ann", locale="de")).text == "Hallo, Ann!"
    say("<", dict(metadata.trailers.allitems()))
    assert metadata.trailers["collector-digest"].startswith("sha256:")


def test_compressed_as_it_comes_out_of_the_box(speak, generated):
    pb = generated("greeter.v1", "pb")
    reply = speak("greeter.v1", "Greeter").say_hello(pb.HelloRequest(name="A" * 5000))
    assert len(reply.text) == 5008


def test_metadata_reaches_the_guest(speak, generated):
    pb = generated("greeter.v1", "pb")
    greeter = speak("greeter.v1", "Greeter", send_compression=None)
    reply = greeter.describe(pb.DescribeRequest(), headers={"x-request-id": "7"}, timeout_ms=9000)
    say("<", reply)
    assert reply.metadata["x-request-id"] == "7"
    assert reply.has_deadline and 0 < reply.remaining_ms <= 9000


def test_an_error_with_details(speak, generated):
    pb = generated("greeter.v1", "pb")
    greeter = speak("greeter.v1", "Greeter", send_compression=None)
    with pytest.raises(ConnectError) as caught:
        greeter.refuse(pb.RefuseRequest(code=9, message="not now: ä", fields=["a.b"]))
    error = caught.value
    say("<", f"{error.code} {error.message} {[detail.type_name for detail in error.details]}")
    assert (error.code, error.message) == (Code.FAILED_PRECONDITION, "not now: ä")
    (bad,) = (detail for detail in error.details if detail.type_name == "google.rpc.BadRequest")
    assert error_details_pb2.BadRequest.FromString(bad.message_bytes).field_violations[0].field == "a.b"


def test_server_streaming(speak, generated):
    pb = generated("streams.v1", "pb")
    numbers = speak("streams.v1", "Streams", send_compression=None).count(pb.CountRequest(to=5, bytes=10))
    seen = [number.value for number in numbers]
    say("<", seen)
    assert seen == [1, 2, 3, 4, 5]


def test_client_streaming(speak, generated):
    pb = generated("streams.v1", "pb")
    total = speak("streams.v1", "Streams", send_compression=None).sum(pb.Number(value=value) for value in (1, 2, 3))
    say("<", total)
    assert (total.sum, total.count) == (6, 3)


def test_a_stream_that_fails_midway(speak, generated):
    pb = generated("streams.v1", "pb")
    seen = []
    with pytest.raises(ConnectError) as caught:
        streams = speak("streams.v1", "Streams", send_compression=None)
        for number in streams.fail(pb.FailRequest(after=2, code=8, message="enough")):
            seen.append(number.value)
    say("<", f"{seen} then {caught.value.code} {caught.value.message}")
    assert len(seen) == 2
    assert (caught.value.code, caught.value.message) == (Code.RESOURCE_EXHAUSTED, "enough")


def test_an_unknown_service(speak, generated):
    pb = generated("greeter.v1", "pb")
    with pytest.raises(ConnectError) as caught:
        greeter = speak("greeter.v1", "Greeter", send_compression=None)
        greeter.say_hello(pb.HelloRequest(name="Ann"), headers={"collector-namespace": "empty"})
    say("<", f"{caught.value.code} {caught.value.message}")
    assert caught.value.code == Code.UNIMPLEMENTED
