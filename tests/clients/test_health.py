"""grpcio-health-checking: what a load balancer asks."""

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from node import GREETER
from transcript import fails, until

SERVING = health_pb2.HealthCheckResponse.SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
GREET = "greeter.v1.Greeter"


@pytest.mark.parametrize("service", ["", GREET, "streams.v1.Streams", "collector.CollectiveDispatcher"])
def test_check(channel, service):
    reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == SERVING


def test_check_of_an_unknown_service(node, channel):
    with fails(grpc.StatusCode.NOT_FOUND):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    with node.channel("empty") as empty, fails(grpc.StatusCode.NOT_FOUND):
        health_pb2_grpc.HealthStub(empty).Check(health_pb2.HealthCheckRequest(service=GREET))


def test_watch_sees_a_deployment_come_and_go(fresh, stubs):
    seen = []
    with fresh.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=GREET), timeout=120)

        def read():
            try:
                for reply in watch:
                    seen.append(reply.status)
            except grpc.RpcError:
                pass  # cancelled below

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        until("the first word is that nobody knows it", lambda: seen == [UNKNOWN])
        fresh.plugin("deploy", GREETER)
        until("it serves", lambda: seen[-1] == SERVING)
        fresh.plugin("undeploy", fresh.deployment(stubs, GREET).name)
        until("it is gone", lambda: seen[-1] == UNKNOWN)
        assert seen == [UNKNOWN, SERVING, UNKNOWN]
        watch.cancel()
        reader.join(10)
        with fails(grpc.StatusCode.UNIMPLEMENTED):
            channel.unary_unary(f"/{GREET}/SayHello")(b"\x0a\x01x")
