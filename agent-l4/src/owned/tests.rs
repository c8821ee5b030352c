use super::*;

fn address(interface: &str) -> Thing {
    let (address, interface) = ("10.12.1.100".parse().unwrap(), interface.to_owned());
    Thing::Address { address, interface }
}

fn things() -> Vec<(Thing, String)> {
    let by_address = |protocol, address: &str| {
        Thing::Ipvs(ServiceKey::Address { protocol, address: address.parse().unwrap(), port: 104 })
    };
    let by_mark = |family| Thing::Ipvs(ServiceKey::Mark { family, mark: 0x4700_0001 });
    let all = [
        by_address(Protocol::Tcp, "10.12.1.100"),
        by_address(Protocol::Udp, "10.12.1.100"),
        by_address(Protocol::Tcp, "fd12::100"),
        by_mark(Family::V4),
        by_mark(Family::V6),
        address("eth0"),
    ];
    all.into_iter().map(|thing| (thing, "dicom".to_owned())).collect()
}

#[test]
fn what_is_owned_is_known_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut owned = Owned::open(state.path()).unwrap();
    owned.add(things()).unwrap();
    owned.remove(vec![address("eth0"), address("eth1")]).unwrap();
    let expected: BTreeMap<_, _> =
        things().into_iter().filter(|(thing, _)| *thing != address("eth0")).collect();
    assert_eq!(*owned.things(), expected);
    assert_eq!(*Owned::open(state.path()).unwrap().things(), expected);
}

#[test]
fn a_line_that_was_cut_short_costs_no_other() {
    let state = tempfile::tempdir().unwrap();
    Owned::open(state.path()).unwrap().add(things()).unwrap();
    let path = state.path().join("owned.jsonl");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let mut owned = Owned::open(state.path()).unwrap();
    assert_eq!(owned.things().len(), things().len() - 1);
    owned.add(vec![(address("eth1"), "hl7".to_owned())]).unwrap();
    let again = Owned::open(state.path()).unwrap();
    assert!(again.has(&address("eth1")) && !again.has(&address("eth0")));
}

#[test]
fn a_file_with_much_that_is_over_is_written_anew() {
    let state = tempfile::tempdir().unwrap();
    let mut owned = Owned::open(state.path()).unwrap();
    owned.add(things()).unwrap();
    for _ in 0..SURPLUS {
        owned.add(vec![(address("eth7"), "x".to_owned())]).unwrap();
        owned.remove(vec![address("eth7")]).unwrap();
    }
    let path = state.path().join("owned.jsonl");
    let before = fs::metadata(&path).unwrap().len();
    let again = Owned::open(state.path()).unwrap();
    assert_eq!(again.things(), owned.things());
    assert!(fs::metadata(&path).unwrap().len() < before / 100);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Owned::open(&file).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
}
