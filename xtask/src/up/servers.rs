//! The sample real servers: those of `examples/loopback.yaml`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::children::Program;

/// One sample server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    /// The word after `cargo xtask sample`.
    kind: &'static str,
    address: Ipv4Addr,
    ports: &'static [u16],
}

const fn server(name: &'static str, kind: &'static str, last: u8, ports: &'static [u16]) -> Server {
    Server { name, kind, address: Ipv4Addr::new(127, 12, 1, last), ports }
}

pub(super) const SERVERS: [Server; 8] = [
    server("dicom1", "dicom", 110, &[10104, 11112]),
    server("dicom2", "dicom", 111, &[10104, 11112]),
    server("hl71", "mllp", 130, &[2575]),
    server("hl72", "mllp", 131, &[2575]),
    server("xds1", "xds", 150, &[17035]),
    server("xds2", "xds", 151, &[17035]),
    server("viewer1", "https", 170, &[8443]),
    server("viewer2", "https", 171, &[8443]),
];

impl Server {
    fn listens(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| SocketAddr::from((self.address, *port)))
    }

    /// The program, with its objects under `archives` if it keeps any.
    pub(super) fn program(&self, xtask: &Path, archives: &Path) -> Program {
        let mut arguments: Vec<OsString> = vec!["sample".into(), self.kind.into()];
        for listen in self.listens() {
            arguments.extend(["--listen".into(), listen.to_string().into()]);
        }
        let label = self.name.to_uppercase();
        if self.kind == "dicom" {
            let dir = archives.join(self.name);
            arguments.extend(["--ae".into(), label.into(), "--dir".into(), dir.into()]);
        } else {
            arguments.extend(["--name".into(), label.into()]);
        }
        Program { name: self.name.to_owned(), path: xtask.to_path_buf(), arguments }
    }
}

/// What already listens where these programs want to, in words.
pub(super) fn taken(controller: SocketAddr, page: SocketAddr, samples: bool) -> Vec<String> {
    let servers: &[Server] = if samples { &SERVERS } else { &[] };
    let wanted = servers
        .iter()
        .flat_map(|server| server.listens().map(|listen| (listen, server.name)))
        .chain([
            (controller, "the controller (--listen says where)"),
            (page, "the page (--page says where)"),
        ]);
    wanted
        .filter_map(|(listen, who)| {
            let failure = TcpListener::bind(listen).err()?;
            Some(format!("{listen}, for {who}: {}", reason(&failure)))
        })
        .collect()
}

fn reason(failure: &std::io::Error) -> String {
    match failure.kind() {
        std::io::ErrorKind::AddrInUse => "another process listens on it".to_owned(),
        std::io::ErrorKind::PermissionDenied => "only root may listen on it".to_owned(),
        _ => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_who_wants_it() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let page = "127.0.0.1:0".parse().unwrap();
        let told = taken(address, page, false);
        assert_eq!(told.len(), 1);
        let expected = format!("{address}, for the controller (--listen says where): another");
        assert!(told[0].starts_with(&expected), "{told:?}");
        drop(holder);
        assert!(taken(address, page, false).is_empty());
    }

    #[test]
    fn the_example_knows_every_sample_server() {
        let example = include_str!("../../../examples/loopback.yaml");
        for server in SERVERS {
            assert!(example.contains(&format!("name: {}\n", server.name)), "{}", server.name);
            assert!(example.contains(&format!("address: {}", server.address)), "{}", server.name);
            for port in server.ports {
                assert!(example.contains(&port.to_string()), "{} {port}", server.name);
            }
        }
    }
}
