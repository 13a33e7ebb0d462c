//! Collections: answers `Create` at once and `Get` with what was created last.

use collector::rpc::pb;
use pb::collection_service_server::{CollectionService, CollectionServiceServer};
use std::sync::Mutex;
use tonic::{Request, Response, Status};

#[derive(Default)]
pub(super) struct Echo(Mutex<Option<prost_types::Any>>);

macro_rules! echo {
    ($($method:ident: $request:ident -> $response:ident;)*; { $($more:tt)* }) => {
        #[tonic::async_trait]
        impl CollectionService for Echo {
            $(
                async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                    Err(Status::unimplemented("an echo"))
                }
            )*
            $($more)*
        }
    };
}

echo! {
    update: UpdateRequest -> UpdateResponse;
    delete: DeleteRequest -> DeleteResponse;
    list: ListRequest -> ListResponse;
    search: SearchRequest -> SearchResponse;
    batch: BatchRequest -> BatchResponse;
    describe: DescribeRequest -> DescribeResponse;
    modify: ModifyRequest -> ModifyResponse;
    meta: MetaRequest -> MetaResponse;
    invoke: InvokeRequest -> InvokeResponse;
    ; {
        async fn create(&self, request: Request<pb::CreateRequest>) -> Result<Response<pb::CreateResponse>, Status> {
            let request = request.into_inner();
            if let Ok(mut last) = self.0.lock() {
                *last = request.item;
            }
            let info = info(&request.id);
            Ok(Response::new(pb::CreateResponse { id: request.id, info, ..Default::default() }))
        }

        async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
            let item = self.0.lock().ok().and_then(|last| last.clone());
            Ok(Response::new(pb::GetResponse { item, info: info(&request.into_inner().id), ..Default::default() }))
        }
    }
}

fn info(id: &str) -> Option<pb::RecordInfo> {
    let now = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 1_000 });
    let metadata = pb::Metadata { created_at: now, updated_at: now, ..Default::default() };
    Some(pb::RecordInfo { id: id.to_owned(), etag: "1790000000000000".to_owned(), metadata: Some(metadata) })
}

pub(super) fn service() -> CollectionServiceServer<Echo> {
    CollectionServiceServer::new(Echo::default())
}
