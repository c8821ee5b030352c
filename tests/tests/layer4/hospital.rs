//! The hospital of the reference deployment: its networks, its servers, and an appliance with a site.
//!
//! Servers are on 10.12.1.0/24, modalities on 10.12.2.0/24. The router, .1 on both, is everybody's
//! gateway. The appliance lb1, 10.12.1.10, has one arm, to the servers, or a second one, 10.12.2.10, by which the modalities then send to the servers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use gantry_tests::lab::{Client, Lab, LabBuilder, Node, Server};
use gantry_tests::process::{Ran, binary, program};
use gantry_tests::{Process, Site, eventually};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

/// See the head of this file.
pub(crate) struct Hospital {
    servers: Mutex<BTreeMap<&'static str, Server>>,
    archives: Mutex<Vec<Archive>>,
    site: Mutex<Site>,
    runtime: Runtime,
    lab: Lab,
}

/// A `storescp` at one port.
struct Archive {
    node: &'static str,
    port: u16,
    process: Process,
}

/// Server, and the last part of its addresses.
const SERVERS: [(&str, &[u8]); 6] = [
    ("dicom1", &[110]),
    ("dicom2", &[111]),
    ("apps1", &[130, 170, 190]),
    ("apps2", &[131, 171, 191]),
    ("xds1", &[150, 152]),
    ("xds2", &[151, 153, 172]),
];
/// Who answers in a [`Server`]'s greeting, on which host, at which ports.
const PLAIN: [(&str, &str, &[u16]); 9] = [
    ("hl71", "apps1", &[2575]),
    ("hl72", "apps2", &[2575]),
    ("viewer1", "apps1", &[443]),
    ("viewer2", "apps2", &[443]),
    ("arr1", "apps1", &[6514]),
    ("arr2", "apps2", &[6514]),
    ("xds1", "xds1", &[17035]),
    ("xds2", "xds2", &[17035]),
    ("notice", "xds2", &[443]),
];
/// Where the operator keeps documents.
pub(crate) const OPERATOR: &str = "operator";
/// Addresses of the modality ct1.
const MODALITY: [&str; 6] = [
    "10.12.2.110/24",
    "10.12.2.111/24",
    "10.12.2.112/24",
    "10.12.2.113/24",
    "10.12.2.114/24",
    "10.12.2.115/24",
];

impl Hospital {
    /// The appliance is between modalities and servers.
    pub(crate) fn two_arms() -> Self {
        let lab = networks()
            .node("lb1", &[("servers", &["10.12.1.10/24"]), ("modalities", &["10.12.2.10/24"])])
            .route("ct1", "10.12.1.0/24", "10.12.2.10");
        Self::of(lab)
    }

    /// The appliance is beside the servers.
    pub(crate) fn one_arm() -> Self {
        Self::of(networks().node("lb1", &[("servers", &["10.12.1.10/24"])]))
    }

    fn of(lab: LabBuilder) -> Self {
        let lab = lab.route("lb1", "default", "10.12.1.1").forwards("lb1").up();
        let lb1 = lab.node("lb1");
        let runtime = lb1.runtime();
        let site = Mutex::new(lb1.enter(|| runtime.block_on(Site::layer4())));
        let servers =
            PLAIN.map(|(name, host, ports)| (name, Server::tcp(lab.node(host), name, ports)));
        let servers = Mutex::new(servers.into());
        Self { servers, archives: Mutex::default(), site, runtime, lab }
    }

    /// What real servers need for [`examples/reference.yaml`](../../../examples/reference.yaml).
    pub(crate) fn prepare_servers(&self) {
        for archive in ["dicom1", "dicom2"] {
            self.lab.real_server_for(archive, [10, 12, 1, 100].into());
        }
        for registry in ["xds1", "xds2"] {
            self.node(registry).ip(&["route replace default via 10.12.1.10"]);
        }
    }

    /// A host by its name, or by that of what serves there.
    pub(crate) fn node(&self, name: &str) -> &Node {
        let host = PLAIN.iter().find(|(server, ..)| *server == name).map(|(_, host, _)| *host);
        self.lab.node(host.unwrap_or(name))
    }

    /// Has the site do something, inside lb1.
    pub(crate) fn site<T: Send>(&self, story: impl AsyncFnOnce(&mut Site) -> T + Send) -> T {
        let mut site = self.site.lock();
        let site = &mut *site;
        self.node("lb1").enter(move || self.runtime.block_on(story(site)))
    }

    /// The command `gantry`, as the operator types it on the appliance.
    pub(crate) fn gantry(&self, arguments: &[&str]) -> Ran {
        self.site(async |site| site.gantry(arguments).await)
    }

    /// Types into the operator's shell on the appliance, in the folder [`OPERATOR`] of the site.
    pub(crate) fn shell(&self, text: &str) -> Ran {
        self.site(async |site| {
            let gantry = binary("gantry");
            let operator = site.operator();
            let [folder, identity] =
                [gantry.parent().unwrap(), &operator].map(|path| path.to_str().unwrap());
            let text = format!(
                "set -e\nexport PATH='{folder}':$PATH\nexport GANTRY_CONTROLLER={} \
                 GANTRY_IDENTITY='{identity}'\n{text}",
                site.url
            );
            let bash = program("bash", "bash");
            gantry_tests::process::run(&bash, ["-c", &text], &site.folder(OPERATOR)).await
        })
    }

    /// A folder that goes with the hospital.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.site.lock().folder(name)
    }

    /// A connection from ct1, from its address number `last`: 110 to 115.
    pub(crate) fn connect(&self, last: u8, to: &str) -> std::io::Result<Client> {
        let source = IpAddr::from([10, 12, 2, last]);
        Client::connect(self.node("ct1"), Some(source), to.parse::<SocketAddr>().unwrap())
    }

    /// Starts the DICOM servers: real ones, at 104 and at 11112.
    pub(crate) fn start_archives(&self) {
        let logs = self.folder("archives");
        let mut archives = self.archives.lock();
        for node in ["dicom1", "dicom2"] {
            for port in [104, 11112] {
                let process = self.archive(node, port, &logs);
                archives.push(Archive { node, port, process });
            }
        }
    }

    fn archive(&self, node: &'static str, port: u16, logs: &Path) -> Process {
        let (name, port) = (format!("{node}-{port}"), port.to_string());
        // Peers are logged by address.
        let arguments = ["-d", "-dhl", "--ignore", "-aet", node, &port];
        self.node(node).spawn(&name, &program("storescp", "dcmtk"), &arguments, logs)
    }

    /// Which DICOM server answers an echo of ct1 at this port of 10.12.1.100, if one does.
    pub(crate) fn echo(&self, port: u16) -> Option<&'static str> {
        let count = || -> Vec<usize> {
            let archives = self.archives.lock();
            archives.iter().map(|one| one.process.count("I: Received Echo Request")).collect()
        };
        let before = count();
        let echoscu = program("echoscu", "dcmtk");
        let port = port.to_string();
        let arguments = ["-to", "10", "-aec", "PACS", "10.12.1.100", &port];
        let ran = self.node("ct1").run(echoscu.to_str().unwrap(), &arguments);
        let after = count();
        let archives = self.archives.lock();
        let asked =
            archives.iter().zip(before.iter().zip(&after)).find(|(_, (old, new))| old < new);
        let (archive, _) = asked.filter(|_| ran.status.success())?;
        assert_eq!(archive.port.to_string(), port, "no port is translated");
        Some(archive.node)
    }

    /// Whether the DICOM server has seen this peer.
    pub(crate) fn has_seen(&self, node: &str, peer: &str) -> bool {
        let seen = format!("Association Received: {peer}");
        self.archives.lock().iter().any(|one| one.node == node && one.process.count(&seen) > 0)
    }

    /// Ends what serves under this name, without a warning.
    pub(crate) fn kill(&self, name: &str) {
        self.servers.lock().remove(name);
        let mut archives = self.archives.lock();
        archives.iter_mut().filter(|one| one.node == name).for_each(|one| one.process.kill());
    }

    /// Starts it again.
    pub(crate) fn start(&self, name: &str) {
        let plain = PLAIN.iter().find(|(server, ..)| *server == name);
        if let Some((name, host, ports)) = plain {
            self.servers.lock().insert(name, Server::tcp(self.node(host), name, ports));
        }
        let mut archives = self.archives.lock();
        archives
            .iter_mut()
            .filter(|one| one.node == name)
            .for_each(|one| one.process.start_again());
    }

    /// Waits until something is so.
    pub(crate) fn eventually<T: Send>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Option<T> + Send,
    ) -> T {
        self.node("lb1").enter(|| self.runtime.block_on(eventually(what, async || ask())))
    }

    /// Waits until `gantry overview` has, for each of these, a line with all the words.
    pub(crate) fn overview_shows(&self, lines: &[&[&str]]) {
        self.eventually(&format!("the overview shows {lines:?}"), || {
            let shown = self.gantry(&["overview"]).out;
            let has = |words: &&[&str]| {
                shown.lines().any(|line| words.iter().all(|word| line.contains(word)))
            };
            lines.iter().all(has).then_some(())
        });
    }
}

/// All of it but the appliance.
fn networks() -> LabBuilder {
    let mut lab = Lab::build()
        .network("servers")
        .network("modalities")
        .node("router", &[("servers", &["10.12.1.1/24"]), ("modalities", &["10.12.2.1/24"])])
        .forwards("router")
        .node("ct1", &[("modalities", &MODALITY)])
        .route("ct1", "default", "10.12.2.1");
    for (name, hosts) in SERVERS {
        let addresses: Vec<_> = hosts.iter().map(|host| format!("10.12.1.{host}/24")).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        lab = lab.node(name, &[("servers", &addresses)]).route(name, "default", "10.12.1.1");
    }
    lab
}
