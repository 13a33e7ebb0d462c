//! RPCs that are part of the contract and not there yet: UNIMPLEMENTED, saying what will bring them.

use super::pb;
use tonic::{Code, Request, Response, Status, Streaming};

/// `CollectionService` until there is a store.
pub(super) struct Collections;
/// `CollectionRepo` until there is a store.
pub(super) struct Repo;

pub(super) fn not_yet(rpc: &str, feature: &str) -> Status {
    let message = format!("{rpc} is not there yet, it comes with {feature}; see the table in README.md");
    super::status::plain(Code::Unimplemented, "NOT_YET", message)
}

/// Implements a service whose unary methods all answer "not yet", and whose streaming methods follow.
macro_rules! not_yet {
    (
        $trait:path, $service:ty;
        $($method:ident: $request:ident -> $response:ident = $rpc:literal, $feature:literal;)*
        ; { $($more:tt)* }
    ) => {
        #[tonic::async_trait]
        impl $trait for $service {
            $(
                async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                    Err(not_yet($rpc, $feature))
                }
            )*
            $($more)*
        }
    };
}

not_yet! {
    pb::collection_service_server::CollectionService, Collections;
    create: CreateRequest -> CreateResponse = "CollectionService.Create", "collections";
    get: GetRequest -> GetResponse = "CollectionService.Get", "collections";
    update: UpdateRequest -> UpdateResponse = "CollectionService.Update", "collections";
    delete: DeleteRequest -> DeleteResponse = "CollectionService.Delete", "collections";
    list: ListRequest -> ListResponse = "CollectionService.List", "collections";
    search: SearchRequest -> SearchResponse = "CollectionService.Search", "collections";
    batch: BatchRequest -> BatchResponse = "CollectionService.Batch", "collections";
    describe: DescribeRequest -> DescribeResponse = "CollectionService.Describe", "collections";
    modify: ModifyRequest -> ModifyResponse = "CollectionService.Modify", "collections";
    meta: MetaRequest -> MetaResponse = "CollectionService.Meta", "collections";
    invoke: InvokeRequest -> InvokeResponse = "CollectionService.Invoke", "collections";
    ; {}
}

not_yet! {
    pb::collection_repo_server::CollectionRepo, Repo;
    create_collection: CreateCollectionRequest -> CreateCollectionResponse = "CollectionRepo.CreateCollection", "collections";
    discover: DiscoverRequest -> DiscoverResponse = "CollectionRepo.Discover", "collections";
    route: RouteRequest -> RouteResponse = "CollectionRepo.Route", "collections";
    search_collections: SearchCollectionsRequest -> SearchCollectionsResponse = "CollectionRepo.SearchCollections", "collections";
    clone: CloneRequest -> CloneResponse = "CollectionRepo.Clone", "transfer between nodes";
    fetch: FetchRequest -> FetchResponse = "CollectionRepo.Fetch", "transfer between nodes";
    backup_collection: BackupCollectionRequest -> BackupCollectionResponse = "CollectionRepo.BackupCollection", "backups";
    list_backups: ListBackupsRequest -> ListBackupsResponse = "CollectionRepo.ListBackups", "backups";
    restore_backup: RestoreBackupRequest -> RestoreBackupResponse = "CollectionRepo.RestoreBackup", "backups";
    delete_backup: DeleteBackupRequest -> DeleteBackupResponse = "CollectionRepo.DeleteBackup", "backups";
    verify_backup: VerifyBackupRequest -> VerifyBackupResponse = "CollectionRepo.VerifyBackup", "backups";
    ; {
        async fn push_collection(
            &self,
            _: Request<Streaming<pb::PushCollectionRequest>>,
        ) -> Result<Response<pb::PushCollectionResponse>, Status> {
            Err(not_yet("CollectionRepo.PushCollection", "transfer between nodes"))
        }

        type PullCollectionStream = tokio_stream::Empty<Result<pb::PullCollectionChunk, Status>>;

        async fn pull_collection(
            &self,
            _: Request<pb::PullCollectionRequest>,
        ) -> Result<Response<Self::PullCollectionStream>, Status> {
            Err(not_yet("CollectionRepo.PullCollection", "transfer between nodes"))
        }
    }
}
