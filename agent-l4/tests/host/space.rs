//! Network namespaces that are gone when their test is.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use gantry_agent_l4::host::route::{Interface, Route};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace.
pub(crate) struct Space(File);

/// Two namespaces and a cable between them.
pub(crate) struct Pair {
    pub(crate) near: Space,
    pub(crate) far: Space,
}

pub(crate) const NEAR: &str = "near";
pub(crate) const FAR: &str = "far";

impl Space {
    pub(crate) fn new() -> Self {
        // The namespace lives as long as somebody is in it or has it open.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && read done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux is needed");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "no network namespace can be made: run these tests as root");
        let space = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
        drop(holder.stdin.take());
        holder.wait().unwrap();
        Self(space)
    }

    /// Does something in the namespace.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Where `ip` finds it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

impl Pair {
    /// `near` has 10.12.1.1/24 and fd12::1/64, `far` 10.12.1.2/24 and fd12::2/64.
    pub(crate) fn new() -> Self {
        let (near, far) = (Space::new(), Space::new());
        let cable = format!("link add {NEAR} type veth peer name {FAR} netns {}", far.path());
        near.enter(|| ip(&cable));
        for (space, name, number) in [(&near, NEAR, 1), (&far, FAR, 2)] {
            space.enter(|| {
                ip(&format!("address add 10.12.1.{number}/24 dev {name}"));
                ip(&format!("address add fd12::{number}/64 dev {name} nodad"));
                ip(&format!("link set {name} up"));
            });
        }
        for (space, name, own) in [(&near, NEAR, "fd12::1"), (&far, FAR, "fd12::2")] {
            space.enter(|| {
                eventually("a carrier", || interface(name).running.then_some(()));
                local(own);
            });
        }
        Self { near, far }
    }
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) -> String {
    run("ip", &words.split(' ').collect::<Vec<_>>())
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// An interface of this namespace.
pub(crate) fn interface(name: &str) -> Interface {
    let interfaces = Route::open().unwrap().interfaces().unwrap();
    interfaces.into_iter().find(|interface| interface.name == name).expect(name)
}

/// Waits until this namespace takes packets to `address`.
pub(crate) fn local(address: &str) {
    let (address, mut route) = (address.parse().unwrap(), Route::open().unwrap());
    eventually("an address", || route.is_local(address).unwrap().then_some(()));
}

/// What `look` finds, within a few seconds.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {what}");
}
