//! An API over an empty database, for tests of its calls.

use std::sync::Arc;

use gantry_proto::v1 as pb;
use pb::fleet_service_server::FleetService;
use tonic::Request;

use super::{Calls, Control};
use crate::authority::Authority;
use crate::store::Store;

/// The API; its database goes with the folder.
pub(super) async fn api() -> (Calls, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("gantry.db")).await.unwrap();
    let authority = Arc::new(Authority::open(dir.path()).unwrap());
    (Calls { control: Arc::new(Control::new(store, authority).await.unwrap()) }, dir)
}

/// Makes `clusters/main`.
pub(super) async fn create_cluster(api: &Calls) {
    let request = pb::CreateClusterRequest { cluster_id: "main".into(), ..Default::default() };
    api.create_cluster(Request::new(request)).await.unwrap();
}
