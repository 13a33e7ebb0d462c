"""grpcio-reflection (v1alpha): a client that knows nothing but the address."""

import urllib.error

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from node import MORE
from transcript import fails, say


def pool(channel):
    return descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def fields(channel, message):
    found = {field.name: field.number for field in pool(channel).FindMessageTypeByName(message).fields}
    say("=", f"{message} has {found}")
    return found


def call(channel, service, method, **request):
    """One unary call with nothing generated: everything from reflection."""
    method = pool(channel).FindServiceByName(service).methods_by_name[method]
    request_class, reply_class = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    invoke = channel.unary_unary(f"/{service}/{method.name}", request_class.SerializeToString, reply_class.FromString)
    return invoke(request_class(**request))


def test_services_are_listed(channel):
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    say("=", services)
    for name in ("greeter.v1.Greeter", "streams.v1.Streams", "collector.CollectorRegistry", "grpc.health.v1.Health"):
        assert name in services
    assert len(set(services)) == len(services)


def test_a_dynamic_call(channel):
    assert call(channel, "greeter.v1.Greeter", "SayHello", name="Ann", locale="de").text == "Hallo, Ann!"
    assert call(channel, "streams.v1.Streams", "Echo", text="x").text == "x"


def test_every_listed_service_resolves(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    types = descriptor_pool.DescriptorPool(database)
    for name in database.get_services():
        service = types.FindServiceByName(name)
        assert service.methods, name


def test_what_is_unknown_is_not_found(channel):
    with pytest.raises(KeyError):
        pool(channel).FindServiceByName("no.such.Service")


def hand_made():
    """A greeter.proto with the names of the deployed one and other fields."""
    file = descriptor_pb2.FileDescriptorProto(name="greeter.proto", package="greeter.v1", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, field, number, kind in [
        ("HelloRequest", "badge", 7, kinds.TYPE_UINT64),
        ("HelloReply", "door", 9, kinds.TYPE_BOOL),
    ]:
        file.message_type.add(name=message).field.add(
            name=field, json_name=field, number=number, type=kind, label=kinds.LABEL_OPTIONAL
        )
    service = file.service.add(name="Greeter")
    service.method.add(name="SayHello", input_type=".greeter.v1.HelloRequest", output_type=".greeter.v1.HelloReply")
    return file


def test_namespaces_see_only_their_own(node, stubs, channel):
    registry, services = stubs.own("collector/registry")
    register = services.CollectorRegistryStub(channel)
    file = hand_made()
    for _ in range(2):  # the second time changes nothing
        reply = register.RegisterProto(registry.RegisterProtoRequest(namespace="blue", file_descriptor=file))
        assert reply.proto_id == "blue/greeter.proto"
        assert list(reply.registered_messages) == ["HelloRequest", "HelloReply"]
        reply = register.RegisterService(
            registry.RegisterServiceRequest(namespace="blue", service_descriptor=file.service[0], file_descriptor=file)
        )
        assert reply.service_id == "blue/greeter.v1.Greeter"
        assert list(reply.registered_methods) == ["SayHello"]

    assert fields(channel, "greeter.v1.HelloRequest") == {"name": 1, "locale": 2}
    with node.channel("blue") as blue:
        assert fields(blue, "greeter.v1.HelloRequest") == {"badge": 7}
        assert fields(blue, "greeter.v1.HelloReply") == {"door": 9}
        listed = ProtoReflectionDescriptorDatabase(blue).get_services()
        assert "greeter.v1.Greeter" in listed
        assert "streams.v1.Streams" not in listed
        with pytest.raises(KeyError):
            pool(blue).FindServiceByName("streams.v1.Streams")
        with pytest.raises(grpc.RpcError):  # registering deploys no code
            call(blue, "greeter.v1.Greeter", "SayHello", badge=1)
    with node.channel("empty") as empty:
        assert "greeter.v1.Greeter" not in ProtoReflectionDescriptorDatabase(empty).get_services()


def test_descriptor_files_are_the_namespaces_own(node, served):
    def greeter(encoded):
        files = descriptor_pb2.FileDescriptorSet.FromString(encoded).file
        return [file for file in files if file.package == "greeter.v1"]

    (blue,) = greeter(node.descriptors("blue"))
    assert [message.name for message in blue.message_type] == ["HelloRequest", "HelloReply"]
    (default,) = greeter(served)
    assert "RefuseRequest" in [message.name for message in default.message_type]
    try:
        assert greeter(node.descriptors("empty")) == []
    except urllib.error.HTTPError as error:
        assert error.code == 404


def test_a_registration_that_does_not_resolve(stubs, channel):
    registry, services = stubs.own("collector/registry")
    file = hand_made()
    file.name, file.dependency[:] = "lost.proto", ["not/there.proto"]
    with fails(grpc.StatusCode.INVALID_ARGUMENT) as caught:
        services.CollectorRegistryStub(channel).RegisterProto(
            registry.RegisterProtoRequest(namespace="green", file_descriptor=file)
        )
    assert "not/there.proto" in caught[0].details()


@pytest.mark.skipif(not MORE, reason="no more components were given")
def test_more_components(node, stubs):
    for component in MORE:
        node.plugin("deploy", component, namespace="more")
    with node.channel("more") as more:
        listed = ProtoReflectionDescriptorDatabase(more).get_services()
        for deployment in node.deployments(stubs, "more"):
            for name in deployment.versions[-1].services:
                assert name in listed
                assert pool(more).FindServiceByName(name).methods
