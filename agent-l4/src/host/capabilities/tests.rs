use super::*;

#[test]
fn what_is_lacking_is_named() {
    let (admin, raw) = (CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW);
    for (effective, name) in [
        (admin | raw, None),
        (CapabilitySet::all(), None),
        (admin | CapabilitySet::SYS_ADMIN, Some("CAP_NET_RAW")),
        (raw, Some("CAP_NET_ADMIN")),
        (CapabilitySet::empty(), Some("CAP_NET_ADMIN")),
    ] {
        assert_eq!(lacking(effective), name);
    }
}
