//! Writes one change: the rows of its resources, its revision, and what it replaced.
//!
//! Each function changes the database and the state that is to become current by the same value,
//! so that the two cannot differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_model::mark::Mark;
use gantry_model::name::{ClusterName, ServerName, ServiceName};
use gantry_model::server::RealServer;
use gantry_model::service::VirtualService;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use jiff::Timestamp;
use prost::Message;
use sqlx::{SqliteConnection, SqlitePool};

use super::certificates;
use super::{Change, Request, StoreError, Write, micros, signed};
use crate::state::{Cluster, Server, Service, State};

pub(super) async fn revision(
    connection: &mut SqliteConnection,
    after: &State,
    change: &Change,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (epoch, number) = (signed(after.revision.epoch), signed(after.revision.number));
    let insert = sqlx::query(
        "INSERT INTO revisions (epoch, number, time, actor, comment) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(epoch)
    .bind(number)
    .bind(micros(now))
    .bind(&change.actor)
    .bind(&change.comment);
    insert.execute(&mut *connection).await.map_err(writing("the revision"))?;
    let head = sqlx::query("UPDATE head SET number = $1").bind(number);
    head.execute(&mut *connection).await.map_err(writing("the revision"))?;
    Ok(())
}

pub(super) async fn epoch(writer: &SqlitePool, epoch: u64) -> Result<(), StoreError> {
    let head = sqlx::query("UPDATE head SET epoch = $1").bind(signed(epoch));
    head.execute(writer).await.map_err(writing("the epoch")).map(drop)
}

pub(super) async fn write(
    connection: &mut SqliteConnection,
    after: &mut State,
    write: &Write,
    now: Timestamp,
) -> Result<(), StoreError> {
    match write {
        Write::PutCluster { name, label } => put_cluster(connection, after, name, label, now).await,
        Write::DeleteCluster(name) => delete_cluster(connection, after, name).await,
        Write::PutService(service) => put_service(connection, after, service, now).await,
        Write::DeleteService(name) => delete_service(connection, after, name).await,
        Write::PutServer(server) => put_server(connection, after, server).await,
        Write::DeleteServer(name) => delete_server(connection, after, name).await,
        Write::PutCertificate(name, material) => {
            certificates::put(connection, after, (name, material), now).await
        }
        Write::DeleteCertificate(name) => certificates::delete(connection, after, name).await,
    }
}

/// Gives free the labels that `writes` change, so that two resources of one change may swap theirs:
/// the database looks at every row by itself. The labels that count are in `config`.
pub(super) async fn free_labels(
    connection: &mut SqliteConnection,
    before: &State,
    writes: &[Write],
) -> Result<(), StoreError> {
    for write in writes {
        match write {
            Write::PutService(service) if service_label_moves(before, service) => {
                sqlx::query(
                    "UPDATE virtual_services SET display_name = '' WHERE cluster = $1 AND id = $2",
                )
                .bind(service.name.cluster.as_str())
                .bind(service.name.service.as_str())
                .execute(&mut *connection)
                .await
                .map_err(writing(&service.name))?;
            }
            Write::PutServer(server) if server_label_moves(before, server) => {
                sqlx::query(
                    "UPDATE real_servers SET display_name = ''
                     WHERE cluster = $1 AND virtual_service = $2 AND id = $3",
                )
                .bind(server.name.service.cluster.as_str())
                .bind(server.name.service.service.as_str())
                .bind(server.name.server.as_str())
                .execute(&mut *connection)
                .await
                .map_err(writing(&server.name))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn service_label_moves(before: &State, service: &VirtualService) -> bool {
    before.service(&service.name).is_some_and(|before| before.config.label != service.label)
}

fn server_label_moves(before: &State, server: &RealServer) -> bool {
    before.server(&server.name).is_some_and(|before| before.config.label != server.label)
}

async fn put_cluster(
    connection: &mut SqliteConnection,
    after: &mut State,
    name: &ClusterName,
    label: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let number = after.revision.number;
    let before = after.clusters.get(name);
    let cluster = Cluster {
        name: name.clone(),
        label: label.to_owned(),
        number,
        config_number: number,
        create_time: before.map_or(now, |before| before.create_time),
    };
    let (old, new) = (before.map(|c| cluster_message(c)), cluster_message(&cluster));
    sqlx::query(
        "INSERT INTO clusters (id, display_name, number, config_number, create_time)
         VALUES ($1, $2, $3, $3, $4)
         ON CONFLICT (id) DO UPDATE SET display_name = $2, number = $3, config_number = $3",
    )
    .bind(name.cluster.as_str())
    .bind(label)
    .bind(signed(number))
    .bind(micros(cluster.create_time))
    .execute(&mut *connection)
    .await
    .map_err(writing(name))?;
    after.clusters.insert_mut(name.clone(), Arc::new(cluster));
    history(connection, after, name, old.as_ref(), Some(&new)).await
}

async fn delete_cluster(
    connection: &mut SqliteConnection,
    after: &mut State,
    name: &ClusterName,
) -> Result<(), StoreError> {
    let Some(before) = after.clusters.get(name).map(|cluster| cluster_message(cluster)) else {
        return Ok(());
    };
    sqlx::query("DELETE FROM clusters WHERE id = $1")
        .bind(name.cluster.as_str())
        .execute(&mut *connection)
        .await
        .map_err(writing(name))?;
    after.clusters.remove_mut(name);
    history::<pb::Cluster>(connection, after, name, Some(&before), None).await
}

async fn put_service(
    connection: &mut SqliteConnection,
    after: &mut State,
    config: &VirtualService,
    now: Timestamp,
) -> Result<(), StoreError> {
    let name = &config.name;
    let before = after.services.get(name).cloned();
    let mark = match before.as_ref().and_then(|before| before.mark) {
        None if config.needs_mark() => Some(free_mark(connection).await?),
        mark => mark,
    };
    let service = Service {
        config: config.clone(),
        mark,
        uid: before.as_ref().map_or_else(new_uid, |before| before.uid.clone()),
        number: after.revision.number,
        create_time: before.as_ref().map_or(now, |before| before.create_time),
        update_time: now,
        servers: before.as_ref().map_or_else(BTreeMap::new, |before| before.servers.clone()),
    };
    let old = before.as_ref().map(|before| wire::virtual_service_message(&before.config));
    let new = wire::virtual_service_message(config);
    sqlx::query(
        "INSERT INTO virtual_services
             (cluster, id, uid, display_name, config, number, create_time, update_time, mark)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (cluster, id) DO UPDATE
         SET display_name = $4, config = $5, number = $6, update_time = $8, mark = $9",
    )
    .bind(name.cluster.as_str())
    .bind(name.service.as_str())
    .bind(&service.uid)
    .bind(&config.label)
    .bind(new.encode_to_vec())
    .bind(signed(service.number))
    .bind(micros(service.create_time))
    .bind(micros(now))
    .bind(service.mark.map(Mark::get))
    .execute(&mut *connection)
    .await
    .map_err(writing(name))?;
    after.services.insert_mut(name.clone(), Arc::new(service));
    touch_cluster(connection, after, &name.cluster()).await?;
    history(connection, after, name, old.as_ref(), Some(&new)).await
}

/// A mark that no service has: above all of them, so that one that was given back rests, or the
/// first of a gap when there is none above.
async fn free_mark(connection: &mut SqliteConnection) -> Result<Mark, StoreError> {
    let highest = "SELECT MAX(mark) FROM virtual_services";
    let gap = "SELECT MIN(mark) FROM virtual_services AS one WHERE NOT EXISTS
                   (SELECT 1 FROM virtual_services AS next WHERE next.mark = one.mark + 1)";
    let mut found = Mark::FIRST;
    for sql in [highest, gap] {
        let held: Option<u32> = sqlx::query_scalar(sql)
            .fetch_one(&mut *connection)
            .await
            .map_err(|source| StoreError::Read { what: "firewall marks", source })?;
        found = held.and_then(|held| Mark::of_service(held).ok()).map_or(Mark::FIRST, Mark::next);
        if held.is_none() || found != Mark::FIRST {
            break;
        }
    }
    Ok(found)
}

/// Gives marks to services that need one and were stored before there were any.
pub(super) async fn give_marks(writer: &SqlitePool, state: &State) -> Result<(), StoreError> {
    let bare = |service: &&Arc<Service>| service.mark.is_none() && service.config.needs_mark();
    for service in state.services().filter(bare) {
        let name = &service.config.name;
        let mut connection = writer.acquire().await.map_err(writing(name))?;
        let mark = free_mark(&mut connection).await?;
        sqlx::query("UPDATE virtual_services SET mark = $1 WHERE cluster = $2 AND id = $3")
            .bind(mark.get())
            .bind(name.cluster.as_str())
            .bind(name.service.as_str())
            .execute(&mut *connection)
            .await
            .map_err(writing(name))?;
    }
    Ok(())
}

async fn delete_service(
    connection: &mut SqliteConnection,
    after: &mut State,
    name: &ServiceName,
) -> Result<(), StoreError> {
    let Some(before) = after.services.get(name).cloned() else { return Ok(()) };
    for server in before.real_servers() {
        let old = wire::real_server_message(server);
        history::<pb::RealServer>(connection, after, &server.name, Some(&old), None).await?;
    }
    sqlx::query("DELETE FROM virtual_services WHERE cluster = $1 AND id = $2")
        .bind(name.cluster.as_str())
        .bind(name.service.as_str())
        .execute(&mut *connection)
        .await
        .map_err(writing(name))?;
    after.services.remove_mut(name);
    touch_cluster(connection, after, &name.cluster()).await?;
    let old = wire::virtual_service_message(&before.config);
    history::<pb::VirtualService>(connection, after, name, Some(&old), None).await
}

async fn put_server(
    connection: &mut SqliteConnection,
    after: &mut State,
    config: &RealServer,
) -> Result<(), StoreError> {
    let name = &config.name;
    let Some(mut service) = after.services.get(&name.service).cloned() else {
        return Err(orphan(name));
    };
    let old = service.servers.get(&name.server).map(|s| wire::real_server_message(&s.config));
    let new = wire::real_server_message(config);
    let server = Server { config: config.clone(), number: after.revision.number };
    sqlx::query(
        "INSERT INTO real_servers (cluster, virtual_service, id, display_name, config, number)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (cluster, virtual_service, id) DO UPDATE
         SET display_name = $4, config = $5, number = $6",
    )
    .bind(name.service.cluster.as_str())
    .bind(name.service.service.as_str())
    .bind(name.server.as_str())
    .bind(&config.label)
    .bind(new.encode_to_vec())
    .bind(signed(server.number))
    .execute(&mut *connection)
    .await
    .map_err(writing(name))?;
    Arc::make_mut(&mut service).servers.insert(name.server.clone(), server);
    after.services.insert_mut(name.service.clone(), service);
    touch_cluster(connection, after, &name.service.cluster()).await?;
    history(connection, after, name, old.as_ref(), Some(&new)).await
}

async fn delete_server(
    connection: &mut SqliteConnection,
    after: &mut State,
    name: &ServerName,
) -> Result<(), StoreError> {
    let Some(mut service) = after.services.get(&name.service).cloned() else { return Ok(()) };
    let Some(before) = Arc::make_mut(&mut service).servers.remove(&name.server) else {
        return Ok(());
    };
    sqlx::query("DELETE FROM real_servers WHERE cluster = $1 AND virtual_service = $2 AND id = $3")
        .bind(name.service.cluster.as_str())
        .bind(name.service.service.as_str())
        .bind(name.server.as_str())
        .execute(&mut *connection)
        .await
        .map_err(writing(name))?;
    after.services.insert_mut(name.service.clone(), service);
    touch_cluster(connection, after, &name.service.cluster()).await?;
    let old = wire::real_server_message(&before.config);
    history::<pb::RealServer>(connection, after, name, Some(&old), None).await
}

/// Notes that something in the cluster changed, once per revision.
async fn touch_cluster(
    connection: &mut SqliteConnection,
    after: &mut State,
    name: &ClusterName,
) -> Result<(), StoreError> {
    let number = after.revision.number;
    let Some(cluster) = after.clusters.get(name).filter(|c| c.config_number != number) else {
        return Ok(());
    };
    let cluster = Cluster { config_number: number, ..Cluster::clone(cluster) };
    sqlx::query("UPDATE clusters SET config_number = $1 WHERE id = $2")
        .bind(signed(number))
        .bind(name.cluster.as_str())
        .execute(connection)
        .await
        .map_err(writing(name))?;
    after.clusters.insert_mut(name.clone(), Arc::new(cluster));
    Ok(())
}

async fn history<M: Message>(
    connection: &mut SqliteConnection,
    after: &State,
    name: &impl std::fmt::Display,
    old: Option<&M>,
    new: Option<&M>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revision_changes (epoch, number, name, before, after)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (epoch, number, name) DO UPDATE SET after = $5",
    )
    .bind(signed(after.revision.epoch))
    .bind(signed(after.revision.number))
    .bind(name.to_string())
    .bind(old.map(Message::encode_to_vec))
    .bind(new.map(Message::encode_to_vec))
    .execute(connection)
    .await
    .map_err(writing(name))?;
    Ok(())
}

pub(super) async fn request(
    connection: &mut SqliteConnection,
    request: &Request,
    oldest: Timestamp,
) -> Result<(), StoreError> {
    let what = "the request id";
    sqlx::query("DELETE FROM requests WHERE time < $1")
        .bind(micros(oldest))
        .execute(&mut *connection)
        .await
        .map_err(writing(what))?;
    sqlx::query("INSERT INTO requests (id, fingerprint, name, time) VALUES ($1, $2, $3, $4)")
        .bind(&request.id)
        .bind(&request.fingerprint)
        .bind(&request.name)
        .bind(micros(gantry_runtime::clock::wall()))
        .execute(connection)
        .await
        .map_err(writing(what))?;
    Ok(())
}

pub(super) async fn find_request(
    pool: &SqlitePool,
    id: &str,
) -> Result<Option<Request>, StoreError> {
    let row: Option<(String, Vec<u8>, String)> =
        sqlx::query_as("SELECT id, fingerprint, name FROM requests WHERE id = $1")
            .bind(id)
            .fetch_optional(pool)
            .await
            .map_err(|source| StoreError::Read { what: "request ids", source })?;
    Ok(row.map(|(id, fingerprint, name)| Request { id, fingerprint, name }))
}

fn cluster_message(cluster: &Cluster) -> pb::Cluster {
    pb::Cluster {
        name: cluster.name.to_string(),
        display_name: cluster.label.clone(),
        ..Default::default()
    }
}

fn new_uid() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn orphan(name: &ServerName) -> StoreError {
    let source = sqlx::Error::Protocol(format!("{} does not exist", name.service));
    StoreError::Write { what: name.to_string(), source }
}

fn writing(what: impl std::fmt::Display) -> impl FnOnce(sqlx::Error) -> StoreError {
    let what = what.to_string();
    move |source| StoreError::Write { what, source }
}
