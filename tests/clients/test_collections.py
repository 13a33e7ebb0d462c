"""Collections with Python's grpcio: the published messages, as existing clients send them."""

from types import SimpleNamespace

import grpc
import pytest
from google.protobuf import any_pb2, struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from transcript import fails

NAMESPACE = "default"
NAME = "greetings"


def details(error, kind):
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        found = kind()
        if detail.Unpack(found):
            return found
    return None


@pytest.fixture(scope="module")
def store(node, stubs, channel, greeter):
    """A collection of `HelloRequest`s, with what it takes to use it."""
    records, record_stubs = stubs.own("collector/collection_service")
    repo, repo_stubs = stubs.own("collector/collection_repo")
    collections, _ = stubs.own("collector/collection")
    common, _ = stubs.own("collector/common")
    found = SimpleNamespace(
        pb=records,
        repo_pb=repo,
        collections=collections,
        common=common,
        hello=greeter.pb.HelloRequest,
        call=record_stubs.CollectionServiceStub(channel),
        repo=repo_stubs.CollectionRepoStub(channel),
        at={"namespace": NAMESPACE, "collection_name": NAME},
    )
    collection = collections.Collection(
        namespace=NAMESPACE,
        name=NAME,
        message_type=common.MessageTypeRef(message_name="greeter.v1.HelloRequest"),
        indexed_fields=["locale"],
    )
    reply = found.repo.CreateCollection(repo.CreateCollectionRequest(collection=collection))
    assert reply.collection_id == f"{NAMESPACE}/{NAME}"
    return found


def packed(message):
    item = any_pb2.Any()
    item.Pack(message)
    return item


def create(store, id, name, locale=""):
    item = packed(store.hello(name=name, locale=locale))
    return store.call.Create.with_call(store.pb.CreateRequest(**store.at, id=id, item=item))


def names(store, items):
    found = []
    for item in items:
        hello = store.hello()
        assert item.Unpack(hello)
        found.append(hello.name)
    return found


def test_a_record_comes_back_as_it_was(store):
    reply, call = create(store, "ann", "Ann from the hills", "de")
    assert reply.id == "ann"
    etag = dict(call.initial_metadata())["etag"]
    assert etag == reply.info.etag
    back, call = store.call.Get.with_call(store.pb.GetRequest(**store.at, id="ann"))
    assert dict(call.initial_metadata())["etag"] == etag
    assert back.item == packed(store.hello(name="Ann from the hills", locale="de"))


def test_an_id_is_taken_once(store):
    create(store, "twice", "one")
    with fails(grpc.StatusCode.ALREADY_EXISTS) as caught:
        create(store, "twice", "two")
    assert details(caught[0], error_details_pb2.ErrorInfo).domain == "collector"
    again = store.repo_pb.CreateCollectionRequest(
        collection=store.collections.Collection(namespace=NAMESPACE, name=NAME)
    )
    with fails(grpc.StatusCode.ALREADY_EXISTS) as caught:
        store.repo.CreateCollection(again)
    assert "already exists" in caught[0].details()


def test_another_type_is_refused_by_name(store):
    item = packed(struct_pb2.Struct())
    with fails(grpc.StatusCode.INVALID_ARGUMENT) as caught:
        store.call.Create(store.pb.CreateRequest(**store.at, item=item))
    violations = details(caught[0], error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == ["item.type_url"]


def test_update_if_match(store):
    reply, _ = create(store, "versions", "first")
    update = store.pb.UpdateRequest(**store.at, id="versions", item=packed(store.hello(name="second")))
    store.call.Update(update, metadata=[("if-match", reply.info.etag)])
    with fails(grpc.StatusCode.ABORTED):
        store.call.Update(update, metadata=[("if-match", reply.info.etag)])


def test_a_retry_with_a_key_makes_one_record(store):
    item = packed(store.hello(name="once only"))
    request = store.pb.CreateRequest(**store.at, item=item)
    first = store.call.Create(request, metadata=[("idempotency-key", "k1")])
    again = store.call.Create(request, metadata=[("idempotency-key", "k1")])
    assert first.id == again.id and first.info == again.info


def test_search_filter_and_pages(store):
    for n in range(25):
        create(store, f"page-{n:02}", f"walker number{n}", "fr" if n % 2 else "it")
    search = store.pb.SearchRequest(**store.at, full_text="walker AND number7")
    reply = store.call.Search(search)
    assert names(store, [result.item for result in reply.results]) == ["walker number7"]
    assert reply.total_count == 1 and reply.results[0].score > 0

    french = store.pb.Filter(operator=store.pb.OP_EQUALS, value=struct_pb2.Value(string_value="fr"))
    reply = store.call.Search(store.pb.SearchRequest(**store.at, filters={"locale": french}, order_by="name"))
    assert reply.total_count == 12

    where = struct_pb2.Struct()
    where.update({"locale": "it"})
    seen, token = [], ""
    while True:
        page = store.call.List(
            store.pb.ListRequest(**store.at, filter=where, order_by="id desc", page_size=5, page_token=token)
        )
        assert page.total_count == 13
        seen += [info.id for info in page.infos]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted((f"page-{n:02}" for n in range(0, 25, 2)), reverse=True)


def test_a_batch_is_all_or_nothing(store):
    def operation(id):
        create = store.pb.CreateRequest(id=id, item=packed(store.hello(name="in a batch")))
        return store.pb.RequestOp(create=create)

    batch = store.pb.BatchRequest(**store.at, operations=[operation("b1"), operation("ann"), operation("b2")])
    with fails(grpc.StatusCode.ALREADY_EXISTS):
        store.call.Batch(batch)
    with fails(grpc.StatusCode.NOT_FOUND):
        store.call.Get(store.pb.GetRequest(**store.at, id="b1"))
    reply = store.call.Batch(batch, metadata=[("collector-batch", "best-effort")])
    codes = [response.status.code for response in reply.responses]
    assert codes == [store.common.Status.OK, store.common.Status.ALREADY_EXISTS, store.common.Status.OK]


def test_a_method_runs_on_records(store, greeter):
    invoke = store.pb.InvokeRequest(**store.at, method_name="greeter.v1.Greeter/SayHello", item_ids=["versions"])
    reply = store.call.Invoke(invoke)
    hello = greeter.pb.HelloReply()
    assert reply.outputs[0].Unpack(hello)
    assert hello.text == "Hello, second!"
