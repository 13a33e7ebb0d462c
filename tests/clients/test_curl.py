"""curl: the Connect protocol by hand, over HTTP/1.1 and over HTTP/2 without TLS."""

import base64
import json
import struct
from types import SimpleNamespace

import pytest
from google.rpc import error_details_pb2

from conftest import start
from transcript import sh

# What the operator writes into the configuration file for browsers of other origins.
CORS = '[server]\ncors_origins = ["https://app.example"]\n'

GREET = "/greeter.v1.Greeter"
STATUS = {  # Connect's own table
    1: ("canceled", 499),
    2: ("unknown", 500),
    3: ("invalid_argument", 400),
    4: ("deadline_exceeded", 504),
    5: ("not_found", 404),
    6: ("already_exists", 409),
    7: ("permission_denied", 403),
    8: ("resource_exhausted", 429),
    9: ("failed_precondition", 400),
    10: ("aborted", 409),
    11: ("out_of_range", 400),
    12: ("unimplemented", 501),
    13: ("internal", 500),
    14: ("unavailable", 503),
    15: ("data_loss", 500),
    16: ("unauthenticated", 401),
}


@pytest.fixture(params=["--http1.1", "--http2-prior-knowledge"])
def http(request):
    return request.param


@pytest.fixture
def curl(tmp_path):
    def run(url, *options, body=None, kind="application/json"):
        """One request; with a body it is a POST. Text goes as an argument, bytes as a file."""
        head, answer = tmp_path / "head", tmp_path / "answer"
        answer.write_bytes(b"")
        words = ["-D", "head", "-o", "answer", "-w", "HTTP %{http_code}, version %{http_version}", "--max-time", "20"]
        if isinstance(body, bytes):
            (tmp_path / "body").write_bytes(body)
            body = "@body"
        if body is not None:
            words += ["-H", f"content-type: {kind}", "--data-binary", body]
        done = sh("curl", "-sS", "--noproxy", "*", *words, *options, url, cwd=tmp_path)
        got = answer.read_bytes()
        _, code, version = (
            word.rstrip(",").removeprefix("version") for word in done.stdout.replace("version ", "").split()
        )
        headers = {}
        for line in head.read_text(errors="replace").splitlines()[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        print("    | " + " ".join(f"{name}={value}" for name, value in headers.items() if name))
        print(f"    | {got!r}"[:400])
        return SimpleNamespace(status=int(code), version=version, headers=headers, body=got)

    return run


def test_json(node, curl, http):
    got = curl(node.url + f"{GREET}/SayHello", http, body='{"name": "Ann", "locale": "de"}')
    assert got.version == {"--http1.1": "1.1", "--http2-prior-knowledge": "2"}[http]
    assert got.status == 200
    assert got.headers["content-type"].startswith("application/json")
    assert json.loads(got.body) == {"text": "Hallo, Ann!"}
    assert got.headers["trailer-collector-digest"].startswith("sha256:")


def test_protobuf(node, curl, http, greeter):
    request = greeter.pb.HelloRequest(name="Ann").SerializeToString()
    got = curl(node.url + f"{GREET}/SayHello", http, body=request, kind="application/proto")
    assert (got.status, got.headers["content-type"]) == (200, "application/proto")
    assert greeter.pb.HelloReply.FromString(got.body).text == "Hello, Ann!"


@pytest.mark.parametrize("code", STATUS)
def test_an_error_has_connects_shape_and_status(node, curl, code):
    name, status = STATUS[code]
    request = json.dumps({"code": code, "message": "no: ä", "fields": ["a", "b.c"]})
    got = curl(node.url + f"{GREET}/Refuse", "--http1.1", body=request)
    assert got.status == status
    assert got.headers["content-type"].startswith("application/json")
    error = json.loads(got.body)
    assert (error["code"], error["message"]) == (name, "no: ä")
    details = {detail["type"]: detail["value"] for detail in error["details"]}
    value = details["google.rpc.BadRequest"]
    bad = error_details_pb2.BadRequest.FromString(base64.b64decode(value + "=" * (-len(value) % 4)))
    assert [violation.field for violation in bad.field_violations] == ["a", "b.c"]
    # Connect leaves open whether an error's metadata is a header or a trailer.
    assert "trailer-collector-digest" in got.headers or "collector-digest" in got.headers


def refused(got, *codes):
    """The error's message, once its code is one of these and its HTTP status is the one of that code."""
    error = json.loads(got.body)
    assert error["code"] in codes
    assert got.status == {name: status for name, status in STATUS.values()}[error["code"]]
    return error.get("message", "")


def test_json_that_is_none(node, curl, http):
    for body in ("{", '{"name": 7}', "[]"):
        refused(curl(node.url + f"{GREET}/SayHello", http, body=body), "invalid_argument")


def test_wrong_bytes(node, curl, http):
    got = curl(node.url + f"{GREET}/SayHello", http, body=b"\x0a\x01\xff", kind="application/proto")
    assert "name" in refused(got, "invalid_argument")


# The next three have no body: a server may refuse before it has read one and then reset the stream, which some versions
# of curl take for an error (92) although HTTP/2 forbids it.
def test_an_unknown_method(node, curl, http):
    for path in (f"{GREET}/Nope", "/no.such.Service/Nope"):
        got = curl(node.url + path, http, body="")
        assert got.status in (404, 501)  # older clients read 404 as unimplemented, newer ones the body


def test_another_content_type(node, curl, http):
    got = curl(node.url + f"{GREET}/SayHello", http, body="", kind="application/x-www-form-urlencoded")
    assert got.status == 415


def test_another_verb(node, curl, http):
    assert curl(node.url + f"{GREET}/SayHello", http, "-X", "PUT", body="").status == 405


def test_a_timeout_reaches_the_guest(node, curl, http):
    got = curl(
        node.url + f"{GREET}/Describe", http, "-H", "connect-timeout-ms: 5000", "-H", "x-request-id: 7", body="{}"
    )
    reply = json.loads(got.body)
    assert reply["hasDeadline"] is True
    assert 0 < int(reply["remainingMs"]) <= 5000
    assert reply["metadata"]["x-request-id"] == "7"


def test_a_timeout_that_is_none(node, curl):
    for header in ("connect-timeout-ms: soon", "connect-timeout-ms: -1", "connect-timeout-ms: 12345678901"):
        refused(curl(node.url + f"{GREET}/Describe", "-H", header, body="{}"), "invalid_argument")


def test_a_namespace_without_the_service(node, curl):
    got = curl(node.url + f"{GREET}/SayHello", "-H", "collector-namespace: empty", body='{"name": "Ann"}')
    assert got.status in (404, 501)


def envelope(message):
    text = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(text)) + text


def envelopes(body):
    """Messages of a Connect stream, and its end."""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        found.append((flags, json.loads(body[5 : 5 + length])))
        body = body[5 + length :]
    assert [flags for flags, _ in found] == [0] * (len(found) - 1) + [2]
    return [message for _, message in found[:-1]], found[-1][1]


STREAM = "application/connect+json"


def test_a_stream(node, curl, http):
    got = curl(node.url + "/streams.v1.Streams/Count", http, body=envelope({"to": 3}), kind=STREAM)
    assert (got.status, got.headers["content-type"]) == (200, STREAM)
    numbers, end = envelopes(got.body)
    assert [int(number["value"]) for number in numbers] == [1, 2, 3]
    assert "error" not in end
    metadata = {name.lower(): values for name, values in end["metadata"].items()}
    assert metadata["collector-digest"][0].startswith("sha256:")


def test_a_stream_of_requests(node, curl, http):
    body = b"".join(envelope({"value": value}) for value in (1, 2, 3))
    replies, end = envelopes(curl(node.url + "/streams.v1.Streams/Sum", http, body=body, kind=STREAM).body)
    assert [int(reply["sum"]) for reply in replies] == [6]
    assert "error" not in end


def test_a_stream_that_fails_midway(node, curl, http):
    body = envelope({"after": 2, "code": 8, "message": "enough"})
    got = curl(node.url + "/streams.v1.Streams/Fail", http, body=body, kind=STREAM)
    numbers, end = envelopes(got.body)
    assert (got.status, len(numbers)) == (200, 2)
    assert (end["error"]["code"], end["error"]["message"]) == ("resource_exhausted", "enough")


def test_a_timeout_ends_a_stream(node, curl, http):
    body = envelope({"to": 10_000, "pauseMs": 50})
    got = curl(node.url + "/streams.v1.Streams/Count", http, "-H", "connect-timeout-ms: 500", body=body, kind=STREAM)
    numbers, end = envelopes(got.body)
    assert 0 < len(numbers) < 10_000
    assert end["error"]["code"] == "deadline_exceeded"


@pytest.fixture(scope="module")
def browsers(tmp_path_factory):
    """A node that pages of one other origin may call."""
    yield from start(tmp_path_factory, CORS)


def preflight(curl, node, origin):
    return curl(
        node.url + f"{GREET}/SayHello",
        "--http1.1",
        "-X",
        "OPTIONS",
        "-H",
        f"origin: {origin}",
        "-H",
        "access-control-request-method: POST",
        "-H",
        "access-control-request-headers: connect-protocol-version,content-type",
    )


def test_a_configured_origin_may_call(browsers, curl):
    got = preflight(curl, browsers, "https://app.example")
    assert got.status in (200, 204)
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    allowed = got.headers["access-control-allow-headers"].lower()
    assert "content-type" in allowed and "connect-protocol-version" in allowed
    assert "POST" in got.headers["access-control-allow-methods"]

    got = curl(browsers.url + "/grpc.health.v1.Health/Check", "-H", "origin: https://app.example", body="{}")
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    exposed = got.headers["access-control-expose-headers"].lower()
    assert "grpc-status" in exposed and "grpc-message" in exposed


def test_other_origins_may_not(node, browsers, curl):
    for where, origin in ((browsers, "https://evil.example"), (browsers, "null"), (node, "https://app.example")):
        assert "access-control-allow-origin" not in preflight(curl, where, origin).headers
