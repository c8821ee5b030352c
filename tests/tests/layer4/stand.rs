//! A lab with a site in its node lb1, shared by the trials of one topology: each has virtual services of
//! its own, and takes them away when it is done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use gantry_proto::v1 as pb;
use gantry_tests::lab::{Client, Lab, Node, Server};
use gantry_tests::services::{by_source, check, connect_check, duration};
use gantry_tests::{Site, eventually};
use parking_lot::{Mutex, MutexGuard};
use pb::health_check::Probe;
use pb::layer4::Method;
use pb::virtual_service::Forwarding;
use tokio::runtime::Runtime;

/// See the head of this file.
pub(crate) struct Stand {
    pub(crate) lab: Lab,
    runtime: Runtime,
    site: Mutex<Site>,
    /// The network of virtual addresses: 77 or 78.
    net: u8,
    next: AtomicU8,
}

/// A virtual service of one trial. Dropped, it is deleted.
pub(crate) struct Service<'a> {
    stand: &'a Stand,
    pub(crate) id: String,
    pub(crate) vip: IpAddr,
    port: u16,
}

/// What a trial starts from: TCP at port 104, real servers that count as healthy.
pub(crate) fn layer4(method: Method) -> pb::VirtualService {
    let layer4 = pb::Layer4 { method: method.into(), ..Default::default() };
    pb::VirtualService {
        listener: Some(pb::Listener { ports: vec!["104".to_owned()], ..Default::default() }),
        forwarding: Some(Forwarding::Layer4(layer4)),
        health_check: Some(check(Probe::None(pb::health_check::None {}))),
        ..Default::default()
    }
}

/// The same with this changed in its layer 4 settings.
pub(crate) fn layer4_with(
    method: Method,
    edit: impl FnOnce(&mut pb::Layer4),
) -> pb::VirtualService {
    let mut service = layer4(method);
    if let Some(Forwarding::Layer4(layer4)) = &mut service.forwarding {
        edit(layer4);
    }
    service
}

pub(crate) fn on_ports(mut service: pb::VirtualService, ports: &[&str]) -> pb::VirtualService {
    let listener = service.listener.get_or_insert_default();
    listener.ports = ports.iter().map(|port| (*port).to_owned()).collect();
    service
}

pub(crate) fn over_udp(mut service: pb::VirtualService) -> pb::VirtualService {
    service.listener.get_or_insert_default().protocol = pb::listener::Protocol::Udp.into();
    service
}

pub(crate) fn persistent(service: pb::VirtualService) -> pb::VirtualService {
    pb::VirtualService { persistence: by_source(), ..service }
}

/// Five checks a second, and connections to a failed server go on for `grace`.
pub(crate) fn checked(mut service: pb::VirtualService, grace: Duration) -> pb::VirtualService {
    service.health_check = Some(connect_check());
    if let Some(Forwarding::Layer4(layer4)) = &mut service.forwarding {
        layer4.failure_grace = Some(duration(grace));
    }
    service
}

/// A real server of the lab at its own address, of the family of `vip`, at the service's port.
pub(crate) fn real(name: &str, vip: IpAddr) -> pb::RealServer {
    let number = name.trim_start_matches("rs");
    let address =
        if vip.is_ipv4() { format!("10.77.0.2{number}") } else { format!("fd77::2{number}") };
    let endpoint = Some(pb::Endpoint { address, port: 0 });
    pb::RealServer { name: name.to_owned(), endpoint, ..Default::default() }
}

impl Stand {
    /// Everything on one network.
    pub(crate) fn one_arm() -> &'static Self {
        static STAND: OnceLock<Stand> = OnceLock::new();
        STAND.get_or_init(|| Self::new(Lab::one_arm(), 77))
    }

    /// Clients in front, real servers behind.
    pub(crate) fn two_arm() -> &'static Self {
        static STAND: OnceLock<Stand> = OnceLock::new();
        STAND.get_or_init(|| Self::new(Lab::two_arm(), 78))
    }

    fn new(lab: Lab, net: u8) -> Self {
        let lb1 = lab.node("lb1");
        let runtime = lb1.runtime();
        let site = Mutex::new(lb1.enter(|| runtime.block_on(Site::layer4())));
        Self { lab, runtime, site, net, next: AtomicU8::new(100) }
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        self.lab.node(name)
    }

    /// Has the site do something, inside lb1.
    pub(crate) fn site<T: Send>(&self, story: impl AsyncFnOnce(&mut Site) -> T + Send) -> T {
        let mut site: MutexGuard<'_, Site> = self.site.lock();
        let site = &mut *site;
        self.node("lb1").enter(move || self.runtime.block_on(story(site)))
    }

    /// A virtual address that nobody has had.
    pub(crate) fn vip(&self) -> IpAddr {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::new(10, self.net, 0, host).into()
    }

    pub(crate) fn vip6(&self) -> IpAddr {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        format!("fd{}::{host}", self.net).parse().unwrap()
    }

    /// Creates a service at `vip` and waits until it is in force.
    pub(crate) fn serve(
        &self,
        vip: IpAddr,
        service: pb::VirtualService,
        servers: Vec<pb::RealServer>,
    ) -> Service<'_> {
        let made = self.create(vip, service, servers);
        let id = made.id.clone();
        self.site(async move |site| site.up(&id).await);
        made
    }

    /// The same, whatever becomes of it.
    pub(crate) fn create(
        &self,
        vip: IpAddr,
        mut service: pb::VirtualService,
        servers: Vec<pb::RealServer>,
    ) -> Service<'_> {
        let listener = service.listener.get_or_insert_default();
        listener.address = vip.to_string();
        let port = listener.ports[0].split('-').next().unwrap().parse().unwrap();
        let id = format!("s{}", vip.to_string().replace(['.', ':'], "-").replace("--", "-"));
        let named = id.clone();
        self.site(async move |site| {
            site.create(&named, service, servers).await;
            site.settled(&named).await;
        });
        Service { stand: self, id, vip, port }
    }

    /// A client on c1.
    pub(crate) fn connect(&self, to: SocketAddr) -> std::io::Result<Client> {
        Client::connect(self.node("c1"), None, to)
    }

    /// A client on c1 that comes from its address number `last`: 201 to 209.
    pub(crate) fn connect_from(&self, last: u8, to: SocketAddr) -> std::io::Result<Client> {
        let source = match to {
            SocketAddr::V4(_) => Ipv4Addr::new(10, self.net, 0, last).into(),
            SocketAddr::V6(_) => format!("fd{}::{last}", self.net).parse().unwrap(),
        };
        Client::connect(self.node("c1"), Some(source), to)
    }

    /// TCP servers on rs1 and so on, at these ports.
    pub(crate) fn servers<const N: usize>(
        &self,
        names: [&'static str; N],
        ports: &[u16],
    ) -> [Server; N] {
        names.map(|name| Server::tcp(self.node(name), name, ports))
    }

    /// Real servers that accept traffic for `vip` as direct routing needs it.
    pub(crate) fn direct<const N: usize>(
        &self,
        names: [&'static str; N],
        vip: IpAddr,
    ) -> Vec<pb::RealServer> {
        let ready = |name: &&str| {
            self.lab.real_server_for(name, vip);
            real(name, vip)
        };
        names.iter().map(ready).collect()
    }

    /// What `ipvsadm` shows in lb1.
    pub(crate) fn ipvsadm(&self, arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        self.node("lb1").run("ipvsadm", &arguments).output()
    }

    /// Asks the site for what an agent has to be asked for. On an emulated machine it may be too busy to
    /// answer in time; then it is asked again.
    pub(crate) fn ask<T: Send>(
        &self,
        what: &str,
        mut ask: impl AsyncFnMut(&mut Site) -> Result<T, tonic::Status> + Send,
    ) -> Result<T, tonic::Status> {
        self.site(async |site| {
            eventually(what, async || match ask(site).await {
                Err(status) if status.code() == tonic::Code::DeadlineExceeded => None,
                answer => Some(answer),
            })
            .await
        })
    }

    /// Waits until something is so in lb1.
    pub(crate) fn eventually<T: Send>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Option<T> + Send,
    ) -> T {
        self.node("lb1").enter(|| self.runtime.block_on(eventually(what, async || ask())))
    }
}

impl Service<'_> {
    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::new(self.vip, self.port)
    }

    pub(crate) fn at_port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip, port)
    }

    pub(crate) fn status(&self) -> pb::VirtualServiceStatus {
        let id = self.id.clone();
        self.stand.site(async move |site| site.status(&id).await)
    }

    pub(crate) fn server_status(&self, server: &str) -> pb::RealServerStatus {
        let (id, server) = (self.id.clone(), server.to_owned());
        self.stand.site(async move |site| site.server_status(&id, &server).await)
    }

    /// Changes fields of the service, named as in the API, and waits until that is in force.
    pub(crate) fn update(&self, mask: &[&str], edit: impl FnOnce(&mut pb::VirtualService) + Send) {
        let (id, paths) = (self.id.clone(), mask.iter().map(|path| (*path).to_owned()).collect());
        self.stand.site(async move |site| {
            let mut service = site.service(&id).await;
            edit(&mut service);
            service.etag.clear();
            let request = pb::UpdateVirtualServiceRequest {
                virtual_service: Some(service),
                update_mask: Some(prost_types::FieldMask { paths }),
                ..Default::default()
            };
            site.balancer().update_virtual_service(request).await.unwrap();
            site.settled(&id).await;
        });
    }

    /// Waits until the kernel shows this of the service: a line of `ipvsadm -Ln` with all the words.
    pub(crate) fn shows(&self, words: &[&str]) {
        let what = format!("ipvsadm shows {words:?}");
        self.stand.eventually(&what, || {
            let listed = self.stand.ipvsadm("-Ln");
            let found = listed.lines().any(|line| words.iter().all(|word| line.contains(word)));
            found.then_some(())
        });
    }

    /// The rejection that the service is shown with, once it is.
    pub(crate) fn rejected(&self) -> pb::Rejection {
        let what = format!("{} is rejected", self.id);
        self.stand.eventually(&what, || self.status().rejections.into_iter().next())
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // A trial that failed has left who knows what: the site may not even answer.
        if std::thread::panicking() {
            return;
        }
        let name = gantry_tests::site::service_name(&self.id);
        self.stand.site(async move |site| {
            let request = pb::DeleteVirtualServiceRequest { name, ..Default::default() };
            site.balancer().delete_virtual_service(request).await.unwrap();
            site.agents_report().await;
        });
    }
}
