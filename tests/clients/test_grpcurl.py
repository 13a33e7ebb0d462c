"""grpcurl: reflection v1 and v1alpha as Go's gRPC speaks them."""

import json
import os

import pytest

from transcript import sh

GRPCURL = os.environ.get("CLIENTS_GRPCURL")
pytestmark = pytest.mark.skipif(not GRPCURL, reason="no Go toolchain")
PLAIN = ["-plaintext", "-max-time", "20"]


@pytest.fixture
def grpcurl(node):
    def run(*words, options=(), **how):
        return sh(GRPCURL, *PLAIN, *options, node.address, *words, **how).stdout

    return run


def test_list(grpcurl):
    assert {"greeter.v1.Greeter", "streams.v1.Streams"} <= set(grpcurl("list").split())
    methods = grpcurl("list", "greeter.v1.Greeter").split()
    assert methods == ["greeter.v1.Greeter.Describe", "greeter.v1.Greeter.Refuse", "greeter.v1.Greeter.SayHello"]


def test_describe(grpcurl):
    text = grpcurl("describe", "greeter.v1.Greeter")
    assert "rpc SayHello ( .greeter.v1.HelloRequest ) returns ( .greeter.v1.HelloReply );" in text
    assert "string locale = 2;" in grpcurl("describe", "greeter.v1.HelloRequest")
    assert "returns ( stream .streams.v1.Number );" in grpcurl("describe", "streams.v1.Streams.Count")


def test_call(grpcurl):
    reply = grpcurl("greeter.v1.Greeter/SayHello", options=["-d", '{"name": "Ann", "locale": "de"}'])
    assert json.loads(reply) == {"text": "Hallo, Ann!"}


def test_metadata(grpcurl):
    told = json.loads(grpcurl("greeter.v1.Greeter/Describe", options=["-H", "x-request-id: 7"]))
    assert told["metadata"]["x-request-id"] == "7"


def test_trailers(grpcurl):
    text = grpcurl("greeter.v1.Greeter/SayHello", options=["-v", "-d", '{"name": "Ann"}'])
    assert "collector-digest: sha256:" in text.partition("Response trailers received:")[2]


def test_streaming(grpcurl):
    numbers = grpcurl("streams.v1.Streams/Count", options=["-d", '{"to": 3}'])
    assert [numbers.count(f'"value": "{value}"') for value in (1, 2, 3, 4)] == [1, 1, 1, 0]
    total = grpcurl("streams.v1.Streams/Sum", options=["-d", "@"], stdin='{"value": 1} {"value": 41}')
    assert json.loads(total) == {"sum": "42", "count": "2"}
    lines = grpcurl("streams.v1.Streams/Chat", options=["-d", "@"], stdin='{"text": "a"} {"text": "b"}')
    assert '"A"' in lines and '"B"' in lines


def test_failure(node):
    refusal = json.dumps({"code": 8, "message": "enough", "fields": ["a.b"]})
    words = [GRPCURL, *PLAIN, "-d", refusal, node.address, "greeter.v1.Greeter/Refuse"]
    done = sh(*words, expect=64 + 8)  # grpcurl's exit code for a status
    for word in ("ResourceExhausted", "enough", "google.rpc.BadRequest"):
        assert word in done.stderr


def test_another_namespace(grpcurl):
    listed = grpcurl("list", options=["-H", "collector-namespace: empty"])
    assert "greeter.v1.Greeter" not in listed
