//! What agents know at this moment and nobody keeps: clients that are remembered, and connections.

use anyhow::{Result, bail};
use comfy_table::Cell;
use gantry_proto::v1;

use super::{Arguments, Kind};
use crate::document::Documented;
use crate::look;
use crate::names::{self, Name};
use crate::output::{self, Format};
use crate::session::Session;

/// As many as the controller gives; who wants fewer asks for one client.
const MOST: i32 = 10_000;

pub(super) async fn run(arguments: Arguments, session: &Session) -> Result<()> {
    let parent = service(&arguments, session).await?;
    let client = arguments.client.clone().unwrap_or_default();
    let (format, page_size) = (arguments.output, MOST);
    if arguments.kind == Kind::Connections {
        let request = v1::ListConnectionsRequest { parent, client, page_size };
        let found = session.balancer().list_connections(request).await?.into_inner();
        print("connections", format, (&found.connections, found.total_size), connection_table)
    } else {
        let request = v1::ListPersistenceEntriesRequest { parent, client, page_size };
        let found = session.balancer().list_persistence_entries(request).await?.into_inner();
        print("clients are remembered", format, (&found.entries, found.total_size), entry_table)
    }
}

async fn service(arguments: &Arguments, session: &Session) -> Result<String> {
    let [name] = arguments.names.as_slice() else {
        bail!("which virtual service? give one: gantry get persistence SERVICE");
    };
    if !arguments.filter.is_empty() {
        bail!("--filter is for resources: give --client ADDRESS");
    }
    match session.resolve(name.parse()?).await? {
        Name::Service(service) => Ok(service.to_string()),
        other => bail!("{other} is not a virtual service"),
    }
}

fn print<T: Documented>(
    what: &str,
    format: Format,
    (found, total): (&[T], i64),
    table: fn(&[T]) -> String,
) -> Result<()> {
    match format {
        Format::Name => bail!("they have no names: use -o json, or leave -o out"),
        Format::Table if found.is_empty() => output::remark(format_args!("no {what}"))?,
        Format::Table => output::line(table(found))?,
        Format::Json | Format::Yaml => output::documents(found, false, format)?,
    }
    let shown = i64::try_from(found.len()).unwrap_or(i64::MAX);
    if shown < total {
        output::remark(format_args!("{shown} of {total} are shown: give --client ADDRESS"))?;
    }
    Ok(())
}

fn entry_table(entries: &[v1::PersistenceEntry]) -> String {
    let row = |entry: &v1::PersistenceEntry| {
        vec![
            Cell::new(&entry.client),
            Cell::new(server(&entry.real_server)),
            Cell::new(&entry.endpoint),
            Cell::new(left(entry.expires_in.as_ref())),
            Cell::new(names::last(&entry.appliance)),
        ]
    };
    let header = ["CLIENT", "REAL SERVER", "ADDRESS", "EXPIRES IN", "APPLIANCE"];
    output::table(&header, &[3], entries.iter().map(row).collect())
}

fn connection_table(connections: &[v1::Connection]) -> String {
    let row = |connection: &v1::Connection| {
        vec![
            Cell::new(&connection.client),
            Cell::new(&connection.listener),
            Cell::new(server(&connection.real_server)),
            Cell::new(&connection.endpoint),
            Cell::new(&connection.state),
            Cell::new(left(connection.expires_in.as_ref())),
            Cell::new(names::last(&connection.appliance)),
        ]
    };
    let header =
        ["CLIENT", "CONNECTED TO", "REAL SERVER", "ADDRESS", "STATE", "EXPIRES IN", "APPLIANCE"];
    output::table(&header, &[5], connections.iter().map(row).collect())
}

/// Its id; a service may have lost it since.
fn server(name: &str) -> &str {
    if name.is_empty() { "(gone)" } else { names::last(name) }
}

fn left(time: Option<&prost_types::Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| look::span(time.seconds))
}
