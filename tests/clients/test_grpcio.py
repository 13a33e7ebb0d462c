"""Python's grpcio, with stubs generated from what the node serves."""

import hashlib
import queue
import re
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from node import GREETER, STREAMS
from transcript import fails

GREET = "/greeter.v1.Greeter"


def trailers(call):
    return dict(call.trailing_metadata())


def violations(error):
    """Field names of the BadRequest in an error."""
    status = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    for detail in status.details if status else ():
        if detail.Unpack(bad):
            return [violation.field for violation in bad.field_violations]
    return []


def test_unary(greeter):
    assert greeter.call.SayHello(greeter.pb.HelloRequest(name="Ann")).text == "Hello, Ann!"
    assert greeter.call.SayHello(greeter.pb.HelloRequest(name="Änn", locale="de-CH")).text == "Hallo, Änn!"
    future = greeter.call.SayHello.future(greeter.pb.HelloRequest(name="later"))
    assert future.result(20).text == "Hello, later!"


def test_metadata_reaches_the_guest(greeter):
    reply, _ = greeter.call.Describe.with_call(
        greeter.pb.DescribeRequest(), metadata=[("x-request-id", "7"), ("x-bytes-bin", b"\x00\xff")], timeout=9
    )
    assert (reply.namespace, reply.service, reply.method) == ("default", "greeter.v1.Greeter", "Describe")
    assert reply.metadata["x-request-id"] == "7"
    assert reply.has_deadline and 0 < reply.remaining_ms <= 9500  # grpcio rounds up


def test_a_receipt_in_the_trailers(greeter, streams):
    _, call = greeter.call.SayHello.with_call(greeter.pb.HelloRequest(name="Ann"))
    receipt = trailers(call)
    assert receipt["collector-digest"] == "sha256:" + hashlib.sha256(GREETER.read_bytes()).hexdigest()
    assert receipt["collector-executor"]
    assert int(receipt["collector-version"]) >= 1
    assert int(receipt["collector-peak-memory-bytes"]) > 0
    assert int(receipt["collector-queue-us"]) >= 0
    assert int(receipt["collector-run-us"]) >= 0
    assert receipt["collector-start"] in ("warm", "cold")

    numbers = streams.call.Count(streams.pb.CountRequest(to=2))
    assert len(list(numbers)) == 2
    assert trailers(numbers)["collector-digest"] == "sha256:" + hashlib.sha256(STREAMS.read_bytes()).hexdigest()

    with fails(grpc.StatusCode.ABORTED) as caught:
        greeter.call.Refuse(greeter.pb.RefuseRequest(code=10, message="no"))
    assert "collector-digest" in trailers(caught[0])


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0] > 0], ids=lambda code: code.name)
def test_a_fault_keeps_its_code_message_and_details(greeter, code):
    with fails(code) as caught:
        request = greeter.pb.RefuseRequest(code=code.value[0], message="50 % no: ä\n", fields=["a", "b.c"])
        greeter.call.Refuse(request)
    error = caught[0]
    assert error.details().startswith("50 % no: ä")
    assert violations(error) == ["a", "b.c"]


def test_a_refused_input_names_its_field(greeter):
    with fails(grpc.StatusCode.INVALID_ARGUMENT) as caught:
        greeter.call.SayHello(greeter.pb.HelloRequest())
    assert violations(caught[0]) == ["name"]


@pytest.mark.parametrize("wrong", [b"\x0a\x01\xff", b"\x0a\x05ab", b"\xff\xff\xff"], ids=["utf8", "short", "junk"])
def test_wrong_bytes_are_an_invalid_argument(channel, wrong):
    raw = channel.unary_unary(f"{GREET}/SayHello")
    with fails(grpc.StatusCode.INVALID_ARGUMENT) as caught:
        raw(wrong)
    if wrong.startswith(b"\x0a"):  # a field can be named
        named = [caught[0].details(), *violations(caught[0])]
        assert any(re.search(r"\bname\b", text) for text in named), named


def test_bytes_of_unknown_fields_are_passed_over(channel, greeter):
    raw = channel.unary_unary(f"{GREET}/SayHello")
    request = greeter.pb.HelloRequest(name="Ann").SerializeToString() + b"\xfa\x3f\x01x"
    assert greeter.pb.HelloReply.FromString(raw(request)).text == "Hello, Ann!"


@pytest.mark.parametrize(
    "path", [f"{GREET}/Nope", f"{GREET}/sayHello", "/no.such.Service/SayHello", "/greeter.v1/SayHello"]
)
def test_what_is_not_there_is_unimplemented(channel, path):
    with fails(grpc.StatusCode.UNIMPLEMENTED):
        channel.unary_unary(path)(b"")


def test_a_namespace_without_the_service(greeter):
    with fails(grpc.StatusCode.UNIMPLEMENTED):
        greeter.call.SayHello(greeter.pb.HelloRequest(name="Ann"), metadata=[("collector-namespace", "empty")])


def test_server_streaming(streams):
    numbers = list(streams.call.Count(streams.pb.CountRequest(to=5, bytes=1000)))
    assert [number.value for number in numbers] == [1, 2, 3, 4, 5]
    assert all(len(number.padding) == 1000 for number in numbers)


def test_client_streaming(streams):
    total = streams.call.Sum(streams.pb.Number(value=value) for value in range(1, 101))
    assert (total.sum, total.count) == (5050, 100)
    assert streams.call.Sum(iter([])).count == 0


def test_bidirectional_streaming_takes_turns(streams):
    lines = queue.Queue()
    replies = streams.call.Chat(iter(lines.get, None))
    for text in ("one", "two", "drei: ä"):
        lines.put(streams.pb.Line(text=text))
        assert next(replies).text == text.upper()
    lines.put(None)
    assert list(replies) == []
    assert replies.code() == grpc.StatusCode.OK


def test_a_stream_that_fails_midway(streams):
    numbers = streams.call.Fail(streams.pb.FailRequest(after=3, code=8, message="enough"))
    seen = []
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
        for number in numbers:
            seen.append(number.value)
    assert len(seen) == 3
    assert caught[0].details() == "enough"


def test_a_deadline_ends_a_stream(streams):
    began, seen = time.monotonic(), 0
    with fails(grpc.StatusCode.DEADLINE_EXCEEDED):
        for _ in streams.call.Count(streams.pb.CountRequest(to=10_000, pause_ms=50), timeout=1):
            seen += 1
    assert 0 < seen < 10_000
    assert time.monotonic() - began < 10


def test_a_cancelled_stream_leaves_the_node_well(streams):
    numbers = streams.call.Count(streams.pb.CountRequest(to=10_000, pause_ms=20))
    assert next(numbers).value == 1
    numbers.cancel()
    with fails(grpc.StatusCode.CANCELLED):
        list(numbers)
    assert streams.call.Echo(streams.pb.Line(text="still there")).text == "still there"


def test_compressed_requests_are_understood_or_refused(greeter):
    request = greeter.pb.HelloRequest(name="A" * 2000)
    try:
        assert len(greeter.call.SayHello(request, compression=grpc.Compression.Gzip).text) == 2008
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED  # what gRPC asks of a server that knows no gzip
