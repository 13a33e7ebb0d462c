"""Everything that goes over the wire or into a shell, on standard output as it happens."""

import contextlib
import re
import subprocess
import time

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

PATIENCE = 20  # seconds that any one exchange may take
WIDTH = 400


def say(mark, text):
    for line in str(text).splitlines() or [""]:
        print(f"    {mark} {line if len(line) <= WIDTH else line[:WIDTH] + ' …'}", flush=True)


def show(message):
    if isinstance(message, Message):
        return (
            f"{message.DESCRIPTOR.full_name} {{{text_format.MessageToString(message, as_one_line=True, as_utf8=True)}}}"
        )
    return repr(message)


def without_folders(text):
    """Absolute paths cut to their last part, so that transcripts of two machines compare."""
    return re.sub(r"(?<![\w:/])/(?:[\w.+-]+/)+([\w.+-]+)", r"\1", text)


def sh(*command, stdin=None, cwd=None, expect=0):
    """Runs a command to its end.

    * expect: the exit code that it has to have; `None` for any.
    * returns: the finished process, with text in `stdout` and `stderr`.
    """
    command = [str(word) for word in command]
    say("$", without_folders(" ".join(command)))
    if stdin is not None:
        say("stdin", stdin)
    done = subprocess.run(command, input=stdin or "", cwd=cwd, capture_output=True, text=True, timeout=120)
    for text in (done.stdout, done.stderr):
        if text:
            say("|", without_folders(text))
    if done.returncode:
        say("|", f"exit {done.returncode}")
    assert expect in (None, done.returncode), f"{command[0]} ended with {done.returncode}: {done.stderr}"
    return done


def until(what, condition, seconds=PATIENCE):
    """Asks until the answer is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def fails(code):
    """A block that has to end in this gRPC status; the error is in the list that it gives."""
    caught = []
    try:
        yield caught
    except grpc.RpcError as error:
        assert error.code() == code, f"wanted {code}, got {error.code()}: {error.details()}"
        caught.append(error)
    assert caught, f"wanted {code}, got an answer"


class _Replies:
    """A stream of replies that is written down as it is read."""

    def __init__(self, call):
        self._call = call

    def __iter__(self):
        return self

    def __next__(self):
        try:
            message = next(self._call)
        except StopIteration:
            _ended(self._call)
            raise
        except grpc.RpcError:
            _ended(self._call)
            raise
        say("<", show(message))
        return message

    def __getattr__(self, name):
        return getattr(self._call, name)


def _ended(call):
    trailers = " ".join(f"{key}={value}" for key, value in call.trailing_metadata() or () if not key.endswith("-bin"))
    say("<", f"{call.code().name} {call.details() or ''} [{trailers}]")


class Grpc(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Writes down calls of grpcio, and gives them a deadline and a namespace if they have none."""

    def __init__(self, namespace=None):
        self._namespace = [("collector-namespace", namespace)] if namespace else []

    def _start(self, continuation, details, request, one):
        details = details._replace(
            timeout=details.timeout or PATIENCE, metadata=[*(details.metadata or ()), *self._namespace]
        )
        metadata = " ".join(f"{key}={value}" for key, value in details.metadata)
        say(">", f"grpc {details.method} {metadata}")
        return continuation(details, _sent(request) if one else map(_sent, request))

    def intercept_unary_unary(self, continuation, details, request):
        call = self._start(continuation, details, request, one=True)
        if call.code() == grpc.StatusCode.OK:
            say("<", show(call.result()))
        _ended(call)
        return call

    def intercept_unary_stream(self, continuation, details, request):
        return _Replies(self._start(continuation, details, request, one=True))

    def intercept_stream_unary(self, continuation, details, requests):
        call = self._start(continuation, details, requests, one=False)
        if call.code() == grpc.StatusCode.OK:
            say("<", show(call.result()))
        _ended(call)
        return call

    def intercept_stream_stream(self, continuation, details, requests):
        return _Replies(self._start(continuation, details, requests, one=False))


def _sent(request):
    say(">", show(request))
    return request
