//! Reads the whole configuration at start.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_model::mark::Mark;
use gantry_model::name::{ApplianceName, ClusterName, Id, ServiceName};
use gantry_model::revision::Revision;
use gantry_model::violation::Violations;
use gantry_model::wire;
use gantry_proto::v1 as pb;
use prost::Message;
use sqlx::SqlitePool;

use super::{StoreError, from_micros, unsigned};
use crate::state::{Appliance, Cluster, Server, Service, State};

pub(super) async fn state(pool: &SqlitePool) -> Result<State, StoreError> {
    let mut state = State { revision: head(pool).await?, ..State::default() };
    for cluster in clusters(pool).await? {
        state.clusters.insert_mut(cluster.name.clone(), Arc::new(cluster));
    }
    for service in services(pool).await? {
        state.services.insert_mut(service.config.name.clone(), Arc::new(service));
    }
    for appliance in appliances(pool).await? {
        state.appliances.insert_mut(appliance.name.clone(), Arc::new(appliance));
    }
    for certificate in super::certificates::load(pool).await? {
        state.certificates.insert_mut(certificate.name.clone(), Arc::new(certificate));
    }
    Ok(state)
}

async fn head(pool: &SqlitePool) -> Result<Revision, StoreError> {
    let row: (i64, i64) = sqlx::query_as("SELECT epoch, number FROM head")
        .fetch_one(pool)
        .await
        .map_err(reading("the revision"))?;
    Ok(Revision { epoch: unsigned(row.0), number: unsigned(row.1) })
}

async fn clusters(pool: &SqlitePool) -> Result<Vec<Cluster>, StoreError> {
    let rows: Vec<(String, String, i64, i64, i64)> =
        sqlx::query_as("SELECT id, display_name, number, config_number, create_time FROM clusters")
            .fetch_all(pool)
            .await
            .map_err(reading("clusters"))?;
    rows.into_iter()
        .map(|(cluster, label, number, config_number, create_time)| {
            Ok(Cluster {
                name: ClusterName { cluster: id(&cluster)? },
                label,
                number: unsigned(number),
                config_number: unsigned(config_number),
                create_time: from_micros(create_time),
            })
        })
        .collect()
}

async fn appliances(pool: &SqlitePool) -> Result<Vec<Appliance>, StoreError> {
    type Row = (String, String, Option<i64>, Option<Vec<u8>>);
    let rows: Vec<Row> = sqlx::query_as("SELECT cluster, id, join_time, key_hash FROM appliances")
        .fetch_all(pool)
        .await
        .map_err(reading("appliances"))?;
    rows.into_iter()
        .map(|(cluster, appliance, join_time, key_hash)| {
            let name = ApplianceName { cluster: id(&cluster)?, appliance: id(&appliance)? };
            Ok(Appliance { name, join_time: join_time.map(from_micros), key_hash })
        })
        .collect()
}

#[derive(sqlx::FromRow)]
struct ServiceRow {
    cluster: String,
    id: String,
    uid: String,
    config: Vec<u8>,
    number: i64,
    create_time: i64,
    update_time: i64,
    mark: Option<u32>,
}

async fn services(pool: &SqlitePool) -> Result<Vec<Service>, StoreError> {
    let rows: Vec<ServiceRow> = sqlx::query_as(
        "SELECT cluster, id, uid, config, number, create_time, update_time, mark
         FROM virtual_services",
    )
    .fetch_all(pool)
    .await
    .map_err(reading("virtual services"))?;
    let mut servers = servers(pool).await?;
    rows.into_iter()
        .map(|row| {
            let name = ServiceName { cluster: id(&row.cluster)?, service: id(&row.id)? };
            let servers = servers.remove(&name).unwrap_or_default();
            let message = decode::<pb::VirtualService>(&name, &row.config)?;
            let mut violations = Violations::new();
            let config = wire::virtual_service(&mut violations, name.clone(), &message);
            Ok(Service {
                config: sound(&name, violations, config)?,
                uid: row.uid,
                mark: row.mark.and_then(|mark| Mark::of_service(mark).ok()),
                number: unsigned(row.number),
                create_time: from_micros(row.create_time),
                update_time: from_micros(row.update_time),
                servers,
            })
        })
        .collect()
}

type Servers = BTreeMap<ServiceName, BTreeMap<Id, Server>>;

async fn servers(pool: &SqlitePool) -> Result<Servers, StoreError> {
    let rows: Vec<(String, String, String, Vec<u8>, i64)> =
        sqlx::query_as("SELECT cluster, virtual_service, id, config, number FROM real_servers")
            .fetch_all(pool)
            .await
            .map_err(reading("real servers"))?;
    let mut servers = Servers::new();
    for (cluster, service, server, config, number) in rows {
        let service = ServiceName { cluster: id(&cluster)?, service: id(&service)? };
        let name = service.server(id(&server)?);
        let message = decode::<pb::RealServer>(&name, &config)?;
        let mut violations = Violations::new();
        let config = wire::real_server(&mut violations, name.clone(), &message);
        let server = Server { config: sound(&name, violations, config)?, number: unsigned(number) };
        servers.entry(service).or_default().insert(name.server, server);
    }
    Ok(servers)
}

fn reading(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Read { what, source }
}

fn id(text: &str) -> Result<Id, StoreError> {
    text.parse().map_err(|why| unreadable(text, why))
}

fn decode<M: Message + Default>(
    name: &impl std::fmt::Display,
    bytes: &[u8],
) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|why| unreadable(name, why))
}

fn sound<T>(
    name: &impl std::fmt::Display,
    violations: Violations,
    value: Option<T>,
) -> Result<T, StoreError> {
    violations.finish(value).map_err(|found| match found.first() {
        Some(first) => unreadable(name, first),
        None => unreadable(name, "it has no value"),
    })
}

fn unreadable(name: impl std::fmt::Display, why: impl std::fmt::Display) -> StoreError {
    StoreError::Row { name: name.to_string(), why: why.to_string() }
}
