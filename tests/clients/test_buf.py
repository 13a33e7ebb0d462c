"""buf: `curl` over all its protocols and schema sources, `build`, `breaking` and `generate` from the node's URL."""

import json
import os
import sys

import pytest
from google.protobuf import descriptor_pb2

from transcript import sh

BUF = os.environ.get("CLIENTS_BUF")
pytestmark = pytest.mark.skipif(not BUF, reason="no buf: no npm")
GREET = "/greeter.v1.Greeter"


@pytest.fixture(scope="module")
def url(node):
    return f"{node.url}/descriptors/default.binpb"


@pytest.fixture
def old(tmp_path, served):
    """The served schema as a file, to be changed by the test."""
    path = tmp_path / "old.binpb"

    def write(change):
        files = descriptor_pb2.FileDescriptorSet.FromString(served)
        (greeter,) = (file for file in files.file if file.package == "greeter.v1")
        change({message.name: message for message in greeter.message_type})
        path.write_bytes(files.SerializeToString())
        return path

    return write


# reflection and gRPC imply HTTP/2 in buf
@pytest.fixture(params=["schema", "grpc-v1", "grpc-v1alpha"])
def schema(request, url):
    if request.param == "schema":
        return ["--schema", url]
    return ["--reflect", "--reflect-protocol", request.param]


@pytest.fixture(
    params=[
        "grpc --http2-prior-knowledge",
        "grpcweb --http2-prior-knowledge",
        "grpcweb",
        "connect --http2-prior-knowledge",
        "connect",
    ]
)
def protocol(request):
    return ["--protocol", *request.param.split()]


def messages(text):
    """JSON documents, one after the other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        message, end = decoder.raw_decode(text)
        found.append(message)
        text = text[end:]
    return found


def test_curl_unary(node, schema, protocol):
    done = sh(BUF, "curl", *protocol, *schema, "-d", '{"name": "Ann", "locale": "de"}', f"{node.url}{GREET}/SayHello")
    assert json.loads(done.stdout) == {"text": "Hallo, Ann!"}


def test_curl_server_streaming(node, schema, protocol):
    done = sh(BUF, "curl", *protocol, *schema, "-d", '{"to": 3}', f"{node.url}/streams.v1.Streams/Count")
    assert [int(number["value"]) for number in messages(done.stdout)] == [1, 2, 3]


def test_curl_client_streaming(node, url, protocol):
    numbers = '{"value": 1} {"value": 2} {"value": 39}'
    done = sh(BUF, "curl", *protocol, "--schema", url, "-d", "@-", f"{node.url}/streams.v1.Streams/Sum", stdin=numbers)
    assert json.loads(done.stdout) == {"sum": "42", "count": "3"}


def test_curl_bidirectional_streaming(node, url):
    for name in ("grpc", "connect"):
        words = ["--protocol", name, "--http2-prior-knowledge", "--schema", url, "-d", "@-"]
        done = sh(BUF, "curl", *words, f"{node.url}/streams.v1.Streams/Chat", stdin='{"text": "a"} {"text": "b"}')
        assert messages(done.stdout) == [{"text": "A"}, {"text": "B"}]


def test_curl_failure(node, url, protocol):
    refusal = json.dumps({"code": 8, "message": "enough", "fields": ["a"]})
    done = sh(
        BUF, "curl", *protocol, "--schema", url, "-d", refusal, f"{node.url}{GREET}/Refuse", expect=8 << 3
    )  # buf's exit code is the gRPC code, shifted
    error = json.loads(done.stderr)
    assert (error["code"], error["message"]) == ("resource_exhausted", "enough")
    assert error["details"][0]["type"] == "google.rpc.BadRequest"


def test_curl_lists(node):
    done = sh(BUF, "curl", "--list-services", "--http2-prior-knowledge", node.url)
    assert {"greeter.v1.Greeter", "streams.v1.Streams"} <= set(done.stdout.split())
    done = sh(BUF, "curl", "--list-methods", "--http2-prior-knowledge", node.url)
    assert "greeter.v1.Greeter/SayHello" in done.stdout.split()


def test_build(tmp_path, url):
    sh(BUF, "build", url, "-o", "image.binpb", "--as-file-descriptor-set", cwd=tmp_path)
    image = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "image.binpb").read_bytes())
    assert "greeter.v1" in [file.package for file in image.file]
    sh(BUF, "build", f"{url}#format=binpb", "-o", "image.json", cwd=tmp_path)
    assert "HelloRequest" in (tmp_path / "image.json").read_text()


def test_breaking(tmp_path, url, old):
    kinds = descriptor_pb2.FieldDescriptorProto

    def same(_):
        pass

    def fewer(types):
        del types["HelloRequest"].field[1]

    def more(types):
        types["HelloRequest"].field.add(
            name="title", json_name="title", number=3, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL
        )

    sh(BUF, "breaking", url, "--against", old(same), cwd=tmp_path)
    sh(BUF, "breaking", url, "--against", old(fewer), cwd=tmp_path)
    done = sh(BUF, "breaking", url, "--against", old(more), cwd=tmp_path, expect=100)  # buf's code for findings
    assert '"title"' in done.stdout and "HelloRequest" in done.stdout
    sh(BUF, "breaking", old(same), "--against", url, cwd=tmp_path)


def test_generate(tmp_path, url):
    template = {
        "version": "v2",
        "plugins": [
            {"local": "protoc-gen-py", "out": "gen"},
            {"local": "protoc-gen-connectrpc", "out": "gen"},
            {"protoc_builtin": "pyi", "protoc_path": [sys.executable, "-m", "grpc_tools.protoc"], "out": "gen"},
        ],
    }
    (tmp_path / "buf.gen.yaml").write_text(json.dumps(template))  # YAML takes JSON
    sh(BUF, "generate", url, cwd=tmp_path)
    made = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "gen").rglob("*.py*"))
    for part in ("_pb.py", "_connect.py", "_pb2.pyi"):
        assert any("greeter" in name and name.endswith(part) for name in made), made
    for name in made:
        compile((tmp_path / name).read_text(), name, "exec")
