"""Versions change under callers that never notice."""

import threading

import grpc

from node import GREETER, another_version
from transcript import say, until

SWAPS = 20


def test_no_call_fails_while_versions_change(node, stubs, greeter, tmp_path):
    node.plugin("deploy", another_version(GREETER, tmp_path))
    deployment = node.deployment(stubs, "greeter.v1.Greeter")
    first, second = (version.number for version in deployment.versions[-2:])

    stop, answers, failures = threading.Event(), {}, []

    def call(which):
        with grpc.insecure_channel(node.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            greet = greeter.stub(channel).SayHello
            while not stop.is_set():
                try:
                    reply, call = greet.with_call(greeter.pb.HelloRequest(name="Ann"), timeout=20)
                    assert reply.text == "Hello, Ann!"
                    version = dict(call.trailing_metadata())["collector-version"]
                except Exception as error:
                    failures.append(error)
                    return
                answers[which, version] = answers.get((which, version), 0) + 1

    def moved(before, version):
        return all(answers.get((which, version), 0) > before.get((which, version), 0) for which in range(4))

    callers = [threading.Thread(target=call, args=(which,), daemon=True) for which in range(4)]
    for caller in callers:
        caller.start()
    try:
        for swap in range(SWAPS):
            version = first if swap % 2 == 0 else second
            node.plugin("activate", deployment.name, str(version))
            _, next_call = greeter.call.SayHello.with_call(greeter.pb.HelloRequest(name="Ann"))
            assert dict(next_call.trailing_metadata())["collector-version"] == str(version)
            before = dict(answers)  # each caller is answered by this version before the next swap
            until(f"all callers run version {version}", lambda: failures or moved(before, str(version)))
    finally:
        stop.set()
        for caller in callers:
            caller.join(30)
    say("=", f"{sum(answers.values())} answers over {SWAPS} swaps, {len(failures)} failures: {failures[:3]}")
    assert not failures
    assert {version for _, version in answers} == {str(first), str(second)}
