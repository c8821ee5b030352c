use std::fs;
use std::process::Command;
use std::thread;

use gantry_agent_l4::host::capabilities::{CapabilityError, check, keep_for_children};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_uid,
};

/// Somebody without any right.
const NOBODY: u32 = 65534;

/// Leaves this thread with these capabilities and no root.
fn become_nobody_with(kept: CapabilitySet) {
    set_keep_capabilities(true).unwrap();
    set_thread_uid(rustix::process::Uid::from_raw(NOBODY)).expect("run these tests as root");
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
        .unwrap();
}

/// The effective capabilities of a program that this thread starts.
fn of_a_child() -> CapabilitySet {
    let output = Command::new("cat").arg("/proc/self/status").output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    CapabilitySet::from_bits_retain(u64::from_str_radix(line.trim(), 16).unwrap())
}

#[test]
fn children_of_somebody_else_than_root_may_change_the_network() {
    let nobody = || {
        become_nobody_with(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
        check().unwrap();
        assert_eq!(of_a_child(), CapabilitySet::empty());
        keep_for_children().unwrap();
        assert_eq!(of_a_child(), CapabilitySet::NET_ADMIN);
    };
    thread::spawn(nobody).join().unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains("Uid:\t0"), "only that thread has changed");
}

#[test]
fn what_is_lacking_is_told() {
    let nobody = || {
        become_nobody_with(CapabilitySet::NET_RAW);
        assert!(matches!(check(), Err(CapabilityError::Lacking("CAP_NET_ADMIN"))));
        assert!(matches!(keep_for_children(), Err(CapabilityError::PassOn(_))));
    };
    thread::spawn(nobody).join().unwrap();
}
