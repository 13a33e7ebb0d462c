"""A node of our own, the command that talks to it, and stubs made from what it serves."""

import importlib
import json
import os
import select
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2

from transcript import Grpc, say, sh, without_folders

BINARY = os.environ["CLIENTS_COLLECTOR"]
GREETER = Path(os.environ["CLIENTS_GREETER"])
STREAMS = Path(os.environ["CLIENTS_STREAMS"])
MORE = [Path(path) for path in os.environ.get("CLIENTS_MORE", "").splitlines()]
PROTO = Path(__file__).parents[2] / "proto"


class Node:
    """`collector serve` on a free port, with a data folder of its own."""

    def __init__(self, folder, settings=""):
        """* settings: TOML, for what differs from the defaults."""
        self.folder = Path(folder)
        config = self.folder / "node.toml"
        config.write_text(settings)
        command = [BINARY, "serve", "--json", "--listen", "127.0.0.1:0"]
        command += ["--data", str(self.folder / "data"), "--config", str(config)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("COLLECTOR_")}
        self._log = open(self.folder / "node.log", "wb")
        say("$", "collector serve --json --listen 127.0.0.1:0" + (f" # with {settings!r}" if settings else ""))
        self._process = subprocess.Popen(
            command, env=clean, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        ready = select.select([self._process.stdout], [], [], 60)[0]
        line = self._process.stdout.readline() if ready else b""
        say("|", line.decode())
        if not line:
            self.stop()
            raise RuntimeError(f"the node does not start: {self.log()}")
        self.url = json.loads(line)["serving"]
        self.address = self.url.removeprefix("http://")

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()
        say("log", without_folders("\n".join(self.log().splitlines()[-20:])))

    def log(self):
        return (self.folder / "node.log").read_text(errors="replace")

    def running(self):
        return self._process.poll() is None

    def plugin(self, verb, *words, namespace="default"):
        """`collector plugin VERB …` against this node."""
        return sh(BINARY, "plugin", verb, *words, "--namespace", namespace, "--node", self.url).stdout

    def deployments(self, stubs, namespace="default"):
        plugins, services = stubs.own("collector/plugin/v1/plugins")
        with self.channel() as channel:
            return services.PluginsStub(channel).List(plugins.ListRequest(namespace=namespace)).deployments

    def deployment(self, stubs, service):
        """The deployment that answers a service in `default`."""
        (found,) = (each for each in self.deployments(stubs) if service in each.versions[-1].services)
        return found

    def channel(self, namespace=None):
        """A channel of grpcio that writes everything down."""
        return grpc.intercept_channel(grpc.insecure_channel(self.address), Grpc(namespace))

    def descriptors(self, namespace="default"):
        """Bytes of `GET /descriptors/<namespace>.binpb`."""
        url = f"{self.url}/descriptors/{namespace}.binpb"
        say(">", f"GET /descriptors/{namespace}.binpb")
        with urllib.request.urlopen(url, timeout=20) as answer:
            body = answer.read()
            say("<", f"{answer.status} {answer.headers.get('content-type')} {len(body)} bytes")
        return body


class Stubs:
    """What protoc makes of a descriptor set: modules by the service or message that they hold."""

    def __init__(self, folder, served):
        """* served: an encoded FileDescriptorSet, complete in itself."""
        folder.mkdir()
        files = descriptor_pb2.FileDescriptorSet.FromString(served).file
        self._files = {file.name: file for file in files if not file.name.startswith("google/protobuf/")}
        out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        protoc = [sys.executable, "-m", "grpc_tools.protoc"]
        own = [str(path.relative_to(PROTO)) for path in sorted(PROTO.glob("collector/**/*.proto"))]
        # The node's own contract, for what the namespace's file leaves out of it.
        sh(*protoc, f"--proto_path={PROTO}", *out, *(name for name in own if name not in self._files))
        (folder.parent / "served.binpb").write_bytes(served)
        sh(*protoc, "--descriptor_set_in=served.binpb", *out, *self._files, cwd=folder.parent)
        sys.path.insert(0, str(folder))

    def of(self, service):
        """Messages and stub of a served service's file: `(greeter_pb2, GreeterStub)`."""
        package, _, name = service.rpartition(".")
        file = next(
            file
            for file in self._files.values()
            if file.package == package and any(each.name == name for each in file.service)
        )
        module = file.name.removesuffix(".proto").replace("/", ".").replace("-", "_")
        return importlib.import_module(f"{module}_pb2"), getattr(
            importlib.import_module(f"{module}_pb2_grpc"), f"{name}Stub"
        )

    def own(self, file):
        """Messages and services of one of the node's own files: `collector/registry`."""
        module = file.replace("/", ".")
        return importlib.import_module(f"{module}_pb2"), importlib.import_module(f"{module}_pb2_grpc")


def another_version(component, folder):
    """The same component under another digest: with one more custom section, which means nothing."""
    text = b"\x05tests" + b"another version"
    changed = Path(folder) / component.name  # deployments are named after their files
    changed.write_bytes(component.read_bytes() + bytes([0, len(text)]) + text)
    return changed
