use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use gantry_model::check::HealthCheck;
use gantry_model::port::{Port, PortSet};
use gantry_model::service::{
    Algorithm, Forwarding, Layer7, Listener, Protocol, Strategy, VirtualService,
};

use super::*;
use crate::service::Routing;

fn service(mailbox: &Arc<Mailbox>) -> Arc<Service> {
    let layer7 = Layer7 { algorithm: Algorithm::WeightedRoundRobin, ..Layer7::plain() };
    let config = VirtualService {
        name: "clusters/main/virtualServices/pacs".parse().unwrap(),
        label: String::new(),
        listener: Listener {
            address: "127.0.0.1".parse().unwrap(),
            ports: PortSet::new(vec![Port::new(104).unwrap().into()]).unwrap(),
            protocol: Protocol::Tcp,
            interface: None,
        },
        forwarding: Forwarding::Layer7(Box::new(layer7.clone())),
        strategy: Strategy::Balance,
        persistence: None,
        check: HealthCheck::connect(),
        fallback: None,
        disabled: false,
    };
    let routing = Routing::new(&layer7, &config, Vec::new(), None);
    Arc::new(Service::new(config.name, 0, routing, [Arc::clone(mailbox)].into()))
}

#[test]
fn a_panic_ends_its_connection_only() {
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let mut worker = Worker::new(0, Arc::clone(&mailbox), Arc::new(Mailbox::of_tasks())).unwrap();
    let service = service(&mailbox);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut connect = || {
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (client, peer) = listener.accept().unwrap();
        let listening = Listening {
            id: ListenerId(0),
            socket: Arc::new(listener.try_clone().unwrap().into()),
            service: Arc::clone(&service),
            port: Port::new(104).unwrap(),
        };
        let key = worker.connections.next_key();
        let connection = Connection::new(&listening, key, client.into(), peer, clock::monotonic());
        worker.members.insert((service.serial, key));
        (near, worker.connections.insert(Box::new(connection)))
    };
    let ((_doomed, first), (_near, second)) = (connect(), connect());
    worker.attend(first, |_, _| panic!("on purpose"));
    assert!(worker.connections.get_mut(first).is_none());
    assert!(worker.connections.get_mut(second).is_some());
    assert_eq!(worker.members.len(), 1);
    assert_eq!((service.counts.panics.get(), service.counts.active.get()), (1, 1));
}

#[test]
fn an_idle_connection_weighs_little() {
    let kept = size_of::<Connection>() + connection::RELAYING;
    assert!(kept <= 392, "{kept} bytes");
}
